"""Lengths ‖g‖₂ of the loss's gradients with respect to all trainable parameters."""

import keras
import numpy as np
import tensorflow as tf
from scipy.special import softmax

from emoc_tf.models.checks import check_model, check_outputs
from emoc_tf.models.graphs import functional
from emoc_tf.scoring.checks import (
    MEMORY_BUDGET,
    check_labels,
    check_logits,
    check_memory_budget,
    check_sets,
    refusals,
)
from emoc_tf.scoring.gradients.whole import WholeGradients
from emoc_tf.scoring.images import Images, check_images
from emoc_tf.scoring.residuals import residual
from emoc_tf.scoring.snapshot import Snapshot

# Constants: batches decide the order of summation.
_ROWS = 256  # gradients computed at once


class GradientLengths:
    """Lengths of the gradients of the plain cross-entropy, without ω, in inference mode.

    Args:
        model: As for `EMOCScorer`.
        memory_budget: Bytes that gradients may take.

    Attributes:
        model: The model.

    Raises:
        ValueError: The model is of another kind, or the budget out of range.
    """

    def __init__(self, model: keras.Model, memory_budget: int = MEMORY_BUDGET) -> None:
        self._budget = check_memory_budget(memory_budget)
        self._dtype = tf.as_dtype(check_model(model).compute_dtype)
        check_outputs(model)
        self.model = model
        self._num_classes = model.output_shape[-1]
        self._factors = WholeGradients(model)
        image = functional(model).inputs[0]
        self._images = tf.TensorSpec(image.shape, image.dtype)
        one_each = tf.TensorSpec([None], tf.int32)
        self._all_labels = tf.function(self._squared_norms, autograph=False)
        self._all_labels = self._all_labels.get_concrete_function(self._images)
        self._one_label = tf.function(self._rows, autograph=False)
        self._one_label = self._one_label.get_concrete_function(self._images, one_each)
        self._snapshot = Snapshot(model)

    def expected(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Returns Σ_y p(y|x)·‖g(x,y)‖ of some images, (k,) float64.

        Args:
            images: (n, ...), n > 0, an array or an array-like, see `data.views`.
            rows: (k,) which, ascending.

        Raises:
            ValueError: Images of another kind, or an output or length that is not finite.
        """
        self._snapshot.check()
        images = check_images(images, "images", self.model).take(rows)
        lengths = np.empty(len(images))
        for some in _batches(len(images), self._batch_size(self._num_classes, images)):
            logits, squares = self._call(self._all_labels, images[some])
            posterior = softmax(logits.astype(np.float64), axis=1)
            lengths[some] = (posterior * np.sqrt(squares.astype(np.float64))).sum(axis=1)
        return _finite(lengths)

    def of_sets(self, images: np.ndarray, sets: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns ‖Σ_k g(x_k, y)‖ of each set, (M,) float64; 0 for padding alone.

        Args:
            images: (n, ...) images that the sets point into; only those in a set are looked at.
            sets: (M, K) indices, −1 as padding.
            labels: (M,) columns y, one a set.

        Raises:
            ValueError: As for `expected`, or sets or labels of another kind.
        """
        self._snapshot.check()
        images = check_images(images, "images", self.model)
        sets = check_sets(sets, len(images))
        labels = check_labels(labels, len(sets), self._num_classes)
        lengths = np.empty(len(sets))
        row_bytes = self._factors.num_parameters * self._dtype.size
        for some in _batches(len(sets), max(1, self._budget // 2 // row_bytes)):
            total = self._sums(images, sets[some], labels[some])
            squares = np.einsum("mp,mp->m", total, total, dtype=np.float64)
            lengths[some] = np.sqrt(squares)
        return _finite(lengths)

    def _sums(self, images: Images, sets: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns Σ_k g(x_k, y) of each set, (M, P): each pair's gradient is computed once."""
        total = np.zeros((len(sets), self._factors.num_parameters), self._dtype.as_numpy_dtype)
        set_of, place = np.nonzero(sets >= 0)
        code = sets[set_of, place] * self._num_classes + labels[set_of]
        pairs, pair_of = np.unique(code, return_inverse=True)
        for rows in _batches(len(pairs), self._batch_size(1, images)):
            image_of, label_of = np.divmod(pairs[rows], self._num_classes)
            _, gradients = self._call(self._one_label, images[image_of], label_of)
            # One by one: products with a sparse matrix move four times the memory.
            for slot in np.flatnonzero((pair_of >= rows[0]) & (pair_of <= rows[-1])):
                total[set_of[slot]] += gradients[pair_of[slot] - rows[0]]
        return total

    def _call(self, function, images: np.ndarray, *labels: np.ndarray) -> list[np.ndarray]:
        images = tf.convert_to_tensor(images, self._images.dtype)
        with refusals("images"):
            logits, found = function(images, *(tf.constant(each, tf.int32) for each in labels))
        check_logits(logits.numpy(), "images")
        return [logits.numpy(), found.numpy()]

    def _batch_size(self, rows: int, images: Images) -> int:
        each = self._factors.gradient_bytes(rows, self._dtype, images.shape[1:])
        each += self._factors.num_parameters * self._dtype.size
        return max(1, min(_ROWS // rows, self._budget // 4 // each))

    def _squared_norms(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def seeds(logits: tf.Tensor) -> tf.Tensor:
            posterior, count = tf.nn.softmax(logits), tf.shape(logits)[0]
            labels = [tf.fill([count], c) for c in range(self._num_classes)]
            return tf.stack([residual(posterior, of_label) for of_label in labels], 1)

        return self._factors.squared_norms(images, seeds)

    def _rows(self, images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def seeds(logits: tf.Tensor) -> tf.Tensor:
            return residual(tf.nn.softmax(logits), labels)[:, None]

        logits, rows = self._factors.rows(images, seeds)
        return logits, rows[:, 0]


def _batches(count: int, size: int) -> list[np.ndarray]:
    """Returns the numbers below `count`, so many at a time."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def _finite(lengths: np.ndarray) -> np.ndarray:
    if not np.isfinite(lengths).all():
        raise ValueError(
            f"images: expected gradients of finite length, got "
            f"{lengths[~np.isfinite(lengths)][0]}; gradients overflow"
        )
    return lengths
