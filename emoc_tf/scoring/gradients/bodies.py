"""What of a model does not depend on its outputs: its body, known, verified and traced.

A model that grew by a class has the body that it had, and one of the same architecture a body like
it: nothing of it is verified or traced again.
"""

from collections.abc import Container, Sequence
from typing import NamedTuple

import keras

from emoc_tf.models import traces
from emoc_tf.models.draws import is_float
from emoc_tf.models.graphs import (
    calls_in,
    calls_of_head,
    inner_layers,
    last_operation,
    trained_variables,
    unnoted,
)
from emoc_tf.models.known_bodies import KnownBody, known_body
from emoc_tf.scoring.gradients.layers import known_stages, probe, ranks_in
from emoc_tf.scoring.gradients.local import is_tensor, seen
from emoc_tf.scoring.gradients.masks import untold
from emoc_tf.scoring.gradients.opening import leaves_of, opened
from emoc_tf.scoring.gradients.passes import Passes
from emoc_tf.scoring.gradients.stages import Stage
from emoc_tf.scoring.gradients.steps import has_steps
from emoc_tf.scoring.gradients.verification import same_outputs, verified


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

    Raises:
        ValueError: As `verified`.
    """

    def __init__(self, model: keras.Model) -> None:
        with unnoted(model), untold():
            self._find(model)

    def _find(self, model: keras.Model) -> None:
        graph, open_layers = opened(model)
        if graph is not model and not same_outputs(model, graph):
            graph, open_layers = model, set()
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
    called, refused = set(), set()
    for layer, args, kwargs, outputs in calls_in(graph):
        called.add(id(layer))
        if id(layer) not in wanted or has_steps(layer, args, kwargs):
            continue
        tensors = [each for each in keras.tree.flatten((args, kwargs)) if is_tensor(each)]
        # Of another first axis than the model's a row is no example.
        fits = {tuple(each.shape[:1]) for each in outputs} == {tuple(graph.inputs[0].shape[:1])}
        if not tensors or not fits or not seen(outputs):
            refused.add(id(layer))
    return (wanted & called) - refused


def body_variables(model: keras.Model, splits: bool) -> list[keras.Variable]:
    """Returns the variables that hold numbers and lie before the head, or all of them.

    Frozen ones too: what is verified at some values of them holds at others.
    """
    own = {id(v) for v in last_operation(model).variables} if splits else set()
    every = {id(variable): variable for variable in model.weights}
    return [v for key, v in every.items() if key not in own and is_float(v)]


def of(model: keras.Model) -> tuple[Body, KnownBody]:
    """Returns the body of a model, and what has to be held for the next model to find it."""
    known, made = known_body(model), list[Body]()

    def make() -> Body | None:
        made.append(Body(model))
        return made[0] if made[0].splits else None  # with its head it is of one model alone

    found = known.once("gradients", make)
    if found is None:
        found = made[0] if made else Body(model)
    return found, known


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
