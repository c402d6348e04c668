"""Episodes drawn from labelled data: some classes are known, others wait to be discovered."""

import hashlib
import warnings
from collections.abc import Sequence

import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data import pixels, views
from emoc_tf.data.images import ImageData, read_only
from emoc_tf.data.whole import Whole
from emoc_tf.exploration import trouble
from emoc_tf.exploration.answers import SKIP
from emoc_tf.exploration.episode import Episode, prepare
from emoc_tf.exploration.task import Task

# Small classes that a warning names.
MOST_TOLD = 10


def eligible_classes(config: ExplorationConfig, train: ImageData, test: ImageData) -> np.ndarray:
    """Returns the ids of classes that can be drawn, ascending: with images in both parts.

    Raises:
        ValueError: Training and test part do not fit each other, or there are too few classes.
    """
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"data: expected training and test images of one shape, got "
            f"{train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    if train.images.dtype.kind != test.images.dtype.kind:
        raise ValueError(
            f"data: expected training and test images both uint8 or both floating, got "
            f"{train.images.dtype} and {test.images.dtype}"
        )
    if train.class_names != test.class_names:
        raise ValueError("data: expected the same class_names in training and test part")
    wanted, ids = config.known_classes + config.novel_classes, config.class_ids
    if ids is not None and max(ids) >= len(train.class_names):
        raise ValueError(
            f"classes: expected class ids in [0, {len(train.class_names)}), the classes of the "
            f"data, got {config.classes}"
        )
    if wanted > len(train.class_names):
        raise ValueError(
            f"known_classes + novel_classes: expected at most {len(train.class_names)}, the "
            f"classes of the data, got {wanted}"
        )
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    tested = np.bincount(test.labels, minlength=len(train.class_names)) > 0
    if ids is not None:
        tested &= np.isin(np.arange(len(tested)), sorted(ids))
    every = np.flatnonzero(tested & (counts > 0))
    if len(every) < wanted:
        raise ValueError(
            f"known_classes + novel_classes: expected at most {len(every)}, the classes with a "
            f"training and a test image, got {wanted}"
        )
    return every


def warn_of_small_classes(config: ExplorationConfig, train: ImageData, every: np.ndarray) -> None:
    """Warns of classes with fewer images than asked for, with their numbers."""
    needed = config.initial_per_class + (config.pool_per_class or 0)
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    small = [class_id for class_id in every if counts[class_id] < needed]
    if small:
        told = [f"{train.class_names[c]} {counts[c]}" for c in small[:MOST_TOLD]]
        more = f" and {len(small) - MOST_TOLD} more" if len(small) > MOST_TOLD else ""
        warnings.warn(
            f"data: {len(small)} of {len(every)} classes have fewer training images than "
            f"initial_per_class + pool_per_class, {needed}, and give what they have: "
            f"{', '.join(told)}{more}",
            stacklevel=3,
        )


def check_data(data: tuple[ImageData, ImageData]) -> tuple[ImageData, ImageData]:
    """Returns training and test part; raises `ValueError` unless they are two `ImageData`."""
    parts = data if isinstance(data, tuple | list) else (data,)
    if len(parts) != 2 or not all(isinstance(part, ImageData) for part in parts):
        raise ValueError(
            f"data: expected (training, test) as two ImageData, got "
            f"{[type(part).__name__ for part in parts]}"
        )
    train, test = parts
    return train, test


def check_known_ids(
    model_classes: Sequence[int] | None,
    has_model: bool,
    config: ExplorationConfig,
    every: np.ndarray,
) -> tuple[int, ...] | None:
    """Returns the class ids of a handed-in model's outputs, or None if none are given.

    Args:
        model_classes: As given.
        has_model: Whether there is such a model.
        config: The settings.
        every: Class ids that can be drawn.

    Raises:
        ValueError: There is no such model, or they are not `config.known_classes` different ids of
            classes with images.
    """
    if model_classes is None:
        return None
    classes = tuple(int(class_id) for class_id in model_classes)
    if not has_model or len(set(classes)) != len(classes) or len(classes) != config.known_classes:
        raise ValueError(
            f"model_classes: expected {config.known_classes} different class ids, one for each "
            f"output of a model handed in, got {classes}"
        )
    if not np.isin(classes, every).all():
        raise ValueError(
            f"model_classes: expected classes with images, {every.tolist()}, got {classes}"
        )
    return classes


def draw_episode(
    config: ExplorationConfig,
    train: ImageData,
    test: ImageData,
    root: int,
    known_ids: tuple[int, ...] | None = None,
    as_they_are: bool = False,
    factor: float | None = None,
    wholes: tuple[Whole, Whole] | None = None,
    plain_pixels: bool = False,
) -> Episode:
    """Draws classes and images of labelled data: a task whose answers are hidden.

    A class with fewer images than asked for gives what it has.

    Args:
        config: How many classes and images.
        train: Where initial and pool images come from.
        test: Where the test images come from.
        root: The episode's root.
        known_ids: Class ids known at the start; None draws them.
        as_they_are: Whether the model takes images as they are in the data, as float32.
        factor: See `pixels.factor_to_pixels`; None finds it.
        wholes: Training and test images, where what is computed of them is kept for all episodes.
        plain_pixels: Whether the model takes pixels 0–255 without the mean image subtracted.

    Raises:
        ValueError: There are too few classes, or too few images for a set, the range of the pixels
            is not plain, or the images were written over.
    """
    train.check_unchanged()
    test.check_unchanged()
    every = eligible_classes(config, train, test)
    wanted = config.known_classes + config.novel_classes
    given = np.array(known_ids or (), np.int64)
    rng = streams.generator(root, 0, "classes")
    drawn = rng.choice(np.setdiff1d(every, given), wanted - len(given), replace=False)
    classes = np.concatenate([given, drawn])
    rng = streams.generator(root, 0, "images")
    initial, waiting = [], []
    for position, class_id in enumerate(classes):
        members = rng.permutation(np.flatnonzero(train.labels == class_id))
        pool = len(members) if config.pool_per_class is None else config.pool_per_class
        start = min(config.initial_per_class, len(members))
        if position < config.known_classes:
            initial.append(members[:start])
        else:
            start = min(start, max(0, len(members) - pool))
        waiting.append(members[start : start + pool])
    waiting = trouble.uneven(config, root, waiting)
    _check_a_set(config, sum(map(len, waiting)))
    first = np.concatenate(initial)
    # Mixed, so that a pool index tells nothing about the class.
    chosen = np.concatenate([first, rng.permutation(np.concatenate(waiting))])
    tested = np.isin(test.labels, classes)
    true_labels, names = train.labels[chosen], distinct(train.class_names)
    labels = np.where(np.arange(len(chosen)) < len(first), true_labels, SKIP)
    task = Task(views.read(train.images, chosen), labels, names)
    raw_tested = views.read(test.images, np.flatnonzero(tested))
    test_labels = test.labels[tested]
    mean, found = None, None
    if not as_they_are:
        found = factor or pixels.factor_to_pixels(train.images, test.images)
        if plain_pixels:
            mean = pixels.black(found, train.images.shape[1:])
            found = None if mean is None else found
        else:
            mean = views.read(train.images, first).mean(axis=0, dtype=np.float64)
    if wholes is None:
        images, test_images = (prepare(raw, mean, found) for raw in (task.images, raw_tested))
    else:
        images, test_images = (
            whole.part(rows)
            for whole, rows in zip(wholes, (chosen, np.flatnonzero(tested)), strict=True)
        )
    return Episode(
        task=task,
        classes=tuple(int(class_id) for class_id in classes),
        num_known=config.known_classes,
        images=images,
        test_images=test_images,
        test_labels=read_only(test_labels),
        test_names=names,
        true_labels=read_only(true_labels),
        mean=mean,
        digest=_digest(task.images, true_labels, raw_tested, test_labels),
        factor=found,
        source=train.images if train.paths is None else train,
        source_indices=read_only(chosen),
    )


def _check_a_set(config: ExplorationConfig, waiting: int) -> None:
    """Raises `ValueError` where not one set could be formed: an episode that is over at once.

    Sets of one class, and those that a policy wants most, may have fewer than K images.
    """
    left = waiting - config.audit
    if config.sampler in ("uniform", "cluster", "minibatch-cluster") and left < config.set_size:
        uneven = f" with imbalance={config.imbalance:g}" if config.imbalance > 1 else ""
        raise ValueError(
            f"set_size: expected at most {max(left, 0)}, the images that wait{uneven} and are not "
            f"audited, got {config.set_size}; take a smaller set_size or more pool_per_class"
        )


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of which each is there once: a second one of a name gets its class id."""
    found: dict[str, int] = {}
    for class_id, name in enumerate(names):
        while name in found or not name.strip():  # an earlier one may be called so already
            name = f"{name} ({class_id})"
        found[name] = class_id
    return tuple(found)
