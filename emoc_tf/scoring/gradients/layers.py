"""Which linear stages a Keras layer consists of, and the model that shows them.

`probe` rebuilds a model's graph on the same weights with every known layer replaced by its stages
and its activation, so that each stage's input and output can be seen and differentiated.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import keras

from emoc_tf.models.graphs import calls_in, is_graph, is_linear, trained_variables, walk
from emoc_tf.scoring.gradients.local import LocalStage, taken_apart
from emoc_tf.scoring.gradients.masks import has_mask, masked, passed_on
from emoc_tf.scoring.gradients.products import EinsumStage, TransposedStage, letters_of
from emoc_tf.scoring.gradients.recurrent import RECURRENT, Scan
from emoc_tf.scoring.gradients.scales import NAMED, SCALES
from emoc_tf.scoring.gradients.stages import (
    ConvStage,
    DenseStage,
    DepthwiseStage,
    EmbeddingStage,
    OffsetStage,
    Stage,
)
from emoc_tf.scoring.gradients.steps import has_steps, steps

layers = keras.layers


def _dense(layer: keras.Layer, rank: int) -> list[Stage]:
    return [DenseStage(layer, layer.kernel, layer.bias)]


def _is_plain_window(layer: keras.Layer) -> bool:
    # Where a stride meets a dilation Keras takes a way of its own, with other alignment.
    return max(layer.strides) == 1 or max(layer.dilation_rate) == 1


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


def _einsum(layer: keras.Layer, rank: int) -> list[Stage]:
    letters = letters_of(layer.equation, rank)
    if letters is None:
        return []
    if layer.bias is None:
        return [EinsumStage(layer, layer.kernel, None, letters)]
    behind = letters.outputs[len(letters.outputs) - len(layer.bias.shape) :]
    if not letters.groups and list(behind) == letters.units:
        return [EinsumStage(layer, layer.kernel, layer.bias, letters)]
    rank = len(letters.outputs)
    return [
        EinsumStage(layer, layer.kernel, None, letters),
        OffsetStage(layer, layer.bias, rank),
    ]


def _transposed(layer: keras.Layer, rank: int) -> list[Stage]:
    if not _is_plain_window(layer):
        return []
    offset = [] if layer.bias is None else [OffsetStage(layer, layer.bias, rank)]
    return [TransposedStage(layer, layer.kernel), *offset]


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
    layers.Conv1DTranspose: _transposed,
    layers.Conv2DTranspose: _transposed,
    layers.Conv3DTranspose: _transposed,
    layers.EinsumDense: _einsum,
    layers.Embedding: _embedding,
    **RECURRENT,
    **SCALES,
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


def ranks_in(model: keras.Model) -> dict[int, int]:
    """Returns the rank of each layer's input, by the layer's id; 0 where calls hide the layer.

    These are calls of other forms than with one tensor, or of several ranks. What a call records
    for `training` says nothing: a model is scored in inference mode.
    """
    ranks: dict[int, int] = {}
    for layer, args, kwargs, _ in calls_in(model):
        free = ("training", "mask") if type(layer) in RECURRENT else ("training",)
        given = (kwargs[key] for key in kwargs if key not in free)
        plain = all(each is None or each is False for each in given)
        simple = len(args) == 1 and hasattr(args[0], "shape") and plain
        rank = len(args[0].shape) if simple else 0
        ranks[id(layer)] = rank if ranks.get(id(layer), rank) == rank else 0
    return ranks


def known_stages(
    layers_: Sequence[keras.Layer], ranks: Sequence[int], trainable: set[int]
) -> dict[int, list[Stage]]:
    """Returns the stages of every trainable layer that has known ones, by the layer's id.

    A layer is known if its type is, if its stages have exactly its trainable weights, and if no
    other layer shares them.

    Args:
        layers_: All layers of a model.
        ranks: One a layer, see `ranks_in`.
        trainable: Ids of the model's trainable variables.
    """
    owners = Counter(id(variable) for layer in layers_ for variable in trained_variables(layer))
    known = {}
    for layer, rank in zip(layers_, ranks, strict=True):
        own = [id(variable) for variable in trained_variables(layer)]
        make = STAGES.get(type(layer)) or NAMED.get(_path(layer))
        if not own or not rank or make is None or not trainable.issuperset(own):
            continue
        if getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None):
            continue  # the kernel is a product of other weights then
        stages = make(layer, rank)
        seen = [id(variable) for stage in stages for variable in stage.parameters]
        if sorted(seen) == sorted(own) and all(owners[variable] == 1 for variable in own):
            known[id(layer)] = stages
    return known


def _path(layer: keras.Layer) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"


def probe(
    model: keras.Model,
    known: dict[int, list[Stage]],
    local: Collection[int] = (),
    head: keras.Layer | None = None,
) -> Probe:
    """Returns the model with the stages of its known layers in view.

    Args:
        model: A functional model.
        known: Stages by layer id.
        local: Ids of layers whose calls are in view as they are, see `LocalStage`.
        head: The last layer, called once, where the model is to end at its input; or None.
    """
    taps: list[tuple[Any, keras.KerasTensor]] = []
    uses: list[Use] = []
    inner: dict[int, Probe] = {}
    several = {id(each.operation) for each in calls_in(model) if len(each.outputs) > 1}

    def see(stage: Stage, inputs: Any) -> keras.KerasTensor:
        return note(stage, inputs, stage(inputs))

    def note(stage: Stage, inputs: Any, z: keras.KerasTensor) -> keras.KerasTensor:
        taps.append((inputs, z))
        uses.append(Use(stage, stage.positions(z.shape)))
        return z

    def scan(layer: keras.Layer, inputs: keras.KerasTensor, mask: Any) -> keras.KerasTensor:
        first, *others = known[id(layer)]
        z = see(first, inputs)
        added = [stage(z) for stage in others]
        cell = Scan(layer, [each.shape[-1] for each in (z, *added)])
        outputs, before = cell([z, *added], mask=mask)
        for stage, each in zip(others, added, strict=True):
            note(stage, before, each)
        return outputs

    def as_it_is(layer: keras.Layer, args: tuple, kwargs: dict) -> Any:
        stage = LocalStage(layer, args, kwargs)
        z = see(stage, stage.given)
        if id(layer) in several:
            parts = keras.tree.flatten(layer(*args, **kwargs))
            found = taken_apart(z, parts)
        else:
            found = [z]
        if not has_mask(stage.given):
            return found if len(found) > 1 else z
        given = {key: each for key, each in kwargs.items() if each is not None}
        masks = passed_on(layer, args, given, len(found))
        pairs = zip(found, masks, strict=True)
        return [each if mask is None else masked(each, mask) for each, mask in pairs]

    def call(layer, *args, **kwargs):
        if layer is head:
            return args[0]
        if is_graph(layer):
            if id(layer) not in inner:
                inner[id(layer)] = probe(layer, known, local)
            outputs, seen = inner[id(layer)].model(*args, **kwargs)
            taps.extend(tuple(pair) for pair in seen)
            uses.extend(inner[id(layer)].uses)
            return outputs
        if id(layer) in local:
            if not has_steps(layer, args, kwargs):
                return as_it_is(layer, args, kwargs)
            stage, inputs, added, outputs = steps(layer, args, kwargs)
            note(stage, inputs, added)
            return outputs if len(outputs) > 1 else outputs[0]
        if id(layer) not in known:
            return layer(*args, **kwargs)
        if type(layer) in RECURRENT:
            return scan(layer, args[0], kwargs.get("mask"))
        z = args[0]
        # Stages of convolutions have the channels last.
        axes = range(1, len(z.shape))
        turned = getattr(layer, "data_format", None) == "channels_first"
        z = layers.Permute([*axes[1:], 1])(z) if turned else z
        for stage in known[id(layer)]:
            z = see(stage, z)
        z = layers.Permute([axes[-1], *axes[:-1]])(z) if turned else z
        activation = getattr(layer, "activation", None)
        if is_linear(activation):
            return z
        return layers.Activation(activation, dtype=layer.dtype_policy)(z)

    clone = walk(model, call)
    return Probe(keras.Model(clone.input, [clone.output, taps]), uses)
