"""Layers that are made of other layers, such as attention, opened: their layers seen in the graph.

What a layer does is written down by calling its `call` on the graph's own tensors. Masks, which
Keras keeps beside tensors, are carried along as tensors of their own.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras

from emoc_tf.models.graphs import calls_in, inner_layers, is_graph, plain, trained_variables, walk
from emoc_tf.scoring.gradients.masks import Masked, has_mask, mask_of, masked, passed_on, told
from emoc_tf.scoring.gradients.sizes import has_rows, reshaped, shaped

layers = keras.layers

_RECURRENT = layers.RNN, layers.Bidirectional

TIMES = 16  # of sequences of sequences: each becomes a part of the graph, which takes long to trace


def opened(model: keras.Model) -> tuple[keras.Model, set[int]]:
    """Returns a model whose layers made of layers are opened, and the ids of these.

    The layers with weights are the model's. A layer stays as it is where it has weights beside
    those of its layers, or does what no graph tells. Where there are masks, models within the
    model are opened too: what masks come out of them their own graph does not tell.

    Args:
        model: A functional model.
    """
    has_masks = any(has_mask(each.outputs) for each in calls_in(model))
    composed = _composed_in(model, has_masks)
    nested = any(is_graph(each.operation) for each in calls_in(model))
    if not composed and not (has_masks and nested):
        return model, composed
    opener = _Opener(model, composed, has_masks)
    still = {id(each.operation) for each in calls_in(opener.model)}
    return opener.model, opener.composed - still


class _Opener:
    """A walk through a model that opens layers.

    Args:
        model: A functional model.
        composed: Ids of the layers to open.
        has_masks: Whether masks have to be carried along.

    Attributes:
        model: What was found.
        composed: Ids of those that could be opened.
        masked: Outputs of the `Masked` layers, by the layer's id.
    """

    def __init__(self, model: keras.Model, composed: set[int], has_masks: bool) -> None:
        self.composed, self._has_masks = composed, has_masks
        shut = self._walk(model)
        if shut and shut != composed:  # all calls of a layer are opened, or none
            self.composed = composed - shut
            shut = self._walk(model)
        self.composed = self.composed - shut

    def _walk(self, model: keras.Model) -> set[int]:
        self._shut: set[int] = set()
        self._inner: dict[int, keras.Model] = {}
        self.masked: dict[int, keras.KerasTensor] = {}
        self._lost: dict[int, keras.KerasTensor] = {}  # held, so that no identity is given again
        self.model = walk(model, self._call)
        return self._shut

    def has_lost(self, tensor: keras.KerasTensor) -> bool:
        """Whether a tensor lost its mask to a layer, as to attention: others do not see it then."""
        return id(tensor) in self._lost

    def _call(self, layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        if self._lost:
            args, kwargs = keras.tree.map_structure(self._without_mask, (args, kwargs))
        if is_graph(layer):
            if self._has_masks:
                return self._nested(layer, args, kwargs)
            if id(layer) not in self._inner:
                self._inner[id(layer)], _ = opened(layer)
            return self._inner[id(layer)](*args, **kwargs)
        if id(layer) in self.composed - self._shut:
            found = self._opened(layer, args, kwargs)
            if found is not None:
                return found
            self._shut.add(id(layer))
        found = reshaped(layer, args, kwargs)
        if found is not None:
            return found
        found = layer(*args, **kwargs)
        if isinstance(layer, Masked):
            self.masked[id(layer)] = found
        return found

    def _nested(self, graph: keras.Model, args: tuple, kwargs: dict) -> Any:
        """Returns what a model gives, opened wherever that can be written down."""
        try:
            return self._through(graph, args, kwargs, _run(graph))
        except Exception:  # as it is then; what the whole gives is compared all the same
            return graph(*args, **kwargs)

    def _without_mask(self, part: Any) -> Any:
        lost = isinstance(part, keras.KerasTensor) and self.has_lost(part)
        return masked(part, None) if lost else part

    def _opened(self, layer: keras.Layer, args: tuple, kwargs: dict) -> Any:
        """Returns what a layer's call gives for the graph's tensors; None where it is no graph."""
        given = {key: e for key, e in kwargs.items() if key != "training" and e is not None}
        tensors = _tensors((args, given))
        if type(layer) is layers.Bidirectional:
            found = _both_ways(layer, *args, **given)
            return _with_masks(layer, args, given, found) if has_mask(tensors) else found
        floats = [each for each in tensors if "float" in each.dtype]  # others no layer casts
        if any(each.dtype != layer.compute_dtype for each in floats):
            return None
        try:
            if isinstance(layer, layers.TimeDistributed) and type(layer.layer) is layers.Dense:
                return layer.layer(args[0])  # which it calls at each time
            if type(layer) is layers.TimeDistributed and isinstance(layer.layer, _RECURRENT):
                return self._through(layer, args, given, _each_time(layer), leaves_of(layer))
            return self._through(layer, args, given, layer.call, leaves_of(layer))
        except Exception:
            return None  # it may do whatever cannot be written down

    def _through(
        self,
        layer: keras.Layer,
        args: tuple,
        kwargs: dict,
        call: Callable[..., Any],
        wanted: Sequence[keras.Layer] = (),
    ) -> Any:
        """Returns what a call gives, through a model of its own: names of layers may come again.

        Args:
            layer: What is called.
            args: Of the call.
            kwargs: Of the call.
            call: What it does.
            wanted: Layers that have to be seen in it.

        Raises:
            ValueError: One is not, or the call cannot be written down.
        """
        flat = keras.tree.flatten((args, kwargs))
        outside = {id(each): each for each in _tensors(flat)}
        masks = {key: mask_of(each) for key, each in outside.items() if mask_of(each) is not None}
        given = list({**outside, **{id(mask): mask for mask in masks.values()}}.values())
        inputs = {id(t): keras.Input(batch_shape=t.shape, dtype=t.dtype) for t in given}
        inside = {key: inputs[key] for key in outside}
        inside |= {key: masked(inputs[key], inputs[id(mask)]) for key, mask in masks.items()}
        marks = {key: inside[key]._keras_history.operation for key in masks}
        filled = [inside.get(id(each), each) for each in flat]
        inner_args, inner_kwargs = keras.tree.pack_sequence_as((args, kwargs), filled)
        if masks and not is_graph(layer):
            inner_kwargs = told(layer, inner_args, inner_kwargs)
        found = call(*inner_args, **inner_kwargs)
        if not is_graph(layer):
            found = shaped(found, layer.compute_output_spec(*args, **kwargs))
        lost = {key for key in masks if mask_of(inside[key]) is None}
        traced = keras.Model(list(inputs.values()), keras.tree.flatten(found))
        composed = _composed_in(traced, self._has_masks)
        opener = _Opener(traced, composed, self._has_masks)
        seen = {id(each) for each in inner_layers(opener.model)}
        if not seen.issuperset(map(id, wanted)) or not has_rows(opener.model):
            raise ValueError("expected a call that can be written down, got another")
        lost |= {
            key
            for key, mark in marks.items()
            if id(mark) in opener.masked and opener.has_lost(opener.masked[id(mark)])
        }
        outputs = opener.model.outputs
        own = [mask_of(each) for each in outputs]
        some = [mask for mask in own if mask is not None]
        results = keras.tree.flatten(keras.Model(opener.model.inputs, [*outputs, *some])(given))
        outer = iter(results[len(outputs) :])
        own = [None if mask is None else next(outer) for mask in own]
        whole = keras.tree.pack_sequence_as(found, results[: len(outputs)])
        if self._has_masks:
            whole = _with_masks(layer, args, kwargs, whole, own)
        self._lost.update({key: outside[key] for key in lost})
        return whole


def _with_masks(
    layer: keras.Layer, args: tuple, kwargs: dict, found: Any, own: Sequence[Any] = ()
) -> Any:
    """Returns what a call gave with the masks that Keras would leave on it.

    Args:
        layer: What was called.
        args: Of the call.
        kwargs: Of the call.
        found: What it gave.
        own: The masks that came out of the call itself; none if left out.
    """
    flat = keras.tree.flatten(found)
    own = list(own) or [None] * len(flat)
    if any(mask is None for mask in own):
        others = passed_on(layer, args, kwargs, len(flat))
        own = [other if mask is None else mask for mask, other in zip(own, others, strict=True)]
    new = [each if m is None else masked(each, m) for each, m in zip(flat, own, strict=True)]
    return keras.tree.pack_sequence_as(found, new)


def _run(graph: keras.Model) -> Callable[..., Any]:
    """Returns a function that calls what a model consists of, one by one."""

    def run(inputs: Any, **kwargs: Any) -> Any:
        given = _tensors(inputs)
        return plain(graph)._run_through_graph(given, call_fn=lambda e, *a, **k: e(*a, **k))

    return run


def _tensors(structure: Any) -> list[keras.KerasTensor]:
    flat = keras.tree.flatten(structure)
    return [each for each in flat if isinstance(each, keras.KerasTensor)]


def leaves_of(layer: keras.Layer) -> list[keras.Layer]:
    """Returns the layers with weights of their own that a layer is made of."""
    found: dict[int, keras.Layer] = {}
    for each in layer._layers:
        leaf = isinstance(each, layers.RNN) or bool(each._trainable_variables)
        found.update({id(each): each} if leaf else {})
        if not isinstance(each, layers.RNN):  # of which the cell is a part
            found.update({id(inner): inner for inner in leaves_of(each)})
    return list(found.values())


def _composed_in(model: keras.Model, has_masks: bool) -> set[int]:
    """Returns the ids of the layers of a model to open: frozen ones too where there are masks.

    What they do to masks, no call tells on the graph's own tensors.
    """
    every = {id(each.operation): each.operation for each in calls_in(model)}
    return {key for key, layer in every.items() if _is_composed(layer, has_masks)}


def _is_composed(layer: keras.Operation, frozen: bool) -> bool:
    """Whether all trainable weights of a layer are those of its layers."""
    if not isinstance(layer, keras.Layer) or is_graph(layer) or isinstance(layer, layers.RNN):
        return False
    if not trained_variables(layer) and not (frozen and layer._layers):
        return False
    own = {id(v) for each in leaves_of(layer) for v in _own_variables(each)}
    return own.issuperset(id(variable) for variable in trained_variables(layer))


def _own_variables(leaf: keras.Layer) -> list[keras.Variable]:
    return leaf.variables if isinstance(leaf, layers.RNN) else leaf._trainable_variables


def _each_time(layer: keras.layers.TimeDistributed) -> Callable[..., keras.KerasTensor]:
    """Returns a function that calls the layer within as such, where Keras does what it does."""
    inner = layer.layer

    def call(inputs: keras.KerasTensor, mask: Any = None) -> keras.KerasTensor:
        if inputs.shape[1] > TIMES:
            raise ValueError(f"inputs: expected at most {TIMES} times, got {inputs.shape[1]}")
        own = [{} if mask is None else {"mask": mask[:, i]} for i in range(inputs.shape[1])]
        found = [inner(inputs[:, i], **each) for i, each in enumerate(own)]
        return keras.ops.stack(found, axis=1)

    return call


def _both_ways(
    layer: keras.layers.Bidirectional,
    sequences: keras.KerasTensor,
    initial_state: Any = None,
    mask: Any = None,
) -> Any:
    """Returns what two recurrent layers give together."""
    both, settings = (layer.forward_layer, layer.backward_layer), [{"mask": mask}, {"mask": mask}]
    if initial_state is not None:
        half = len(initial_state) // 2
        for each, part in zip(settings, (initial_state[:half], initial_state[half:]), strict=True):
            each["initial_state"] = part
    found = [each(sequences, **own) for each, own in zip(both, settings, strict=True)]
    states = []
    if layer.return_state:
        states = [*found[0][1:], *found[1][1:]]
        found = [each[0] for each in found]
    one, other = found
    other = keras.ops.flip(other, axis=1) if layer.return_sequences else other
    if layer.merge_mode is None:
        return [one, other, *states]
    if layer.merge_mode == "concat":
        merged = keras.ops.concatenate([one, other], axis=-1)
    elif layer.merge_mode == "mul":
        merged = one * other
    else:
        merged = (one + other) / (2 if layer.merge_mode == "ave" else 1)
    return [merged, *states] if states else merged
