"""What a layer computes with besides its weights: values and functions that it holds."""

import functools
import hashlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Larger arrays count by what object they are, not by their content.
ARRAY_BYTES = 2**20
# What Keras sets as a model is compiled and fitted.
_COMPILED = frozenset({"loss", "optimizer", "history"})


def states_in(layer: keras.Layer) -> dict[tuple[int, str], list[Any]]:
    """Returns what a layer and those in it hold, by the layer's id and a name.

    Texts stand for values; functions, and whatever else has no text, for themselves.
    """
    found: dict[tuple[int, str], list[Any]] = {}
    for each in layer._flatten_layers():
        for name, value in _held(each):
            leaves = list(_leaves(value))
            if leaves:
                found[id(each), name] = leaves
    return found


def told_of(operation: keras.Operation) -> list[str]:
    """Returns what a layer or an operation is, in texts that other processes give too."""
    # What a script defines is in another module in processes that multiprocessing starts.
    module = type(operation).__module__.replace("__mp_main__", "__main__")
    found = [f"{module}.{type(operation).__qualname__}"]
    if isinstance(operation, keras.Layer):
        held = [(name, each) for (_, name), each in states_in(operation).items()]
    else:
        plain = {name: each for name, each in vars(operation).items() if name[0] != "_"}
        held = [(name, list(_leaves(each))) for name, each in sorted(plain.items())]
    for name, leaves in held:
        if name not in ("seed", "name", "input_names", "output_names"):  # drawn, or counted
            found += [f"{name} {_text(each)}" for each in leaves]
    return found


def _text(leaf: Any) -> str:
    if isinstance(leaf, np.ndarray) and leaf.dtype != object:
        return hashlib.sha256(np.ascontiguousarray(leaf)).hexdigest()
    return leaf if isinstance(leaf, str) else getattr(leaf, "__qualname__", type(leaf).__qualname__)


def _held(layer: keras.Layer) -> Iterator[tuple[str, Any]]:
    """Yields names and values of a layer; of one that is not Keras' own hidden ones too."""
    yield "dtype policy", layer.dtype_policy.name
    own = [each for each in type(layer).__mro__ if not is_kerass_module(each.__module__)]
    usual = _usual(isinstance(layer, keras.Model))
    for name, value in sorted(vars(layer).items()):
        if name not in usual and (own or name[0] != "_"):
            yield name, value
    for each in own:
        for name, value in sorted(vars(each).items()):
            if name[:2] != "__" and not callable(value):
                yield f"{each.__name__}.{name}", value


@functools.cache
def _usual(is_model: bool) -> frozenset[str]:
    """Returns the names of what Keras notes down in any layer or model."""
    any_ = keras.Model(name="any") if is_model else keras.Layer(name="any")
    return _COMPILED | vars(any_).keys()


def is_kerass_module(module: str) -> bool:
    """Whether a module is of Keras or TensorFlow, or Python's own."""
    return module.split(".")[0] in {"keras", "tensorflow", "builtins"}


def _leaves(value: Any, depth: int = 0) -> Iterator[Any]:
    """Yields what tells a value; nothing of layers and variables, which are told elsewhere."""
    if isinstance(value, bool | int | float | complex | str | bytes | None | np.generic):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, np.ndarray):
        small = value.nbytes <= ARRAY_BYTES and value.dtype != object
        yield hashlib.sha256(np.ascontiguousarray(value)).hexdigest() if small else value
    elif isinstance(value, dict | list | tuple | set | frozenset) and depth < 4:
        yield f"{type(value).__name__} of {len(value)}"
        items = value.items() if isinstance(value, dict) else value
        for each in sorted(items, key=repr) if isinstance(value, set | frozenset) else items:
            yield from _leaves(each, depth + 1)
    elif isinstance(value, tf.saved_model.experimental.TrackableResource):
        yield value  # a table of words is made anew when it learns others
    elif callable(value) and not isinstance(value, keras.Layer | keras.Variable):
        yield value
        for cell in getattr(value, "__closure__", None) or ():
            if depth < 4:
                yield from _leaves(_content(cell), depth + 1)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None
