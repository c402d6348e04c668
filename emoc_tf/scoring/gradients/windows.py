"""What windows that slide over positions see."""

import functools
import math
from collections.abc import Callable

import tensorflow as tf

# Kinds of windows whose operations are kept; each takes some hundred kB.
KEPT = 512


def seen(
    inputs: tf.Tensor,
    outputs: tf.Tensor,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
    dilation: tuple[int, ...],
) -> tf.Tensor:
    """Returns `unfold` of a convolution's inputs and outputs, traced once for all models.

    Nothing of it follows from weights, but most operations of a small network's gradients are its.
    """
    shape, want = outputs.shape[1:-1], tf.shape(outputs)[1:-1]
    spec = tf.TensorSpec([None, *inputs.shape[1:]], inputs.dtype)
    of = tuple(map(tuple, (window, strides, dilation)))
    if shape.is_fully_defined():
        return _traced(spec, tuple(shape), *of, padding)(inputs)
    return _traced(spec, None, *of, padding)(inputs, want)


@functools.lru_cache(KEPT)
def _traced(
    inputs: tf.TensorSpec,
    want: tuple[int, ...] | None,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    dilation: tuple[int, ...],
    padding: str,
) -> Callable[..., tf.Tensor]:
    # Without defaults: TensorFlow prints all numbers of a tensor before it takes a call that leaves
    # an argument out.
    def known(inputs: tf.Tensor) -> tf.Tensor:
        return unfold(inputs, tf.constant(want), window, strides, padding, dilation)

    def open_(inputs: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
        return unfold(inputs, size, window, strides, padding, dilation)

    if want is not None:
        return tf.function(known, autograph=False).get_concrete_function(inputs)
    size = tf.TensorSpec([len(window)], tf.int32)
    return tf.function(open_, autograph=False).get_concrete_function(inputs, size)


def unfold(
    inputs: tf.Tensor,
    want: tf.Tensor,
    window: tuple[int, ...],
    strides: tuple[int, ...],
    padding: str,
    dilation: tuple[int, ...],
) -> tf.Tensor:
    """Returns what a convolution sees at each output position, (B, S, taps, channels).

    Args:
        inputs: (B, ..., channels) with any number of axes between.
        want: Size of the convolution's output per axis.
        window: Size of the kernel, taps = its product.
        strides: Step per axis.
        padding: `"same"`, `"valid"` or `"causal"`.
        dilation: Distance of the taps per axis.
    """
    axes = range(len(window))
    have = tf.shape(inputs)[1:-1]
    reach = [(window[axis] - 1) * dilation[axis] for axis in axes]
    spare = (want - 1) * list(strides) + reach + 1 - have
    missing = tf.maximum(spare, 0)
    before = {"same": missing // 2, "valid": 0 * missing, "causal": tf.constant(reach)}[padding]
    inside = tf.stack([before, tf.maximum(missing - before, 0)], axis=1)
    padded = tf.pad(inputs, tf.pad(inside, [[1, 1], [0, 0]]))
    # Which number of an image each tap of each window is, axis by axis: positions first, taps last.
    index, rank, sizes = tf.zeros([], tf.int32), len(window), tf.shape(padded)[1:-1]
    for axis in axes:
        place = tf.range(want[axis]) * strides[axis]
        own = place[:, None] + tf.range(window[axis]) * dilation[axis]
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = want[axis], window[axis]
        index = index * sizes[axis] + tf.reshape(own, shape)
    flat = tf.reshape(padded, [tf.shape(inputs)[0], -1, inputs.shape[-1]])
    found = tf.gather(flat, tf.reshape(index, [-1]), axis=1)  # one copy, not one a tap
    return tf.reshape(found, [tf.shape(inputs)[0], -1, math.prod(window), inputs.shape[-1]])
