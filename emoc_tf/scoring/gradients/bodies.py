"""What of a model does not depend on its outputs: its body, known, verified and traced.

A model that grew by a class has the body that it had, and one of the same architecture a body like
it: nothing of it is verified or traced again.
"""

import weakref
from collections.abc import Container, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from emoc_tf.models import traces
from emoc_tf.models.draws import is_float
from emoc_tf.models.graphs import (
    calls_in,
    calls_of_head,
    inner_layers,
    last_operation,
    trained_variables,
)
from emoc_tf.models.layer_state import states_in
from emoc_tf.scoring.gradients.layers import known_stages, probe, ranks_in
from emoc_tf.scoring.gradients.local import is_tensor
from emoc_tf.scoring.gradients.opening import has_mask, leaves_of, opened
from emoc_tf.scoring.gradients.passes import Passes
from emoc_tf.scoring.gradients.stages import Stage
from emoc_tf.scoring.gradients.verification import verified


class Place(NamedTuple):
    """Where a use of a stage belongs, in any model with this body.

    Attributes:
        layer: Index among `Body.layers`.
        stage: Index among the layer's stages; None for a layer that is seen as it is.
        positions: S, None if the graph does not tell.
    """

    layer: int
    stage: int | None
    positions: int | None


class Body:
    """The part of a model that ends at the input of its head.

    Where the head is no plain dense layer of its own weights, called once, it is part of the body.

    Args:
        model: A functional model that `check_model` accepts.

    Attributes:
        splits: Whether the output is the head's input; it is the logits otherwise.
        places: Of each use of a stage in the body.
        local: The `LocalStage` of each use that has one, and whether it can be vectorised.
        passes: Forward and backward.
        held: What tells it apart, see `of`.

    Raises:
        ValueError: As `verified`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.held: list[Any] | None = None
        graph, open_layers = opened(model)
        outer = inner_layers(model)
        self._open = {place for place, layer in enumerate(outer) if id(layer) in open_layers}
        layers, ranks, head = self.layers(model), ranks_in(graph), last_operation(model)
        self._ranks = [ranks.get(id(layer), 0) for layer in layers]
        trainable = {id(variable) for variable in model.trainable_variables}
        stages = known_stages(layers, self._ranks, trainable)
        self.splits = _splits(layers, head, calls_of_head(model), stages)
        refused: set[int] = set()
        while True:  # mostly once
            local = _local_layers(graph, layers, stages) - refused
            shown = probe(graph, stages, local, head if self.splits else None)
            self.passes = Passes(shown, body_variables(model, self.splits))
            found = verified(model, stages, shown, self.passes, self.splits)
            if found.stages.keys() == stages.keys() and found.local == local:
                break
            # What lost its stages may be seen as it is.
            stages, refused = found.stages, refused | (local - found.local)
            self.splits = self.splits and (id(head) in stages or not trained_variables(head))
        ids = [id(layer) for layer in layers]
        self.known = [place for place, layer in enumerate(ids) if layer in stages]
        self.places = [Place(*_place(use.stage, ids, stages), use.positions) for use in shown.uses]
        self.local = {use: (shown.uses[use].stage, fast) for use, fast in found.vectorised.items()}

    def layers(self, model: keras.Model) -> list[keras.Layer]:
        """Returns the layers of a model with this body, those of opened layers in their place."""
        found: dict[int, keras.Layer] = {}
        for place, layer in enumerate(inner_layers(model)):
            inside = leaves_of(layer) if place in self._open else [layer]
            found.update({id(each): each for each in inside})
        return list(found.values())

    def stages(self, model: keras.Model) -> dict[int, list[Stage]]:
        """Returns the stages of a model with this body, by the layer's id."""
        layers = self.layers(model)
        trainable = {id(variable) for variable in model.trainable_variables}
        stages = known_stages(layers, self._ranks, trainable)
        return {id(layers[place]): stages[id(layers[place])] for place in self.known}


def _local_layers(
    graph: keras.Model, layers: Sequence[keras.Layer], known: Container[int]
) -> set[int]:
    """Returns the ids of the trainable layers without stages that can be seen as they are."""
    wanted = {id(each) for each in layers if trained_variables(each) and id(each) not in known}
    seen, refused = set(), set()
    for layer, args, kwargs, outputs in calls_in(graph):
        seen.add(id(layer))
        tensors = [each for each in keras.tree.flatten((args, kwargs)) if is_tensor(each)]
        if len(outputs) != 1 or not tensors or has_mask(tensors):
            refused.add(id(layer))
    return (wanted & seen) - refused


def body_variables(model: keras.Model, splits: bool) -> list[keras.Variable]:
    """Returns the variables that hold numbers and lie before the head, or all of them.

    Frozen ones too: what is verified at some values of them holds at others.
    """
    own = {id(v) for v in last_operation(model).variables} if splits else set()
    every = {id(variable): variable for variable in model.weights}
    return [v for key, v in every.items() if key not in own and is_float(v)]


# Bodies that somebody still uses. What tells them apart are identities, of what they hold.
_alive: weakref.WeakValueDictionary[tuple, Body] = weakref.WeakValueDictionary()


def of(model: keras.Model) -> Body:
    """Returns the body of a model; of one whose layers are in use it is the same."""
    parts = _parts(model)
    key = None if parts is None else tuple(id(part) if _is_held(part) else part for part in parts)
    found = None if key is None else _alive.get(key)
    if found is None:
        found = Body(model)
        found.held = parts  # so that no identity is given again
        if key is not None and found.splits:
            _alive[key] = found
    return found


def shared(model: keras.Model) -> Body:
    """Returns the body of a model that holds no weights but as arguments, see `traces`."""
    key = traces.architecture(model, head=False)
    return Body(model) if key is None else traces.once(("body", key), lambda: Body(model))


def _splits(
    layers: Sequence[keras.Layer], head: keras.Layer, calls: int, stages: Container[int]
) -> bool:
    """Whether the head is a plain dense layer of its own weights, called once."""
    plain = type(head) is keras.layers.Dense and calls == 1
    adapted = getattr(head, "lora_enabled", False) or getattr(head, "quantization_mode", None)
    own = {id(variable) for variable in head.variables}
    others = [variable for layer in layers if layer is not head for variable in layer.variables]
    alone = own.isdisjoint(map(id, others))
    return plain and not adapted and alone and (not trained_variables(head) or id(head) in stages)


def _place(
    stage: Stage, layers: Sequence[int], stages: dict[int, list[Stage]]
) -> tuple[int, int | None]:
    layer = id(stage.layer)
    own = enumerate(stages.get(layer, []))
    return layers.index(layer), next((i for i, each in own if each is stage), None)


def _parts(model: keras.Model) -> list[Any] | None:
    """Returns all that a body follows from besides its weights; None if a variable is an argument.

    What is the same object counts as the same; plain values by themselves.
    """
    head, numbers = last_operation(model), {}
    parts: list[Any] = [model.inputs[0].shape, model.inputs[0].dtype]
    for operation, args, kwargs, _ in calls_in(model):
        if operation is head:
            parts += [type(head), head.use_bias, head.dtype]
            # Which of its variables train, and whether adapters were added to them.
            parts += [variable.trainable for variable in head.variables]
            parts += [len(head.variables), getattr(head, "quantization_mode", None)]
            operation = type(head)
        parts.append(operation)
        for part in keras.tree.flatten((args, kwargs)):
            if isinstance(part, keras.Variable | tf.Variable):
                return None
            is_symbolic = isinstance(part, keras.KerasTensor)
            parts.append(numbers.setdefault(id(part), len(numbers)) if is_symbolic else part)
    for layer in inner_layers(model):
        if layer is not head and not isinstance(layer, keras.layers.InputLayer):  # made anew
            parts += [*layer._flatten_layers(), *trained_variables(layer)]
            for (_, name), leaves in states_in(layer).items():
                parts += [name, *leaves]
            parts.append(getattr(layer, "mean", None))  # of a normalisation, once adapted
    return parts


def _is_held(part: Any) -> bool:
    return not isinstance(part, int | float | str | tuple | None)
