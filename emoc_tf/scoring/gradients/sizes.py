"""Sizes that a call leaves open when it is written down on the graph's own tensors.

There `keras.ops.shape` tells None where it tells a number else, as the number of images, which
layers hand on: `ops.reshape(x, (ops.shape(x)[0], -1, heads, size))`.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.forward import ANY_SIZE
from emoc_tf.models.graphs import outer_calls, trained_variables

ops = keras.ops


def reshaped(operation: keras.Operation, args: tuple, kwargs: dict) -> keras.KerasTensor | None:
    """Returns what `keras.ops.reshape` gives with all sizes told; None where it needs no help.

    Args:
        operation: That was recorded.
        args: Of its call.
        kwargs: Of its call.
    """
    wanted = getattr(operation, "newshape", None)
    if isinstance(operation, keras.Layer) or not isinstance(wanted, tuple | list):
        return None
    if None not in wanted or len(args) != 1 or kwargs:
        return None
    (given,) = args
    first, *others = (-1 if size is None else size for size in wanted)
    if others.count(-1) == 1 and wanted[0] is None and None not in given.shape[1:]:
        known = -math.prod(others)
        others[others.index(-1)] = math.prod(given.shape[1:]) // known
    if [first, *others].count(-1) == 1:
        return ops.reshape(given, (first, *others))
    return _Rows(others)(given)  # one row for each image


class _Rows(keras.layers.Layer):
    """Gives each row another shape, of which one size may be −1."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__(autocast=False)
        self._shape = tuple(shape)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns (B, *shape)."""
        return tf.reshape(inputs, [tf.shape(inputs)[0], *self._shape])

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        """Returns it, with None for −1."""
        return (input_shape[0], *(None if size == -1 else size for size in self._shape))


def has_rows(model: keras.Model) -> bool:
    """Whether a model can be called, and its trained layers get what they are told to.

    That is a row for each of two images: others get several rows of an image, such as its times
    one by one.
    """
    trained = [each for each in outer_calls(model) if _is_trained(each.operation)]
    rows = [tensor for each in trained for tensor in each.outputs]
    flat = keras.tree.flatten([(each.args, each.kwargs) for each in trained])
    others = [each for each in flat if isinstance(each, keras.KerasTensor)]
    given = [_some(tensor) for tensor in model.inputs]
    wanted = [*model.outputs, *rows, *others]
    try:
        found = keras.Model(model.inputs, wanted)(given, training=False)
    except Exception:  # what it does may not be written down at all
        return False
    ends = len(model.outputs), len(model.outputs) + len(rows)
    # Keras tells sizes of attention that are not, where a value has others than a key.
    fits = all(
        len(one.shape) == len(other.shape)
        and all(a in (None, b) for a, b in zip(other.shape, one.shape, strict=True))
        for one, other in zip(found, wanted, strict=True)
    )
    return fits and all(len(e.shape) > 0 and e.shape[0] == 2 for e in found[slice(*ends)])


def _is_trained(operation: keras.Operation) -> bool:
    return isinstance(operation, keras.Layer) and bool(trained_variables(operation))


def _some(tensor: keras.KerasTensor) -> tf.Tensor:
    """Returns two rows of zeros, of the size of a tensor of the graph; true, if they are masks."""
    rows, *others = tensor.shape
    shape = [rows or 2, *(ANY_SIZE if size is None else size for size in others)]
    return tf.constant(np.ones(shape) if tensor.dtype == "bool" else np.zeros(shape), tensor.dtype)


def shaped(found: object, expected: object) -> object:
    """Returns tensors with the sizes that are expected of them; raises `ValueError` for others."""
    have, want = keras.tree.flatten(found), keras.tree.flatten(expected)
    fits = len(have) == len(want) and all(
        one.dtype == other.dtype
        and len(one.shape) == len(other.shape)
        and all(a in (None, b) for a, b in zip(one.shape, other.shape, strict=True))
        for one, other in zip(have, want, strict=True)
    )
    if not fits:
        raise ValueError(f"expected {expected}, got {found}")
    # What is not told, such as the times of an Einstein sum, is to be known behind.
    return keras.tree.pack_sequence_as(
        found,
        [_with_sizes(one, other) for one, other in zip(have, want, strict=True)],
    )


def _with_sizes(found: Any, expected: Any) -> Any:
    if found.shape == expected.shape or None in expected.shape[1:]:
        return found
    return ops.reshape(found, (-1, *expected.shape[1:]))
