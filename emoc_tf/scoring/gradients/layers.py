"""Which linear stages a Keras layer consists of, and the model that shows them.

`probe` rebuilds a model's graph on the same weights with every known layer replaced by its stages
and its activation, so that each stage's input and output can be seen and differentiated.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import keras
import tensorflow as tf

from emoc_tf.models.graphs import is_graph, is_linear, walk
from emoc_tf.scoring.gradients.stages import (
    ConvStage,
    DenseStage,
    DepthwiseStage,
    EmbeddingStage,
    ScaleStage,
    Stage,
)

layers = keras.layers


def _dense(layer: keras.Layer, rank: int) -> list[Stage]:
    return [DenseStage(layer, layer.kernel, layer.bias)]


def _is_plain_window(layer: keras.Layer) -> bool:
    # Where a stride meets a dilation Keras takes a way of its own, with other alignment.
    both = max(layer.strides) > 1 and max(layer.dilation_rate) > 1
    return layer.data_format == "channels_last" and not both


def _convolution(layer: keras.Layer, rank: int) -> list[Stage]:
    if not _is_plain_window(layer):
        return []
    window = (layer.strides, layer.padding, layer.dilation_rate)
    return [ConvStage(layer, layer.kernel, layer.bias, layer.groups, *window)]


def _depthwise(layer: keras.Layer, rank: int) -> list[Stage]:
    if not _is_plain_window(layer):
        return []
    window = (layer.strides, layer.padding, layer.dilation_rate)
    return [DepthwiseStage(layer, layer.kernel, layer.bias, *window)]


def _separable(layer: keras.Layer, rank: int) -> list[Stage]:
    if not _is_plain_window(layer):
        return []
    window = (layer.strides, layer.padding, layer.dilation_rate)
    once = (1,) * (rank - 2)
    return [
        DepthwiseStage(layer, layer.depthwise_kernel, None, *window),
        ConvStage(layer, layer.pointwise_kernel, layer.bias, 1, once, "valid", once),
    ]


def _batch_normalization(layer: keras.Layer, rank: int) -> list[Stage]:
    if getattr(layer, "renorm", False):
        return []
    axis = layer.axis % rank
    around = [1] * (axis) + [-1] + [1] * (rank - 1 - axis)

    def normalise(inputs: tf.Tensor) -> tf.Tensor:
        mean = tf.reshape(layer.moving_mean, around)
        variance = tf.reshape(layer.moving_variance, around)
        return (inputs - mean) * tf.math.rsqrt(variance + layer.epsilon)

    return [ScaleStage(layer, layer.gamma, layer.beta, [axis], normalise)]


def _layer_normalization(layer: keras.Layer, rank: int) -> list[Stage]:
    axes = [axis % rank for axis in layer.axis]
    if layer.rms_scaling or axes != sorted(axes):
        return []

    def normalise(inputs: tf.Tensor) -> tf.Tensor:
        mean, variance = tf.nn.moments(inputs, axes, keepdims=True)
        return (inputs - mean) * tf.math.rsqrt(variance + layer.epsilon)

    return [ScaleStage(layer, layer.gamma, layer.beta, axes, normalise)]


def _embedding(layer: keras.Layer, rank: int) -> list[Stage]:
    return [EmbeddingStage(layer, layer.embeddings)]


# By exact type: a subclass may compute something else. Each returns no stage where it cannot tell
# what the layer computes; `rank` is that of the layer's input.
STAGES: dict[type[keras.Layer], Callable[[keras.Layer, int], list[Stage]]] = {
    layers.Dense: _dense,
    layers.Conv1D: _convolution,
    layers.Conv2D: _convolution,
    layers.Conv3D: _convolution,
    layers.DepthwiseConv1D: _depthwise,
    layers.DepthwiseConv2D: _depthwise,
    layers.SeparableConv1D: _separable,
    layers.SeparableConv2D: _separable,
    layers.BatchNormalization: _batch_normalization,
    layers.LayerNormalization: _layer_normalization,
    layers.Embedding: _embedding,
}


class Use(NamedTuple):
    """One call of a stage in the graph.

    Attributes:
        stage: The stage.
        positions: S, None if the graph does not tell.
    """

    stage: Stage
    positions: int | None


class Probe(NamedTuple):
    """A model that shows what its stages see.

    Attributes:
        model: Maps what the original maps to (its outputs, a pair (input, z) per use).
        uses: The uses, in the order of the pairs.
    """

    model: keras.Model
    uses: list[Use]


def inner_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns all layers of a model and of the models in it, each once."""
    found: dict[int, keras.Layer] = {}
    for layer in model.layers:
        inner = inner_layers(layer) if is_graph(layer) else [layer]
        found.update({id(each): each for each in inner})
    return list(found.values())


def known_stages(model: keras.Model) -> dict[int, list[Stage]]:
    """Returns the stages of every trainable layer that has known ones, by the layer's id.

    A layer is known if its type is, if its stages have exactly its trainable weights, and if no
    other layer shares them.

    What a call records for `training` says nothing: a model is scored in inference mode.
    """
    trainable = {id(variable) for variable in model.trainable_variables}
    owners = Counter(
        id(variable) for layer in inner_layers(model) for variable in layer.trainable_variables
    )
    ranks: dict[int, int] = {}

    def look(layer, *args, **kwargs):
        if is_graph(layer):
            walk(layer, look)
        plain = all(kwargs[key] in (None, False) for key in kwargs if key != "training")
        simple = len(args) == 1 and hasattr(args[0], "shape") and plain
        rank = len(args[0].shape) if simple else 0
        # Calls of other forms, or of several ranks, hide the layer for good.
        ranks[id(layer)] = rank if ranks.get(id(layer), rank) == rank else 0
        return layer(*args, **kwargs)

    walk(model, look)
    known = {}
    for layer in inner_layers(model):
        own = [id(variable) for variable in layer.trainable_variables]
        rank = ranks.get(id(layer), 0)
        if not own or not rank or type(layer) not in STAGES or not trainable.issuperset(own):
            continue
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
            continue  # the kernel is a product of other weights then
        stages = STAGES[type(layer)](layer, rank)
        seen = [id(variable) for stage in stages for variable in stage.parameters]
        if sorted(seen) == sorted(own) and all(owners[variable] == 1 for variable in own):
            known[id(layer)] = stages
    return known


def probe(model: keras.Model, known: dict[int, list[Stage]]) -> Probe:
    """Returns the model with the stages of its known layers in view."""
    taps: list[tuple[keras.KerasTensor, keras.KerasTensor]] = []
    uses: list[Use] = []
    inner: dict[int, Probe] = {}

    def call(layer, *args, **kwargs):
        if is_graph(layer):
            if id(layer) not in inner:
                inner[id(layer)] = probe(layer, known)
            outputs, seen = inner[id(layer)].model(*args, **kwargs)
            taps.extend(tuple(pair) for pair in seen)
            uses.extend(inner[id(layer)].uses)
            return outputs
        if id(layer) not in known:
            return layer(*args, **kwargs)
        z = args[0]
        for stage in known[id(layer)]:
            inputs, z = z, stage(z)
            taps.append((inputs, z))
            uses.append(Use(stage, stage.positions(z.shape)))
        activation = getattr(layer, "activation", None)
        if is_linear(activation):
            return z
        return layers.Activation(activation, dtype=layer.dtype_policy)(z)

    clone = walk(model, call)
    return Probe(keras.Model(clone.input, [clone.output, taps]), uses)
