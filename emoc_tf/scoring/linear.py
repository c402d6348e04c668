"""Output changes of a model that is a linear layer alone, in closed form.

With f(x) = Wᵀx + b, row c of J(x) is x ⊗ s_c, where s_c = e_c, or p_c·(e_c − p) for the softmax.
The gradient of x' under y' is x' ⊗ d + ∇ω, with d = p(x') − e_y'. So

    ‖J(x) g(x',y')‖₁ = Σ_c | (x·x' + 1) · s_c·d + s_c·r |,   r = ∇ωᵀx,

and for logits without ω it is |x·x' + 1| · ‖d‖₁: one product of images for all labels and outputs.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.graphs import functional, is_linear, last_operation
from emoc_tf.scoring.blocks import finite
from emoc_tf.scoring.changes import residual, unseen_residual
from emoc_tf.scoring.images import Images

# Constants, never free memory: they decide the order of summation.
REFERENCES = 1024
IMAGES = 4096
PAIRS = 1024


def is_linear_layer(model: keras.Model) -> bool:
    """Returns whether a model that `check_model` accepts is a head alone, trainable as a whole."""
    model = functional(model)
    head, image = last_operation(model), model.inputs[0]
    plain = type(head) is keras.layers.Dense and is_linear(head.activation)
    changed = getattr(head, "lora_enabled", False) or getattr(head, "quantization_mode", None)
    alone = len(model.operations) == 2 and len(image.shape) == 2  # the input is an operation
    trained = len(head.trainable_variables) == len(head.variables)
    return plain and not changed and alone and trained and image.dtype == head.compute_dtype


class LinearScores:
    """Output changes of pairs (x', y') on all reference images x; see `PairScores`.

    Args:
        model: One that `is_linear_layer`.
        output: As in `EMOCScorer`.
        regularizer: As in `EMOCScorer`.
        reference: (N, d) images x.
        images: (n, d) images x'.
        image_of: (pairs,) index of each pair's image, ascending.
        label_of: (pairs,) column of each pair's label, or C for a class without one.
    """

    costs_little = True

    def __init__(
        self,
        model: keras.Model,
        output: str,
        regularizer: bool,
        reference: Images,
        images: Images,
        image_of: np.ndarray,
        label_of: np.ndarray,
    ) -> None:
        self._head = last_operation(functional(model))
        self._penalty = _penalty_gradient(model) if regularizer and model.losses else None
        self._softmax = output == "softmax"
        self.reference, self._images = reference, images
        self._image_of, self._label_of = image_of, label_of

    def means(self) -> np.ndarray:
        """Returns (1/N) Σ_x ‖J(x) g‖₁ of all pairs, (pairs,) float64: Eq. 4."""
        means = np.empty(len(self._image_of))
        for images in self.parts():
            blocks = self.blocks(images)
            with np.errstate(invalid="ignore"):  # which is told below
                total = sum(self.sums(images, blocks, range(self.num_batches)))
                means[self._pairs_of(images)] = self.means_of(images, blocks, total)
        return finite(means)

    # The pieces of `means`, see `PairScores`.

    def parts(self) -> list[np.ndarray]:
        """Returns the images x' that meet all reference images together, part by part."""
        count = len(self._images)
        return [np.arange(rows.start, rows.stop) for rows in _parts(count, IMAGES)]

    @property
    def num_batches(self) -> int:
        """In how many batches of reference images the sums of `means` are taken."""
        return len(_parts(len(self.reference), REFERENCES))

    def blocks(self, images: np.ndarray) -> "_Part":
        """Returns what the sums of one of `parts` need of it."""
        some = self._pairs_of(images)
        tensor, image_of = self._tensor(self._images[images]), self._image_of[some] - images[0]
        return _Part(tensor, image_of, self._residuals(tensor, image_of, self._label_of[some]))

    def sums(self, images: np.ndarray, blocks: "_Part", batches: range) -> Iterator[np.ndarray]:
        """Yields what is added up over each batch of reference images, float64.

        It is Σ_x |x·x' + 1| of each image x' where that is all, else Σ_x ‖J(x) g‖₁ of each pair.
        """
        for batch in batches:
            start = batch * REFERENCES
            rows = np.arange(start, min(start + REFERENCES, len(self.reference)))
            x = self._tensor(self.reference[rows])
            if self._is_closed:
                yield _sum_of_products(x.dtype)(x, blocks.images, self._one).numpy()
            else:
                yield self._by_output(x, *blocks)

    def means_of(self, images: np.ndarray, blocks: "_Part", total: np.ndarray) -> np.ndarray:
        """Returns the means of the pairs of one of `parts`, by the total of its `sums`."""
        if self._is_closed:
            total = total[blocks.image_of] * np.abs(blocks.residuals).sum(axis=1)
        return total / len(self.reference)

    @property
    def _is_closed(self) -> bool:
        """Whether one product of images serves all labels and outputs."""
        return self._penalty is None and not self._softmax

    def _pairs_of(self, images: np.ndarray) -> slice:
        """Returns the pairs of images that follow one another."""
        return slice(*np.searchsorted(self._image_of, [images[0], images[-1] + 1]))

    def _residuals(
        self, images: tf.Tensor, image_of: np.ndarray, label_of: np.ndarray
    ) -> np.ndarray:
        """Returns d of pairs, (pairs, C)."""
        logits = self._head(images)
        posterior, other = tf.nn.softmax(logits), unseen_residual(logits).numpy()
        found = np.empty((len(image_of), logits.shape[1]), other.dtype)
        for rows in _parts(len(image_of), IMAGES):
            own = tf.gather(posterior, image_of[rows])
            found[rows] = residual(own, tf.constant(label_of[rows], tf.int32))
        unseen = label_of == logits.shape[1]
        found[unseen] = other[image_of[unseen]]
        return found

    def _by_output(
        self, x: tf.Tensor, images: tf.Tensor, image_of: np.ndarray, residuals: np.ndarray
    ) -> np.ndarray:
        """Returns Σ_x ‖J(x) g‖₁ of pairs over a batch x, (pairs,) float64, output by output."""
        total = np.empty(len(image_of))
        function = _sum_by_output(images.dtype, self._softmax)
        posterior, along = tf.nn.softmax(self._head(x)), self._along(x)
        for rows in _parts(len(image_of), PAIRS):
            first, last = image_of[rows.start], image_of[rows.stop - 1] + 1
            total[rows] = function(
                x, images[first:last], tf.constant(image_of[rows] - first, tf.int32),
                residuals[rows], posterior, along, self._one,
            ).numpy()  # fmt: skip
        return total

    @property
    def _one(self) -> tf.Tensor:
        """What the bias adds to a product of images."""
        return tf.constant(float(self._head.use_bias), self._head.compute_dtype)

    def _along(self, x: tf.Tensor) -> tf.Tensor:
        """Returns r of images x, (B, C)."""
        if self._penalty is None:
            return tf.zeros([len(x), self._head.units], x.dtype)
        kernel, *bias = self._penalty
        return sum(bias, tf.matmul(x, kernel))

    def _tensor(self, images: np.ndarray) -> tf.Tensor:
        return tf.constant(images, self._head.compute_dtype)


class _Part(NamedTuple):
    """Images x' and the pairs that they are in."""

    images: tf.Tensor
    image_of: np.ndarray
    residuals: np.ndarray


@functools.cache
def _sum_of_products(dtype: tf.DType) -> Callable[..., tf.Tensor]:
    """Returns a function of x (B, d), x' (m, d) and 1: Σ_x |x·x' + 1|, (m,) float64."""

    def function(x: tf.Tensor, images: tf.Tensor, one: tf.Tensor) -> tf.Tensor:
        product = tf.abs(tf.matmul(images, x, transpose_b=True) + one)
        return tf.cast(tf.reduce_sum(product, axis=1), tf.float64)

    matrix, number = tf.TensorSpec([None, None], dtype), tf.TensorSpec([], dtype)
    return tf.function(function, [matrix, matrix, number], autograph=False)


@functools.cache
def _sum_by_output(dtype: tf.DType, softmax: bool) -> Callable[..., tf.Tensor]:
    """Returns a function of B images x and n pairs: Σ_x ‖J(x) g‖₁, (n,) float64."""

    def function(
        x: tf.Tensor, images: tf.Tensor, image_of: tf.Tensor, residuals: tf.Tensor,
        posterior: tf.Tensor, along: tf.Tensor, one: tf.Tensor,
    ) -> tf.Tensor:  # fmt: skip
        product = tf.matmul(x, images, transpose_b=True) + one
        product = tf.gather(product, image_of, axis=1)  # [B, n]
        if softmax:
            middle = tf.matmul(posterior, residuals, transpose_b=True)
            along -= tf.reduce_sum(posterior * along, axis=1, keepdims=True)
        own, added, weights = (tf.transpose(each) for each in (residuals, along, posterior))

        def add(c: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            change = own[c] - middle if softmax else own[c]
            value = tf.abs(product * change + added[c][:, None])
            return c + 1, total + (value * weights[c][:, None] if softmax else value)

        start = tf.constant(0), tf.zeros_like(product)
        total = tf.while_loop(lambda c, _: c < tf.shape(own)[0], add, start)[1]
        return tf.reduce_sum(tf.cast(total, tf.float64), axis=0)

    matrix, number = tf.TensorSpec([None, None], dtype), tf.TensorSpec([], dtype)
    places = tf.TensorSpec([None], tf.int32)
    specs = [matrix, matrix, places, matrix, matrix, matrix, number]
    return tf.function(function, specs, autograph=False)


def _penalty_gradient(model: keras.Model) -> list[tf.Tensor]:
    """Returns ∇ω of kernel and bias."""
    head = last_operation(functional(model))
    values = [variable.value for variable in (head.kernel, head.bias) if variable is not None]
    with tf.GradientTape() as tape:
        tape.watch(values)
        penalty = tf.add_n(model.losses)
    return tape.gradient(penalty, values, unconnected_gradients="zero")


def _parts(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
