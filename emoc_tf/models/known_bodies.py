"""Bodies of models, known again by what they consist of: what was found out of one is kept.

A model that grew by a class has the body that it had, the same layers in the same places.
"""

import threading
import weakref
from collections.abc import Callable, Hashable
from typing import Any

import keras
import tensorflow as tf

from emoc_tf.models.graphs import calls_in, inner_layers, last_operation, trained_variables
from emoc_tf.models.layer_state import states_in


class KnownBody:
    """What is known of a body, kept as long as somebody holds this.

    Args:
        parts: What it consists of, held so that no identity is given again.
    """

    def __init__(self, parts: list[Any] | None) -> None:
        self._parts, self._found = parts, dict[Hashable, Any]()
        self._lock = threading.RLock()

    def once(self, what: Hashable, find: Callable[[], Any]) -> Any:
        """Returns what `find` returned at the first call with an equal `what`."""
        with self._lock:
            if what not in self._found:
                self._found[what] = find()
            return self._found[what]


# What tells bodies apart are identities, of what they hold.
_alive: weakref.WeakValueDictionary[tuple, KnownBody] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def known_body(model: keras.Model) -> KnownBody:
    """Returns what is known of the body of a functional model: of one that is held, the same."""
    parts = _parts(model)
    if parts is None:
        return KnownBody(None)
    key = tuple(id(part) if _is_held(part) else part for part in parts)
    with _lock:
        found = _alive.get(key)
        if found is None:
            found = _alive[key] = KnownBody(parts)
        return found


def _parts(model: keras.Model) -> list[Any] | None:
    """Returns all that a body follows from besides its weights; None if a variable is an argument.

    What is the same object counts as the same; plain values by themselves.
    """
    head = last_operation(model)
    numbers: dict[int, int] = {}
    parts: list[Any] = [model.inputs[0].shape, model.inputs[0].dtype]
    for operation, args, kwargs, outputs in calls_in(model):
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
        for part in keras.tree.flatten(outputs):  # another one of them may be what is used
            numbers.setdefault(id(part), len(numbers))
    for layer in inner_layers(model):
        if layer is not head and not isinstance(layer, keras.layers.InputLayer):  # made anew
            parts += [*layer._flatten_layers(), *trained_variables(layer)]
            parts += [each.trainable for each in layer._flatten_layers()]
            for (_, name), leaves in states_in(layer).items():
                parts += [name, *leaves]
            parts.append(getattr(layer, "mean", None))  # of a normalisation, once adapted
    return parts


def _is_held(part: Any) -> bool:
    return not isinstance(part, int | float | str | tuple | None)
