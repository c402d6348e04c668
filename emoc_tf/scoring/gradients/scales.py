"""Scales and offsets of single features, as normalisations and others have them, as stages."""

from collections.abc import Callable

import keras
import tensorflow as tf

from emoc_tf.scoring.gradients.stages import ScaleStage, Stage

layers = keras.layers


def batch_normalization(layer: keras.Layer, rank: int) -> list[Stage]:
    """Stage of a batch normalisation, whose statistics are constants in inference mode."""
    axis = layer.axis % rank
    around = [1] * (axis) + [-1] + [1] * (rank - 1 - axis)

    def normalise(inputs: tf.Tensor) -> tf.Tensor:
        mean = tf.reshape(layer.moving_mean, around)
        variance = tf.reshape(layer.moving_variance, around)
        return (inputs - mean) * tf.math.rsqrt(variance + layer.epsilon)

    return [ScaleStage(layer, layer.gamma, layer.beta, [axis], normalise)]


def layer_normalization(layer: keras.Layer, rank: int) -> list[Stage]:
    """Stage of a layer normalisation."""
    axes = [axis % rank for axis in layer.axis]
    if axes != sorted(axes):
        return []

    def normalise(inputs: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(inputs, axes, keepdims=True)
        centred = inputs if layer.rms_scaling else inputs - mean
        return centred * tf.math.rsqrt(variance + layer.epsilon)

    return [ScaleStage(layer, layer.gamma, layer.beta, axes, normalise)]


def group_normalization(layer: keras.Layer, rank: int) -> list[Stage]:
    """Stage of a group normalisation."""
    axis = layer.axis % rank

    def normalise(inputs: tf.Tensor) -> tf.Tensor:
        shape = tf.unstack(tf.shape(inputs))
        split = [*shape[:axis], layer.groups, inputs.shape[axis] // layer.groups]
        grouped = tf.reshape(inputs, [*split, *shape[axis + 1 :]])
        within = [each for each in range(1, rank + 1) if each != axis]
        mean, variance = tf.nn.moments(grouped, within, keepdims=True)
        found = (grouped - mean) * tf.math.rsqrt(variance + layer.epsilon)
        return tf.reshape(found, shape)

    return [ScaleStage(layer, layer.gamma, layer.beta, [axis], normalise)]


def rms_normalization(layer: keras.Layer, rank: int) -> list[Stage]:
    """Stage of a normalisation by the root of the mean square."""
    axes = [axis % rank for axis in layer.axis]
    # The scale runs over the last axes, whichever are normalised.
    last = list(range(rank - len(axes), rank))

    def normalise(inputs: tf.Tensor) -> tf.Tensor:
        square = tf.reduce_mean(tf.square(inputs), axes, keepdims=True)
        return inputs * tf.math.rsqrt(square + layer.epsilon)

    return [ScaleStage(layer, layer.scale, None, last, normalise)]


def prelu(layer: keras.Layer, rank: int) -> list[Stage]:
    """Stage of a rectifier whose slope below 0 is learnt: −relu(−x) is what it multiplies."""
    axes = [axis for axis in range(1, rank) if axis not in (layer.shared_axes or [])]
    return [ScaleStage(layer, layer.alpha, None, axes, lambda inputs: -tf.nn.relu(-inputs))]


def layer_scale(layer: keras.Layer, rank: int) -> list[Stage]:
    """Stage of a scale of the last axis."""
    return [ScaleStage(layer, layer.gamma, None, [rank - 1], lambda inputs: inputs)]


SCALES: dict[type[keras.Layer], Callable[[keras.Layer, int], list[Stage]]] = {
    layers.BatchNormalization: batch_normalization,
    layers.LayerNormalization: layer_normalization,
    layers.GroupNormalization: group_normalization,
    layers.RMSNormalization: rms_normalization,
    layers.PReLU: prelu,
}

# Not part of Keras' interface, but of models that `keras.applications` builds.
NAMED = {"keras.src.applications.convnext.LayerScale": layer_scale}
