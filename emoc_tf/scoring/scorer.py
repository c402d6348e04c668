"""Exact EMOC scores in batches, from per-layer gradient factors."""

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from emoc_tf.networks import compile_forward, in_batches
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
from emoc_tf.scoring.layers import GradientFactors, Gradients

GRADIENT_BATCH = 64
# Sizes of the two operands of the product, in bytes. Constants, never free memory: the chunks
# decide the order of summation, and equal seeds must give equal bits.
CANDIDATE_BYTES = 1 << 30
REFERENCE_BYTES = 1 << 27


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

    Raises:
        ValueError: The model is of another kind, or `output` is unknown.
    """

    def __init__(
        self, model: keras.Model, output: str = "logits", regularizer: bool = True
    ) -> None:
        check_output(output)
        check_regularizer(regularizer)
        self._factors = GradientFactors(model)
        self.model = model
        self._output = output
        self._num_classes = model.output_shape[-1]
        self._dtype = tf.as_dtype(model.compute_dtype)
        self._regularizer = regularizer and bool(model.losses) and bool(model.trainable_variables)
        self._compile()

    def _compile(self) -> None:
        """Traces the three functions once, for batches of any size above 0."""
        image, labels = self.model.inputs[0], tf.TensorSpec([None], tf.int32)
        images = tf.TensorSpec(image.shape, image.dtype)
        self._predict = compile_forward(self.model)
        self._candidates = tf.function(self._candidate_gradients).get_concrete_function(
            images, labels
        )
        gradients = tf.nest.map_structure(
            lambda part: tf.TensorSpec([None, *part.shape[1:]], part.dtype),
            self._candidates.structured_outputs,
        )
        penalty = [tf.TensorSpec(part.shape, part.dtype) for part in self._penalty_gradient()]
        self._accumulate = tf.function(self._summed_change).get_concrete_function(
            images, gradients, penalty
        )

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

    def _tensor(self, images: np.ndarray) -> tf.Tensor:
        return tf.convert_to_tensor(images, dtype=self.model.inputs[0].dtype)

    def _pair_scores(
        self,
        reference: np.ndarray,
        images: np.ndarray,
        image_of: np.ndarray,
        label_of: np.ndarray,
    ) -> np.ndarray:
        """Returns the scores of (image, label) pairs, (pairs,) float64."""
        self._logits(reference, "reference")
        size = max(1, self._factors.explicit_size * self._dtype.size)
        pair_chunk = max(GRADIENT_BATCH, CANDIDATE_BYTES // size)
        reference_chunk = REFERENCE_BYTES // (size * self._num_classes)
        reference_chunk = min(max(1, reference_chunk), GRADIENT_BATCH)
        penalty = self._penalty_gradient()
        totals = []
        for start in range(0, len(image_of), pair_chunk):
            chunk = slice(start, start + pair_chunk)
            gradients = self._gradients_of_pairs(images, image_of[chunk], label_of[chunk])
            total = np.zeros(len(image_of[chunk]))
            for first in range(0, len(reference), reference_chunk):
                batch = self._tensor(reference[first : first + reference_chunk])
                total += self._accumulate(batch, gradients, penalty).numpy()
            totals.append(total)
        return np.concatenate(totals) / len(reference)

    def _gradients_of_pairs(
        self, images: np.ndarray, image_of: np.ndarray, label_of: np.ndarray
    ) -> Gradients:
        parts = []
        for start in range(0, len(image_of), GRADIENT_BATCH):
            batch = slice(start, start + GRADIENT_BATCH)
            labels = tf.constant(label_of[batch], tf.int32)
            parts.append(self._candidates(self._tensor(images[image_of[batch]]), labels))
        return tf.nest.map_structure(lambda *tensors: tf.concat(tensors, 0), *parts)

    def _candidate_gradients(self, images: tf.Tensor, labels: tf.Tensor) -> Gradients:
        """Returns ∇θ CE of each (image, label), one row each."""

        def loss_seeds(logits: tf.Tensor) -> tf.Tensor:
            return residual(tf.nn.softmax(logits), labels)[:, None]

        return self._factors.gradients(images, loss_seeds)

    def _output_seeds(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the rows of ∂f/∂logits, (B, C, C)."""
        if self._output == "logits":
            rows = tf.eye(self._num_classes, dtype=logits.dtype)
            return tf.tile(rows[None], [tf.shape(logits)[0], 1, 1])
        posterior = tf.nn.softmax(logits)
        # Row c is p_c·(e_c − p).
        rows = [
            -posterior[:, c, None] * residual(posterior, tf.fill(tf.shape(posterior)[:1], c))
            for c in range(self._num_classes)
        ]
        return tf.stack(rows, axis=1)

    def _summed_change(
        self, reference: tf.Tensor, candidates: Gradients, penalty: list[tf.Tensor]
    ) -> tf.Tensor:
        """Returns Σ_x ‖J(x) g‖₁ over a batch of reference images, (pairs,)."""
        jacobian = self._factors.gradients(reference, self._output_seeds)
        shape = tf.shape(jacobian.explicit)
        flat = tf.reshape(jacobian.explicit, [shape[0] * shape[1], shape[2]])
        change = tf.matmul(flat, candidates.explicit[:, 0], transpose_b=True)  # [B·C, pairs]
        change = tf.reshape(change, [shape[0], shape[1], -1])
        for inputs, deltas, candidate_inputs, candidate_deltas in zip(
            jacobian.inputs, jacobian.deltas, candidates.inputs, candidates.deltas, strict=True
        ):
            by_input = tf.matmul(inputs, candidate_inputs, transpose_b=True)  # [B, pairs]
            by_delta = tf.einsum("bro,no->brn", deltas, candidate_deltas[:, 0])
            change += by_input[:, None] * by_delta
        if penalty:
            change += self._factors.project(jacobian, penalty)[:, :, None]
        return tf.reduce_sum(tf.abs(change), axis=[0, 1])

    def _penalty_gradient(self) -> list[tf.Tensor]:
        """Returns ∇ω, a tensor per trainable variable; empty without a regulariser."""
        if not self._regularizer:
            return []
        variables = [variable.value for variable in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            penalty = tf.add_n(self.model.losses)
        return tape.gradient(penalty, variables, unconnected_gradients="zero")


def residual(posterior: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns p − e_y, (B, C), keeping all digits where p_y is close to 1.

    There p_y − 1 is a difference of nearly equal numbers; −Σ_{j≠y} p_j is not.
    """
    is_label = tf.one_hot(labels, posterior.shape[1], dtype=tf.bool, on_value=True, off_value=False)
    others = tf.where(is_label, tf.zeros_like(posterior), posterior)
    return tf.where(is_label, -tf.reduce_sum(others, axis=1, keepdims=True), others)
