"""Compiled functions that models of one architecture share: traced once, whatever the weights.

Tracing takes a hundred times as long as a small network's training does, and a new model comes with
each episode and each discovery.
"""

import collections
import hashlib
import json
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.graphs import functional, last_operation

# Beyond, what was not used for longest is traced again. Those of small networks take 4 MB each.
KEPT = 48

# Where a configuration has names of layers; a policy of data types has a name too.
_REFERENCES = frozenset({"keras_history", "input_layers", "output_layers"})
_LAYERS_HAVE = frozenset({"inbound_nodes", "trainable", "batch_shape"})

_CONSTANTS = np.ndarray | tf.Tensor

_kept: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
_lock = threading.RLock()


def architecture(model: keras.Model, head: bool = True) -> str | None:
    """Returns a hash of all that the graph of a model follows from besides its weights.

    Args:
        model: A model that `check_model` accepts.
        head: Whether the number of outputs counts.

    Returns:
        The hash; None where that cannot be told from its layers: one or a function is not Keras'
        own, or holds Python code, an array or a table of words, or a variable is not trained, such
        as the state of a random layer, or is one of `tf.distribute`, which functions change that
        were made for another one.
    """
    if model.non_trainable_variables or not model.trainable_variables:
        return None
    if any(isinstance(v.value, tf.distribute.DistributedValues) for v in model.trainable_variables):
        return None
    if not all(_is_told(layer) for layer in model._flatten_layers()):
        return None
    if any(isinstance(each, keras.Variable | _CONSTANTS) for each in _arguments(model)):
        return None
    try:
        graph = functional(model)
        last = None if head else last_operation(graph)
        told = [_told(graph, last), *_untold(model, last)]
        text = json.dumps(_essence(told, {}), sort_keys=True)
    except (TypeError, ValueError, NotImplementedError):
        return None
    own = [] if last is None else [id(variable) for variable in last.variables]
    types = repr(
        [(v.shape[:-1] if id(v) in own else v.shape, v.dtype) for v in model.trainable_variables]
    )
    return hashlib.sha256((text + types).encode()).hexdigest()


def _told(graph: keras.Model, last: keras.Layer | None) -> dict:
    """Returns the configuration of a model, without how many units its last layer has."""
    config = graph.get_config()
    for layer in config["layers"]:
        if last is not None and layer["name"] == last.name:
            layer["config"] = {**layer["config"], "units": None}
    return config


def _untold(model: keras.Model, last: keras.Layer | None) -> Iterator[Any]:
    """Yields what a configuration does not tell: what was changed by hand, and what is shared.

    Args:
        model: The model.
        last: The layer whose number of units does not count; or None.

    Raises:
        ValueError: A penalty is not Keras' own.
    """
    places = {id(variable): i for i, variable in enumerate(model.trainable_variables)}
    for layer in model._flatten_layers():
        yield [places[id(variable)] for variable in layer.trainable_variables]
        yield {
            name: value
            for name, value in vars(layer).items()
            if name != "name" and name[0] != "_" and isinstance(value, int | float | str | None)
            if layer is not last or name != "units"
        }
        # Within other layers they may be told nowhere else.
        functions = {name: each for name, each in sorted(vars(layer).items()) if name[0] != "_"}
        yield {
            name: f"{each.__module__}.{each.__qualname__}"
            for name, each in functions.items()
            if callable(each) and hasattr(each, "__qualname__")
        }
        yield layer.dtype_policy.name
    for variable in model.trainable_variables:  # ω is made of these, whatever the layers say
        penalty = variable.regularizer
        if penalty is not None and not type(penalty).__module__.startswith("keras."):
            raise ValueError(f"not of Keras: {penalty}")
        yield keras.saving.serialize_keras_object(penalty)


def _arguments(model: keras.Model) -> Iterator[Any]:
    """Yields what the calls in a model's graph and in those of nested models are given."""
    for layer in model._flatten_layers():
        for nodes in getattr(layer, "_nodes_by_depth", {}).values():  # its own, no other model's
            for node in nodes:
                yield from keras.tree.flatten((node.arguments.args, node.arguments.kwargs))


def is_kerass(layer: keras.Layer) -> bool:
    """Whether a layer, and every function it was made with or given, is one of Keras."""
    if isinstance(layer, keras.layers.Lambda) or "call" in vars(layer):
        return False
    functions = [each for each in vars(layer).values() if callable(each)]
    modules = [getattr(each, "__module__", type(each).__module__) for each in (layer, *functions)]
    return all(str(module).startswith("keras.") for module in modules)


def _is_told(layer: keras.Layer) -> bool:
    """Whether a layer's configuration and its weights tell all that it computes with."""
    # A constant of the graph, whatever it was made of; or a table of words, which may be learnt.
    others = (*_CONSTANTS.__args__, tf.saved_model.experimental.TrackableResource)
    return is_kerass(layer) and not any(isinstance(each, others) for each in vars(layer).values())


def _essence(told: Any, numbers: dict[str, int], names: bool = False) -> Any:
    """Returns a configuration without first weights, with layers numbered as they come.

    Args:
        told: Of a model, or a part of it.
        numbers: Of the layers so far, by name; others are added.
        names: Whether texts are names of layers.

    Raises:
        ValueError: It names something that is not Keras' own.
    """
    if isinstance(told, Mapping):
        own = not str(told.get("module") or "keras").startswith("keras")
        if own or told.get("registered_name") not in {None, told.get("class_name")}:
            raise ValueError(f"not of Keras: {told}")
        if "inbound_nodes" in told:  # where an operation is no layer, nothing else tells
            told = {**told, "config": {"trainable": True, **told["config"]}}
        naming = _REFERENCES | ({"name"} if told.keys() & _LAYERS_HAVE else set())
        kept = [key for key in told if not str(key).endswith("_initializer")]
        return {key: _essence(told[key], numbers, names or key in naming) for key in kept}
    if isinstance(told, list | tuple):
        return [_essence(each, numbers, names) for each in told]
    return numbers.setdefault(told, len(numbers)) if names and isinstance(told, str) else told


def once(key: Hashable, trace: Callable[[], Any]) -> Any:
    """Returns what `trace` returned for an equal key.

    Args:
        key: Of all that a compiled function depends on.
        trace: Traces it. The function must hold no variable: it is kept.
    """
    with _lock:
        if key not in _kept:
            _kept[key] = trace()
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]
