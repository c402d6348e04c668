"""Graphs of Keras models: walked through, opened, unwrapped, always on the same layers."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras

Call = Callable[..., object]

_NOTING = threading.RLock()


def is_graph(layer: keras.Layer) -> bool:
    """Whether a layer is a functional or Sequential model, whose inner calls can be seen."""
    has_graph = isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))
    return has_graph and not has_own_call(layer)


def has_own_call(model: keras.Model) -> bool:
    """Whether a model computes something that its graph need not tell, in a `call` of its own."""
    return "call" in vars(model) or not type(model).call.__module__.startswith("keras.")


def inputs_of(model: keras.Model) -> object:
    """Returns a model's inputs as it takes them: a tensor, or a structure of tensors."""
    return model.inputs[0] if isinstance(model, keras.Sequential) else model.input


def last_operation(model: keras.Model) -> keras.Operation:
    """Returns what gives the output: a layer, or an operation of `keras.ops`, which is none."""
    return model.outputs[0]._keras_history.operation


def walk(model: keras.Model, call: Call) -> keras.Model:
    """Calls `call(layer, ...)` for every call in a model's graph; the layers are the model's."""
    return keras.models.clone_model(
        plain(model), clone_function=lambda layer: layer, call_function=call
    )


def unwrapped(model: keras.Model) -> keras.Model:
    """Returns a model for any number of images whose head is its own last layer.

    Where the head lies in a nested model, that model's layers are called one by one; a linear
    activation after the head is left out; a fixed number of images is opened. A model without all
    this is returned as it is.
    """
    image, last = model.inputs[0], last_operation(model)
    if image.shape[0] is None and not _is_wrapping(last):
        return model
    opened = keras.Input(image.shape[1:], dtype=image.dtype, name=image.name)
    return unwrapped(keras.Model(opened, _call_on(functional_input(model), opened)))


def functional(model: keras.Model) -> keras.Model:
    """Returns an unwrapped functional model that takes one tensor, not a list or dict."""
    return functional_input(unwrapped(model))


def functional_input(model: keras.Model) -> keras.Model:
    """Returns a functional model on the same graph that takes one tensor, not a list or dict."""
    if isinstance(model, keras.Sequential) or isinstance(model.input, dict | list | tuple):
        return keras.Model(model.inputs[0], model.outputs[0])
    return model


def calls_of_head(model: keras.Model) -> int:
    """Returns how often the head is called in the graph."""
    model = functional(model)
    head = last_operation(model)
    return sum(node.operation is head for node in _nodes(model))


def features_of(model: keras.Model) -> keras.KerasTensor | None:
    """Returns what the last layer of a functional model gets; None unless it is called once."""
    head = last_operation(model)
    calls = [node.arguments for node in _nodes(model) if node.operation is head]
    alone = len(calls) == 1 and len(calls[0].args) == 1 and not any(calls[0].kwargs.values())
    given = calls[0].args[0] if alone else None
    return given if isinstance(given, keras.KerasTensor) else None


@contextlib.contextmanager
def unnoted(model: keras.Model) -> Iterator[None]:
    """Lets layers forget the graphs that are built on them meanwhile, which they would hold.

    These graphs can be called and walked through afterwards. No other model may be made of their
    tensors: it would not find their calls.

    Args:
        model: With the layers.
    """
    with _NOTING:
        every = {id(each): each for each in model._flatten_layers()}
        every |= {id(each.operation): each.operation for each in calls_in(model)}
        notes = [
            getattr(e, n) for e in every.values() for n in ("_inbound_nodes", "_outbound_nodes")
        ]
        before = [len(each) for each in notes]
        try:
            yield
        finally:
            for each, length in zip(notes, before, strict=True):
                del each[length:]


def plain_head(model: keras.Model) -> keras.layers.Dense | None:
    """Returns the last layer of a functional model, if it is a dense one of vectors, called once.

    None too where it shares weights with another layer, or was given adapters.
    """
    head, features = last_operation(model), features_of(model)
    if type(head) is not keras.layers.Dense or features is None or len(features.shape) != 2:
        return None
    if getattr(head, "lora_enabled", False) or getattr(head, "quantization_mode", None):
        return None
    own = {id(variable) for variable in head.variables}
    others = [each for layer in model.layers if layer is not head for each in layer.variables]
    return head if own.isdisjoint(map(id, others)) else None


class Recorded(NamedTuple):
    """A call in a model's graph, as it is recorded."""

    operation: keras.Operation
    args: tuple
    kwargs: dict
    outputs: list[keras.KerasTensor]


def calls_in(model: keras.Model) -> Iterator[Recorded]:
    """Yields each call in a model's graph, and in those of the models in it.

    Nothing is called, which takes seconds in a large model.
    """
    for each in outer_calls(model):
        yield each
        if is_graph(each.operation):
            yield from calls_in(each.operation)


def outer_calls(model: keras.Model) -> Iterator[Recorded]:
    """Yields each call in a model's own graph, in their order."""
    for node in _nodes(plain(model)):
        given = node.arguments
        yield Recorded(node.operation, given.args, given.kwargs, list(node.outputs))


def _nodes(model: keras.Model) -> Iterator[Any]:
    for _, nodes in sorted(model._nodes_by_depth.items(), reverse=True):
        yield from (node for node in nodes if not node.is_input)


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns the layers of a model, those of nested models in their place."""
    nested = [
        flat_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers
    ]
    return [layer for layers in nested for layer in layers]


def inner_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns all layers of a model and of the models in it, each once."""
    found: dict[int, keras.Layer] = {}
    for layer in model.layers:
        inner = inner_layers(layer) if is_graph(layer) else [layer]
        found.update({id(each): each for each in inner})
    return list(found.values())


def trained_variables(layer: keras.Layer) -> list[keras.Variable]:
    """Returns the variables of a layer that are trained.

    A layer that is frozen may hold some: of a layer within it that was unfrozen since.
    """
    return [variable for variable in layer.variables if variable.trainable]


def is_linear(activation: object) -> bool:
    """Whether an activation returns what it gets; Keras takes None for that too."""
    return activation is None or activation is keras.activations.linear


def _is_wrapping(layer: keras.Operation) -> bool:
    if is_graph(layer):
        return len(layer.outputs) == 1
    return type(layer) is keras.layers.Identity or (
        type(layer) is keras.layers.Activation and is_linear(layer.activation)
    )


def _call_on(model: keras.Model, inputs: object) -> keras.KerasTensor:
    """Calls the layers of a model on other inputs, those of a nested model at its end too.

    Args:
        model: The model.
        inputs: Its inputs, as it is called: a tensor, or a list, tuple or dictionary of tensors.
    """
    model = plain(model)
    last, output = last_operation(model), None
    inputs = keras.tree.pack_sequence_as(model.input, keras.tree.flatten(inputs))

    def call(layer, *args, **kwargs):
        nonlocal output
        if layer is not last or not _is_wrapping(layer):
            output = layer(*args, **kwargs)
        elif is_graph(layer):
            output = _call_on(layer, args[0])
        else:
            output = args[0]
        return output

    keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: layer, call_function=call
    )
    return output


def plain(model: keras.Model) -> keras.Model:
    """Returns the same functional graph, not compiled.

    Cloning would compile anew, and cannot where the loss is a function of the user's.
    """
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return keras.Model(model.input, model.output) if model.compiled else model
