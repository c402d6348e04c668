"""Compiled functions that models of one architecture share: traced once, whatever the weights.

Tracing takes a hundred times as long as a small network's training does, and a new model comes with
each episode and each discovery.
"""

import collections
import hashlib
import json
import threading
from collections.abc import Callable, Hashable, Mapping
from typing import Any

import keras

from emoc_tf.models.graphs import functional

# Beyond, what was not used for longest is traced again. Those of small networks take 4 MB each.
KEPT = 32

_kept: collections.OrderedDict[Hashable, Callable] = collections.OrderedDict()
_lock = threading.RLock()


def architecture(model: keras.Model) -> str | None:
    """Returns a hash of all that the graph of a model follows from besides its weights.

    None where that cannot be told from its configuration: a layer or a function is not Keras' own,
    or holds Python code, or a variable is not trained, such as the state of a random layer.
    """
    if model.non_trainable_variables or not model.trainable_variables:
        return None
    if not all(_is_kerass(layer) for layer in model._flatten_layers()):
        return None
    try:
        config = functional(model).get_config()
        told = json.dumps(_stripped({**config, "name": ""}), sort_keys=True)
    except (TypeError, ValueError, NotImplementedError):
        return None
    types = repr([(variable.shape, variable.dtype) for variable in model.trainable_variables])
    return hashlib.sha256((told + types).encode()).hexdigest()


def _is_kerass(layer: keras.Layer) -> bool:
    """Whether a layer, and every function it was made with or given, is one of Keras."""
    if isinstance(layer, keras.layers.Lambda) or "call" in vars(layer):
        return False
    functions = [each for each in vars(layer).values() if callable(each)]
    modules = [getattr(each, "__module__", type(each).__module__) for each in (layer, *functions)]
    return all(str(module).startswith("keras.") for module in modules)


def _stripped(told: Any) -> Any:
    """Returns a configuration without what gives first weights.

    Raises:
        ValueError: It names something that is not Keras' own.
    """
    if isinstance(told, Mapping):
        own = not str(told.get("module") or "keras").startswith("keras")
        if own or told.get("registered_name"):
            raise ValueError(f"not of Keras: {told}")
        kept = {key: each for key, each in told.items() if not str(key).endswith("_initializer")}
        return {key: _stripped(each) for key, each in kept.items()}
    if isinstance(told, list | tuple):
        return [_stripped(each) for each in told]
    return told


def once(key: Hashable | None, trace: Callable[[], Callable]) -> Callable:
    """Returns what `trace` returned for an equal key; without a key it is called each time.

    Args:
        key: Of all that the compiled function depends on.
        trace: Traces it. The function must hold no variable: it is kept.
    """
    if key is None:
        return trace()
    with _lock:
        if key not in _kept:
            _kept[key] = trace()
            while len(_kept) > KEPT:
                _kept.popitem(last=False)
        _kept.move_to_end(key)
        return _kept[key]
