"""What functions of the user's read besides what they are given: variables of other layers.

A graph does not tell it. A call of a `Lambda` or of a layer of the user's is traced to see it.
"""

from typing import Any

import keras
import tensorflow as tf

from emoc_tf.models.traces import is_kerass


def read_by(operation: keras.Operation, args: Any, kwargs: Any) -> tuple[tf.Variable, ...] | None:
    """Returns the variables that a call reads; none where all that is called is Keras' own.

    Args:
        operation: What is called in a graph.
        args: Its arguments by position, symbolic tensors among them.
        kwargs: Its arguments by name.

    Returns:
        The variables; None where it reads something else, such as a table, or fails.
    """
    if not isinstance(operation, keras.Layer):
        return ()
    if all(map(is_kerass, operation._flatten_layers())):
        return ()
    flat = keras.tree.flatten((args, kwargs))
    given = [each for each in flat if isinstance(each, keras.KerasTensor)]

    def call(tensors: list[tf.Tensor]) -> Any:
        now = {id(old): new for old, new in zip(given, tensors, strict=True)}
        filled = [now.get(id(each), each) for each in flat]
        args_, kwargs_ = keras.tree.pack_sequence_as((args, kwargs), filled)
        return operation(*args_, **{"training": False, **kwargs_})

    specs = [tf.TensorSpec(each.shape, each.dtype) for each in given]
    try:
        graph = tf.function(call, autograph=False).get_concrete_function(specs).graph
    except Exception:
        return None  # whoever calls it says why
    known = {id(v.handle): v for v in _variables(operation, graph) if hasattr(v, "handle")}
    captured = [outer for outer, _ in graph.captures if outer.dtype == tf.resource]
    if not known.keys() >= set(map(id, captured)):
        return None
    return tuple(known[id(each)] for each in captured)


def _variables(layer: keras.Layer, graph: tf.Graph) -> list[tf.Variable]:
    return [*graph.variables, *(variable.value for variable in layer.variables)]
