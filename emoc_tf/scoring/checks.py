"""What all scorers check of their arguments."""

import contextlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

OUTPUTS = ("logits", "softmax")
LABEL_MODES = ("set", "image", "expected", "joint")
# What the product of explicit gradients is computed in; TensorFloat-32 exists on GPUs only.
PRECISIONS = ("float32", "tf32", "bfloat16")
METHODS = ("exact", "sketch")
MEMORY_BUDGET = 2 << 30


def check_output(output: str) -> None:
    """Raises `ValueError` unless `output` is `"logits"` or `"softmax"`."""
    if output not in OUTPUTS:
        raise ValueError(f"output: expected one of {list(OUTPUTS)}, got {output!r}")


def check_regularizer(regularizer: bool) -> bool:
    """Returns whether ω takes part; raises `ValueError` unless that is True or False."""
    if not isinstance(regularizer, bool | np.bool_):
        raise ValueError(f"regularizer: expected True or False, got {regularizer!r}")
    return bool(regularizer)


def check_precision(precision: str) -> None:
    """Raises `ValueError` unless `precision` is one of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision: expected one of {list(PRECISIONS)}, got {precision!r}")


def check_method(method: str, sketch_size: int | None = None) -> None:
    """Raises `ValueError` unless `method` is one of `METHODS`, and a size one of its sketches."""
    if method not in METHODS:
        raise ValueError(f"method: expected one of {list(METHODS)}, got {method!r}")
    if sketch_size is None:
        return
    if not is_integer(sketch_size) or sketch_size < 1:
        raise ValueError(
            f"sketch_size: expected None or how many numbers a pair may have, an integer above 0, "
            f"got {sketch_size!r}"
        )
    if method != "sketch":
        raise ValueError(
            f"sketch_size: expected None with method={method!r}, got {sketch_size}; it is the size "
            f"of method='sketch'"
        )


def check_seed(seed: int) -> int:
    """Returns a seed; raises `ValueError` unless it is an integer of at least 0."""
    if not is_integer(seed) or seed < 0:
        raise ValueError(f"seed: expected an integer of at least 0, got {seed!r}")
    return int(seed)


def check_settings(
    output: str,
    regularizer: bool,
    precision: str,
    memory_budget: int,
    method: str,
    sketch_size: int | None,
    seed: int,
) -> None:
    """Raises `ValueError` unless all settings of an `EMOCScorer` are in range."""
    check_output(output)
    check_regularizer(regularizer)
    check_precision(precision)
    check_memory_budget(memory_budget)
    check_method(method, sketch_size)
    check_seed(seed)


def check_memory_budget(memory_budget: int) -> int:
    """Returns a number of bytes; raises `ValueError` unless it is an integer above 0."""
    if not is_integer(memory_budget) or memory_budget < 1:
        raise ValueError(
            f"memory_budget: expected a number of bytes above 0, an integer, got {memory_budget!r}"
        )
    return int(memory_budget)


def check_confidence(confidence: float | None) -> float | None:
    """Returns None or a probability; raises `ValueError` unless it is a number in (0, 1)."""
    if confidence is None:
        return None
    if not isinstance(confidence, float | np.floating) or not 0 < confidence < 1:
        raise ValueError(f"confidence: expected None or a number in (0, 1), got {confidence!r}")
    return float(confidence)


def is_number(value: object) -> bool:
    """Whether a value is a real number, which True and False are not."""
    number = int | float | np.integer | np.floating
    return isinstance(value, number) and not isinstance(value, bool)


def is_integer(value: object) -> bool:
    """Whether a value is an integer of Python or NumPy, and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_label_mode(labels: str | np.ndarray, num_sets: int) -> None:
    """Raises `ValueError` if `labels` is text but none of `LABEL_MODES`."""
    if isinstance(labels, str) and labels not in LABEL_MODES:
        raise ValueError(
            f"labels: expected one of {list(LABEL_MODES)} or {num_sets} integers, got {labels!r}"
        )


@contextlib.contextmanager
def refusals(name: str) -> Iterator[None]:
    """Turns a model's own error, such as a word that its embedding lacks, into a ValueError."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        # Call stack first, then the reason, then the operation behind a tab.
        lines = [line for line in error.message.splitlines() if line and line[0] not in " \t"]
        raise ValueError(f"{name}: the model refuses them: {lines[-1]}") from error


def check_logits(logits: np.ndarray, name: str) -> None:
    """Raises a ValueError unless (n, C) outputs of a model are finite."""
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        bad = int(np.argmin(finite))
        raise ValueError(f"{name}: expected finite model outputs, got {logits[bad]} at {bad}")


def check_labels(labels: np.ndarray, count: int, num_classes: int) -> np.ndarray:
    """Returns labels as (count,) int64 columns of the model's output.

    Raises:
        ValueError: Another shape or dtype, or a label outside [0, num_classes).
    """
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected ({count},) integers, got {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"labels: expected columns in [0, {num_classes}), got values in "
            f"[{labels.min()}, {labels.max()}]"
        )
    return labels.astype(np.int64)


def check_sets(sets: np.ndarray, num_images: int) -> np.ndarray:
    """Returns sets as (M, K) int64 with −1 as padding.

    Raises:
        ValueError: Another shape or dtype, or an index outside [−1, num_images).
    """
    sets = np.asarray(sets)
    if sets.ndim != 2 or 0 in sets.shape or sets.dtype.kind not in "iu":
        raise ValueError(
            f"sets: expected a non-empty (M, K) array of integers, got {sets.dtype} of shape "
            f"{sets.shape}"
        )
    if sets.min() < -1 or sets.max() >= num_images:
        raise ValueError(
            f"sets: expected indices in [0, {num_images}) or -1 as padding, got values in "
            f"[{sets.min()}, {sets.max()}]"
        )
    return sets.astype(np.int64)


def check_set_weights(set_weights: np.ndarray | None, num_sets: int) -> np.ndarray:
    """Returns (num_sets,) float64 weights; ones for None.

    Raises:
        ValueError: Another shape, or anything but finite numbers of at least 0.
    """
    if set_weights is None:
        return np.ones(num_sets)
    given = np.asarray(set_weights)
    shaped = given.shape == (num_sets,) and given.dtype.kind in "fiub"
    if not shaped or not (np.isfinite(given).all() and (given >= 0).all()):
        raise ValueError(
            f"set_weights: expected ({num_sets},) finite numbers of at least 0, one a set, got "
            f"{set_weights!r}"
        )
    return given.astype(np.float64)


def check_unseen(unseen: np.ndarray | None, num_sets: int) -> np.ndarray | None:
    """Returns (num_sets,) float64 probabilities, or None.

    Raises:
        ValueError: Another shape, or anything but numbers in [0, 1].
    """
    if unseen is None:
        return None
    given = np.asarray(unseen)
    shaped = given.shape == (num_sets,) and given.dtype.kind in "fiub"
    if not shaped or not ((given >= 0) & (given <= 1)).all():
        raise ValueError(
            f"unseen: expected ({num_sets},) numbers in [0, 1], one a set, got {unseen!r}"
        )
    return given.astype(np.float64)


def check_set_settings(
    labels: str | np.ndarray,
    set_weights: np.ndarray | None,
    unseen: np.ndarray | None,
    num_sets: int,
    num_classes: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the weights and the probabilities of sets; see the checks of each."""
    check_label_mode(labels, num_sets)
    if not isinstance(labels, str):
        check_labels(labels, num_sets, num_classes)
    return check_set_weights(set_weights, num_sets), check_unseen(unseen, num_sets)


def check_offsets(offsets: np.ndarray | None, num_sets: int) -> np.ndarray | None:
    """Returns (num_sets,) float64 numbers, or None.

    Raises:
        ValueError: Another shape, or anything but finite numbers.
    """
    if offsets is None:
        return None
    given = np.asarray(offsets)
    if given.shape != (num_sets,) or given.dtype.kind not in "fiub" or not np.isfinite(given).all():
        raise ValueError(
            f"offsets: expected ({num_sets},) finite numbers, one a set, got {offsets!r}"
        )
    return given.astype(np.float64)
