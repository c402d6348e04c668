"""What windows that slide over positions see."""

import itertools

import tensorflow as tf


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
    taps = []
    for tap in itertools.product(*map(range, window)):
        slices = [
            slice(tap[axis] * dilation[axis], tap[axis] * dilation[axis] + last, strides[axis])
            for axis, last in zip(
                axes, tf.unstack((want - 1) * list(strides) + 1, num=len(window)), strict=True
            )
        ]
        taps.append(padded[(slice(None), *slices)])
    stacked = tf.stack(taps, axis=-2)
    return tf.reshape(stacked, [tf.shape(inputs)[0], -1, len(taps), inputs.shape[-1]])
