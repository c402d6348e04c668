"""Exact EMOC scores in batches, from per-layer gradient factors."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from emoc_tf.networks import check_model, compile_forward, in_batches
from emoc_tf.scoring.changes import OutputChanges
from emoc_tf.scoring.labels import (
    check_images,
    check_label_mode,
    check_labels,
    check_output,
    check_regularizer,
    check_sets,
    most_likely_set_labels,
    sum_over_sets,
)
from emoc_tf.scoring.pairs import PairScores

# What the product of explicit gradients is computed in; TensorFloat-32 exists on GPUs only.
PRECISIONS = ("float32", "tf32", "bfloat16")
MEMORY_BUDGET = 2 << 30


class EMOCScorer:
    """Scores candidates by their expected model output change.

    The score of x' under label y' is s(x',y') = (1/N) Σ_x ‖J(x) g(x',y')‖₁ (Eq. 4), with J the
    Jacobian of the output f and g the gradient of cross-entropy plus ω. See `scoring.reference`
    for the same functions written out literally.

    Args:
        model: A functional or Sequential `keras.Model` with one input that ends in a linear Dense
            layer with C units. It is scored as it is at each call, in inference mode, and never
            changed.
        output: What f is: `"logits"`, or `"softmax"` of the logits. The loss is the same.
        regularizer: Whether ∇ω, the gradient of the sum of `model.losses`, is part of g.
        precision: Of the product of explicit gradients, in which nearly all time goes:
            `"float32"` (float64 for a model in float64); `"bfloat16"`, about twice as fast where
            the processor has it, scores within 1e-3; `"tf32"`, TensorFloat-32 on GPUs that have
            it. All else is computed in the model's precision.
        memory_budget: Bytes that gradients may take, whatever N, n and C are; other budgets sum
            in another order and give other last digits.

    Raises:
        ValueError: The model is of another kind, or another argument is out of range.
    """

    def __init__(
        self,
        model: keras.Model,
        output: str = "logits",
        regularizer: bool = True,
        precision: str = "float32",
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        check_output(output)
        check_regularizer(regularizer)
        if precision not in PRECISIONS:
            raise ValueError(f"precision: expected one of {list(PRECISIONS)}, got {precision!r}")
        if type(memory_budget) is not int or memory_budget < 1:
            raise ValueError(
                f"memory_budget: expected a number of bytes above 0, got {memory_budget!r}"
            )
        self.model = model
        self._num_classes = model.output_shape[-1]
        self._precision = precision
        self._memory_budget = memory_budget
        dtype = tf.as_dtype(check_model(model).compute_dtype)
        dtype = tf.bfloat16 if precision == "bfloat16" else dtype
        self._changes = OutputChanges(model, output, regularizer, dtype)
        self._predict = compile_forward(model)

    def scores(
        self,
        reference: np.ndarray,
        candidates: np.ndarray,
        labels: np.ndarray | None = None,
    ) -> np.ndarray:
        """Returns the score of each candidate under one label (Eq. 4).

        Args:
            reference: (N, ...) images x, N > 0.
            candidates: (n, ...) images x', n > 0.
            labels: (n,) columns of the output; None means each candidate's most likely one.

        Returns:
            (n,) float64 scores, at least 0.

        Raises:
            ValueError: An input of the wrong shape, a label out of range, or an output that is
                not finite.
        """
        reference = self._check_images(reference, "reference")
        candidates = self._check_images(candidates, "candidates")
        logits = self._logits(candidates, "candidates")
        if labels is None:
            labels = logits.argmax(axis=1)
        labels = check_labels(labels, *logits.shape)
        return self._pair_scores(reference, candidates, np.arange(len(candidates)), labels)

    def expected_scores(self, reference: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """Returns the scores expected over all labels, Σ_y p(y|x') s(x',y) (Eq. 2).

        Args:
            reference: (N, ...) images x.
            candidates: (n, ...) images x'.

        Returns:
            (n,) float64 scores. It takes C times the work of `scores`.
        """
        reference = self._check_images(reference, "reference")
        candidates = self._check_images(candidates, "candidates")
        posterior = softmax(self._logits(candidates, "candidates").astype(np.float64), axis=1)
        count, num_classes = posterior.shape
        scores = self._pair_scores(
            reference,
            candidates,
            np.repeat(np.arange(count), num_classes),
            np.tile(np.arange(num_classes), count),
        )
        return (posterior * scores.reshape(count, num_classes)).sum(axis=1)

    def set_scores(
        self,
        reference: np.ndarray,
        images: np.ndarray,
        sets: np.ndarray,
        labels: str | np.ndarray = "set",
    ) -> np.ndarray:
        """Returns the score of each candidate set, Δf(X') = Σ_{x'∈X'} s(x', ŷ) (Eq. 5).

        Args:
            reference: (N, ...) images x.
            images: (n, ...) images that the sets point into; only those in a set are scored.
            sets: (M, K) indices, −1 as padding; a set of padding alone scores 0.
            labels: `"set"`: one label for all of X', argmax_c Σ_{x'∈X'} log p(c|x'). `"image"`:
                each image's own most likely label. `"expected"`: Eq. 2 in place of Eq. 4.
                Or (M,) integer columns, one a set.

        Returns:
            (M,) float64 scores.

        Raises:
            ValueError: As for `scores`, or an unknown `labels`.
        """
        reference = self._check_images(reference, "reference")
        images = self._check_images(images, "images")
        sets = check_sets(sets, len(images))
        check_label_mode(labels, len(sets))
        used, compact = np.unique(sets, return_inverse=True)
        compact = compact.reshape(sets.shape)
        if used[0] == -1:
            used, compact = used[1:], compact - 1
        if not len(used):
            return np.zeros(len(sets))
        images = images[used]
        if isinstance(labels, str) and labels == "expected":
            return sum_over_sets(self.expected_scores(reference, images), compact)
        if isinstance(labels, str) and labels == "image":
            return sum_over_sets(self.scores(reference, images), compact)
        if isinstance(labels, str):
            labels = most_likely_set_labels(self._logits(images, "images"), compact)
        labels = check_labels(labels, len(sets), self._num_classes)
        # One image may be in several sets under different labels; each (image, label) once.
        code = np.where(compact >= 0, compact * self._num_classes + labels[:, None], -1)
        pairs, pair_of = np.unique(code, return_inverse=True)
        pair_of = pair_of.reshape(sets.shape)
        if pairs[0] == -1:
            pairs, pair_of = pairs[1:], pair_of - 1
        image_of, label_of = np.divmod(pairs, self._num_classes)
        return sum_over_sets(self._pair_scores(reference, images, image_of, label_of), pair_of)

    def _check_images(self, images: np.ndarray, name: str) -> np.ndarray:
        return check_images(images, name, self.model.inputs[0].shape[1:])

    def _logits(self, images: np.ndarray, name: str) -> np.ndarray:
        """Returns (n, C) logits after checking that they are finite."""
        logits = in_batches(self._predict, images, self.model.inputs[0].dtype)
        if not np.isfinite(logits).all():
            bad = int(np.argmin(np.isfinite(logits).all(axis=1)))
            raise ValueError(f"{name}: expected finite model outputs, got {logits[bad]} at {bad}")
        return logits

    def _pair_scores(
        self,
        reference: np.ndarray,
        images: np.ndarray,
        image_of: np.ndarray,
        label_of: np.ndarray,
    ) -> np.ndarray:
        """Returns the scores of (image, label) pairs, (pairs,) float64."""
        self._logits(reference, "reference")
        pairs = PairScores(
            self._changes, self._memory_budget, reference, images, image_of, label_of
        )
        with _tensor_float_32(self._precision == "tf32"):
            return pairs.means()


@contextlib.contextmanager
def _tensor_float_32(enabled: bool) -> Iterator[None]:
    """Switches TensorFloat-32 on or off for a while; TensorFlow's default is on."""
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(enabled)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(before)
