"""The linear stages of Keras layers: z = W·a + b, whose gradients have two small factors.

The gradient of any scalar with respect to W is Σ_s a_s ⊗ δ_s, with δ its gradient with respect to
z and s the positions that share the weights: one for a dense layer on vectors, the output pixels of
a convolution. A stage knows what its a and δ are; what is made of them is the business of
`contractions`.

Axis letters: B batch, S positions, G groups, F inputs of a group, O outputs of a group, R rows.
"""

import contextlib
import contextvars
import itertools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from emoc_tf.scoring.gradients.windows import seen

_NUMBERS = itertools.count()  # names must differ within a model

_TAPE: contextvars.ContextVar[tf.GradientTape | None] = contextvars.ContextVar("tape", default=None)


@contextlib.contextmanager
def watched_by(tape: tf.GradientTape) -> Iterator[None]:
    """Lets a tape watch the z of each stage that is called, from where it appears."""
    token = _TAPE.set(tape)
    try:
        yield
    finally:
        _TAPE.reset(token)


class Factors(NamedTuple):
    """What one layer contributes to the gradients of B examples, R rows each.

    Attributes:
        inputs: a, (B, S, F), or (B, S, G, F) with groups, or (B, S) indices of an embedding.
        deltas: δ, (B, R, S, G·O).
    """

    inputs: tf.Tensor
    deltas: tf.Tensor


class Stage(keras.layers.Layer):
    """One linear map of a layer, called in its place, before the activation.

    Args:
        layer: The layer it belongs to.
        kernel: Its weights W, None where there is only an offset.
        bias: Its offset b, or None.

    Attributes:
        groups: G; the map does not mix groups.
        fan_in: F, inputs of a group.
        units: O, outputs of a group.
    """

    groups: int = 1
    fan_in: int
    units: int

    def __init__(
        self,
        layer: keras.Layer,
        kernel: keras.Variable | None,
        bias: keras.Variable | None,
    ) -> None:
        super().__init__(name=f"{layer.name}_stage_{next(_NUMBERS)}", dtype=layer.dtype_policy)
        self.supports_masking = True  # without a warning that a mask ends here: the layer has one
        self.layer, self.kernel, self.bias = layer, kernel, bias

    @property
    def parameters(self) -> list[keras.Variable]:
        """The kernel and the bias, those that exist."""
        return [variable for variable in (self.kernel, self.bias) if variable is not None]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns z."""
        outputs = self.linear(inputs)
        if (tape := _TAPE.get()) is not None:
            tape.watch(outputs)
        return outputs

    def compute_mask(self, inputs: tf.Tensor, previous_mask: Any) -> Any:
        """Returns the mask of z, as the layer passes it on."""
        return previous_mask if self.layer.supports_masking else None

    def linear(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns z = W·a + b."""
        raise NotImplementedError

    def positions(self, shape: tuple[int | None, ...]) -> int | None:
        """Returns S for a z of a shape (batch, ...), None if it is not known."""
        return None if None in shape[1:-1] else math.prod(shape[1:-1])

    def factor(self, inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns a, (B, S, F), or (B, S, G, F) with several groups."""
        raise NotImplementedError

    def deltas(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns δ as (B, S, G·O), from a gradient with the shape of z."""
        return tf.reshape(gradient, [tf.shape(gradient)[0], -1, self.groups * self.units])

    def kernel_rows(self, kernel: tf.Tensor) -> tf.Tensor:
        """Returns a tensor shaped like the kernel in the order of gradient rows, (G, O, F)."""
        split = tf.reshape(kernel, [self.fan_in, self.groups, self.units])
        return tf.transpose(split, [1, 2, 0])

    def gradient_rows(self, factor: tf.Tensor, deltas: tf.Tensor) -> tf.Tensor:
        """Returns Σ_s a_s ⊗ δ_s, (B, R, G·O·F), from a and δ (B, R, S, G·O)."""
        batch, rows = tf.shape(deltas)[0], deltas.shape[1]
        if self.groups == 1:
            # [B, R·O, S] × [B, S, F]: one product an example, in the order of rows already.
            flat = tf.reshape(
                tf.transpose(deltas, [0, 1, 3, 2]), [batch, rows * self.units, tf.shape(factor)[1]]
            )
            return tf.reshape(tf.matmul(flat, factor), [batch, rows, self.units * self.fan_in])
        split = tf.reshape(deltas, [batch, rows, -1, self.groups, self.units])
        products = tf.matmul(
            tf.transpose(split, [0, 1, 3, 4, 2]),  # [B, R, G, O, S]
            tf.transpose(factor, [0, 2, 1, 3])[:, None],  # [B, 1, G, S, F]
        )
        return tf.reshape(products, [batch, rows, self.groups * self.units * self.fan_in])

    def apply(self, factor: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        """Returns a·W for a tensor W shaped like the kernel, (B, S, O); one group only."""
        return tf.tensordot(factor, self.kernel_rows(kernel)[0], [[2], [1]])

    def gram(self, factor: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
        """Returns all inner products a_s·a'_s', (B·S, n·S'); one group only."""
        return tf.matmul(_flatten(factor), _flatten(other), transpose_b=True)

    def own_gram(self, factor: tf.Tensor) -> tf.Tensor:
        """Returns the inner products of each example's own a, (B, S, S); one group only."""
        return tf.matmul(factor, factor, transpose_b=True)


def _flatten(factor: tf.Tensor) -> tf.Tensor:
    return tf.reshape(factor, [-1, factor.shape[-1]])


class DenseStage(Stage):
    """z = a·W + b at each position of an input of any rank."""

    def __init__(self, layer, kernel, bias):
        super().__init__(layer, kernel, bias)
        self.fan_in, self.units = kernel.shape

    def linear(self, inputs):
        outputs = keras.ops.matmul(inputs, self.kernel)
        return outputs if self.bias is None else outputs + self.bias

    def factor(self, inputs, outputs):
        return tf.reshape(inputs, [tf.shape(inputs)[0], -1, self.fan_in])


class ConvStage(Stage):
    """A convolution over any number of axes, channels last, with strides, dilation and groups."""

    def __init__(self, layer, kernel, bias, groups, strides, padding, dilation):
        super().__init__(layer, kernel, bias)
        self.window = kernel.shape[:-2]
        self.groups = groups
        self.fan_in = math.prod(kernel.shape[:-1])
        self.units = kernel.shape[-1] // self.groups
        self.strides, self.padding, self.dilation = strides, padding, dilation

    def linear(self, inputs):
        padding = self.padding
        if padding == "causal":
            reach = self.dilation[0] * (self.window[0] - 1)
            inputs, padding = keras.ops.pad(inputs, [[0, 0], [reach, 0], [0, 0]]), "valid"
        outputs = keras.ops.conv(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=padding,
            dilation_rate=self.dilation,
            data_format="channels_last",
        )
        return outputs if self.bias is None else outputs + self.bias

    def factor(self, inputs, outputs):
        taps = seen(inputs, outputs, self.window, self.strides, self.padding, self.dilation)
        if self.groups == 1:
            return tf.reshape(taps, [tf.shape(taps)[0], -1, self.fan_in])
        size = inputs.shape[-1] // self.groups
        taps = tf.reshape(taps, [tf.shape(taps)[0], -1, taps.shape[-2], self.groups, size])
        taps = tf.transpose(taps, [0, 1, 3, 2, 4])
        return tf.reshape(taps, [tf.shape(taps)[0], -1, self.groups, self.fan_in])


class DepthwiseStage(Stage):
    """A convolution of each channel on its own, channels last: the channels are the groups."""

    def __init__(self, layer, kernel, bias, strides, padding, dilation):
        super().__init__(layer, kernel, bias)
        *window, self.groups, self.units = kernel.shape
        self.window = tuple(window)
        self.fan_in = math.prod(window)
        self.strides, self.padding, self.dilation = strides, padding, dilation

    def linear(self, inputs):
        outputs = keras.ops.depthwise_conv(
            inputs,
            self.kernel,
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation,
            data_format="channels_last",
        )
        return outputs if self.bias is None else outputs + self.bias

    def factor(self, inputs, outputs):
        taps = seen(inputs, outputs, self.window, self.strides, self.padding, self.dilation)
        if self.groups == 1:
            return taps[..., 0]
        return tf.transpose(taps, [0, 1, 3, 2])


class ScaleStage(Stage):
    """z = γ·x̂ + β, the last part of a normalisation: each feature is a group of its own.

    Args:
        layer: The normalisation; it is called as it is.
        kernel: γ or None.
        bias: β or None.
        axes: The axes that γ and β run over, ascending.
        normalise: Function of the input x that returns x̂.
    """

    fan_in = 1
    units = 1

    def __init__(self, layer, kernel, bias, axes, normalise):
        super().__init__(layer, kernel, bias)
        self.axes, self.normalise = axes, normalise
        self.groups = math.prod((kernel if bias is None else bias).shape)

    def linear(self, inputs):
        return self.layer(inputs, training=False)

    def positions(self, shape):
        rest = [shape[axis] for axis in range(1, len(shape)) if axis not in self.axes]
        return None if None in rest else math.prod(rest)

    def deltas(self, gradient):
        rest = [axis for axis in range(1, len(gradient.shape)) if axis not in self.axes]
        return super().deltas(tf.transpose(gradient, [0, *rest, *self.axes]))

    def factor(self, inputs, outputs):
        factor = self.deltas(self.normalise(inputs))
        return factor if self.groups == 1 else factor[..., None]

    def gradient_rows(self, factor, deltas):
        factor = tf.reshape(factor, [tf.shape(factor)[0], 1, -1, self.groups])
        return tf.reduce_sum(factor * deltas, axis=2)


class OffsetStage(ScaleStage):
    """z = x + b, where b runs over some of the last axes: an offset that is a stage of its own."""

    def __init__(self, layer, bias, rank):
        behind = zip(range(rank - len(bias.shape), rank), bias.shape, strict=True)
        axes = [axis for axis, size in behind if size != 1]
        super().__init__(layer, None, bias, axes, lambda inputs: inputs)

    def linear(self, inputs):
        return inputs + self.bias


class EmbeddingStage(Stage):
    """Rows of a table: a is a one-hot vector, kept as its index."""

    def __init__(self, layer, kernel, bias=None):
        super().__init__(layer, kernel, bias)
        self.fan_in, self.units = kernel.shape

    def linear(self, inputs):
        return self.layer(inputs)

    def compute_mask(self, inputs, previous_mask):
        return self.layer.compute_mask(inputs, previous_mask)

    def factor(self, inputs, outputs):
        words = tf.reshape(tf.cast(inputs, tf.int32), [tf.shape(inputs)[0], -1])
        return tf.where(words < 0, words + self.fan_in, words)  # counted from the table's end

    def gradient_rows(self, factor, deltas):
        batch, rows = tf.shape(deltas)[0], deltas.shape[1]
        by_word = tf.math.unsorted_segment_sum(
            tf.reshape(tf.transpose(deltas, [0, 2, 1, 3]), [-1, rows * self.units]),
            tf.reshape(factor + self.fan_in * tf.range(batch)[:, None], [-1]),
            batch * self.fan_in,
        )
        by_word = tf.reshape(by_word, [batch, self.fan_in, rows * self.units])
        by_word = tf.transpose(by_word, [0, 2, 1])
        return tf.reshape(by_word, [batch, rows, self.units * self.fan_in])

    def apply(self, factor, kernel):
        return tf.gather(kernel, factor)

    def gram(self, factor, other):
        same = tf.reshape(factor, [-1, 1]) == tf.reshape(other, [1, -1])
        return tf.cast(same, self.compute_dtype)

    def own_gram(self, factor):
        return tf.cast(factor[:, :, None] == factor[:, None, :], self.compute_dtype)


def size(stage: Stage) -> int:
    """Returns the number of a stage's parameters."""
    return sum(math.prod(variable.shape) for variable in stage.parameters)
