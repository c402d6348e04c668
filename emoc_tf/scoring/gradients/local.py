"""The way for layers that have no stages: their own gradients, a batch of examples at once.

The backward pass to what a layer returns is that of all layers. From there on the layer alone is
differentiated, for each example and row: vectorised where that gives what one at a time gives.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.graphs import trained_variables
from emoc_tf.scoring.gradients.masks import has_mask, mask_of
from emoc_tf.scoring.gradients.stages import Stage

ops = keras.ops

TOLERANCE = 1e-4
# Examples and rows: what can be vectorised for some numbers of them may fail for others.
SIZES = (2, 2), (1, 1), (2, 1), (1, 2), (3, 2)


class LocalStage(Stage):
    """A call of a layer as it is, with its inputs and its output in view.

    Args:
        layer: Any layer whose outputs have sizes that the graph tells.
        args: Of its call; tensors in it stand for those that will be given.
        kwargs: Of its call.
    """

    groups = 0

    def __init__(self, layer: keras.Layer, args: tuple, kwargs: dict) -> None:
        super().__init__(layer, None, None)
        self.supports_masking = True  # the output gets its mask by the graph
        tensors = [each for each in keras.tree.flatten((args, kwargs)) if is_tensor(each)]
        masks = {id(mask_of(each)): mask_of(each) for each in tensors if has_mask(each)}
        # A tensor may come with a mask, which layers get without being told: it is given behind.
        self.given = [*tensors, *masks.values()]
        places = {key: len(tensors) + i for i, key in enumerate(masks)}
        self._masks = [places.get(id(mask_of(each))) for each in tensors]
        self._form = keras.tree.map_structure(
            lambda part: None if is_tensor(part) else part, (args, kwargs)
        )
        self._at = keras.tree.flatten(keras.tree.map_structure(is_tensor, (args, kwargs)))

    def linear(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the layer's output; of several ones `numbers` side by side, (B, size)."""
        for tensor, place in zip(inputs, self._masks, strict=False):
            if place is not None:
                tensor._keras_mask = inputs[place]
        tensors = iter(inputs)
        flat = keras.tree.flatten(self._form)
        filled = [next(tensors) if at else part for part, at in zip(flat, self._at, strict=True)]
        args, kwargs = keras.tree.pack_sequence_as(self._form, filled)
        found = keras.tree.flatten(self.layer(*args, **{**kwargs, "training": False}))
        if len(found) == 1:
            return found[0]
        flat = [tf.reshape(e, [-1, math.prod(e.shape[1:])]) for e in numbers(found)]
        return tf.concat([ops.cast(each, _finest(flat)) for each in flat], -1)

    def compute_mask(self, inputs: Sequence[tf.Tensor], previous_mask: object) -> None:
        """Returns no mask."""

    def again(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the output for some examples by themselves."""
        return self.linear(inputs)

    def positions(self, shape: tuple[int | None, ...]) -> None:
        """Returns that they are not known."""

    def deltas(self, gradient: tf.Tensor) -> tf.Tensor:
        """Returns the gradient as it is."""
        return gradient


def seen(outputs: Sequence[keras.KerasTensor]) -> bool:
    """Whether a layer's outputs can be taken for one: numbers, whose sizes the graph tells.

    Integers among them have no gradient: the layer gives them beside.
    """
    found = numbers(outputs)
    return bool(found) and (len(outputs) == 1 or all(None not in e.shape[1:] for e in found))


def numbers(outputs: Sequence[Any]) -> list[Any]:
    """Returns those of a layer's outputs that are no integers."""
    return [each for each in outputs if _is_number(each)]


def _is_number(tensor: Any) -> bool:
    return "float" in keras.backend.standardize_dtype(tensor.dtype)


def _finest(tensors: Sequence[Any]) -> str:
    """Returns the type in which no digits of some numbers are lost."""
    return keras.backend.result_type(*(each.dtype for each in tensors))


def taken_apart(
    z: keras.KerasTensor, outputs: Sequence[keras.KerasTensor]
) -> list[keras.KerasTensor]:
    """Returns tensors shaped as some outputs, of their numbers side by side.

    Args:
        z: See `LocalStage.linear`.
        outputs: What the layer returns, of which integers are taken as they are.
    """
    found = numbers(outputs)
    ends = list(itertools.accumulate(math.prod(each.shape[1:]) for each in found))
    parts = iter(ops.split(z, ends[:-1], axis=-1) if len(found) > 1 else [z])
    return [
        ops.cast(ops.reshape(next(parts), (-1, *each.shape[1:])), each.dtype)
        if _is_number(each)
        else each
        for each in outputs
    ]


def is_tensor(part: object) -> bool:
    """Whether a part of a call's arguments is a tensor of the graph."""
    return isinstance(part, keras.KerasTensor)


def rows(
    stage: LocalStage,
    values: Mapping[int, tf.Tensor],
    inputs: Sequence[tf.Tensor],
    deltas: tf.Tensor,
    vectorised: bool,
) -> list[tf.Tensor]:
    """Returns the gradients of a layer's variables, (B, R, size) each.

    Args:
        stage: The call.
        values: Of all variables of the model's body, by id.
        inputs: (B, ...) each.
        deltas: (B, R, ...) gradients with respect to the output.
        vectorised: Whether over examples and rows at once, or one at a time.
    """
    variables = trained_variables(stage.layer)
    own = [values[id(variable)] for variable in variables]
    signature = [each.dtype for each in own]  # of the output it may be another

    def every(function: Callable, elements: object) -> list[tf.Tensor]:
        if vectorised:
            return tf.vectorized_map(function, elements)
        return tf.map_fn(function, elements, fn_output_signature=signature)

    def of_example(given: tuple) -> list[tf.Tensor]:
        *example, gradients = given
        tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        with tape:
            tape.watch(own)
            known = [v for v in stage.layer.variables if id(v) in values]  # frozen ones too
            with keras.StatelessScope([(v, values[id(v)]) for v in known]):
                output = stage.again([each[None] for each in example])

        def of_row(gradient: tf.Tensor) -> list[tf.Tensor]:
            found = tape.gradient(
                output, own, output_gradients=gradient[None], unconnected_gradients="zero"
            )
            return [tf.reshape(each, [-1]) for each in found]

        return every(of_row, gradients)

    return every(of_example, (*inputs, deltas))


def has_loop(stage: LocalStage, inputs: Sequence[tf.Tensor]) -> bool:
    """Whether a call runs a loop: it could be vectorised, but to trace that takes minutes."""
    one = tf.function(lambda: stage.again(inputs), autograph=False).get_concrete_function()
    return any("While" in operation.type for operation in one.graph.get_operations())


def agree(
    every: Callable[[bool, list[tf.Tensor], tf.Tensor], list[tf.Tensor]],
    inputs: Sequence[tf.Tensor],
    output: tf.Tensor,
) -> bool | None:
    """Whether several examples at once give what one at a time gives; None if all give 0.

    Args:
        every: Function that gives `rows`, of whether they are vectorised, inputs and deltas.
        inputs: Of one example.
        output: Of it.
    """
    tells = False
    for examples, count in SIZES:
        given = [tf.concat([_scaled(each, i) for i in range(examples)], 0) for each in inputs]
        deltas = np.random.default_rng(0).normal(size=(examples, count, *output.shape[1:]))
        deltas = tf.constant(deltas, output.dtype)
        wanted = every(False, given, deltas)
        try:
            found = every(True, given, deltas)
        except Exception:
            return False  # an operation that cannot be, or not for so many
        for have, want in zip(found, wanted, strict=True):
            size = float(tf.reduce_max(tf.abs(want)))
            if not np.allclose(have, want, rtol=0, atol=TOLERANCE * size):
                return False
            tells = tells or size > 0
    return tells or None


def _scaled(example: tf.Tensor, times: int) -> tf.Tensor:
    return tf.cast(0.7**times, example.dtype) * example if example.dtype.is_floating else example
