"""Recurrent layers of any cell: their gradients from the cell's steps, all at once.

To all that the cell returns at a time, its output and its states, zeros are added: their gradient
is δ there. With the states that it got at that time a step can be taken again without those before
it, so that all times and examples are differentiated together, without a loop.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from emoc_tf.models.graphs import trained_variables
from emoc_tf.scoring.gradients.local import LocalStage, is_tensor

layers, ops, tree = keras.layers, keras.ops, keras.tree

_KINDS = layers.RNN, layers.SimpleRNN, layers.LSTM, layers.GRU
# A subclass may have others.
_LOOPS = {(kind.call, kind.inner_loop) for kind in _KINDS}
_NUMBERS = itertools.count()  # names must differ within a model


def has_steps(layer: keras.Operation, args: tuple, kwargs: dict) -> bool:
    """Whether a call is of a recurrent layer whose steps can be taken apart."""
    kind = type(layer)
    if not isinstance(layer, layers.RNN) or (kind.call, kind.inner_loop) not in _LOOPS:
        return False
    if "call" in vars(layer) or not isinstance(layer.cell, keras.Layer) or layer.stateful:
        return False
    if [*map(id, trained_variables(layer))] != [*map(id, trained_variables(layer.cell))]:
        return False
    sequence, _, _ = _given(*args, **kwargs)
    plain = len(sequence.shape) == 3 and sequence.shape[-1] is not None
    return plain and sequence.dtype == layer.compute_dtype and _has_vectors(layer)


def _has_vectors(layer: keras.Layer) -> bool:
    """Whether all states of a layer's cell are rows of numbers, as many as it tells."""
    states = [tf.convert_to_tensor(each) for each in tree.flatten(layer.get_initial_state(1))]
    sizes = [int(size) for size in tree.flatten(layer.cell.state_size)]
    return [tuple(each.shape) for each in states] == [(1, size) for size in sizes] and all(
        each.dtype == layer.compute_dtype for each in states
    )


def _given(
    sequences: Any, initial_state: Any = None, mask: Any = None, training: Any = None
) -> tuple[keras.KerasTensor, list[keras.KerasTensor], keras.KerasTensor | None]:
    """Returns the arguments of a recurrent layer's call."""
    return sequences, [each for each in tree.flatten(initial_state) if is_tensor(each)], mask


class StepsStage(LocalStage):
    """The zeros that are added to what a layer's cell returns, (B, T, n).

    Its inputs are the layer's, and those states that the cell got at each time, side by side.
    """

    def __init__(self, layer: keras.Layer) -> None:
        super().__init__(layer, (), {})
        cell = layer.cell
        states = tuple(int(size) for size in tree.flatten(cell.state_size))
        first = getattr(cell, "output_size", None)
        self.parts = (states[0] if first is None else int(first), *states)

    def linear(self, inputs: tf.Tensor) -> tf.Tensor:
        """Returns the zeros for a sequence (B, T, features)."""
        one = ops.zeros_like(inputs[..., :1])
        return ops.repeat(one, sum(self.parts), axis=-1)

    def again(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns what the cell gives at each time, its output and states side by side."""
        sequence, states = inputs
        flat = [tf.reshape(each, [-1, each.shape[-1]]) for each in (sequence, states)]
        found = tf.concat(self.step(flat[0], tf.split(flat[1], self.parts[1:], -1)), -1)
        return tf.reshape(found, [*tf.unstack(tf.shape(sequence)[:2]), found.shape[-1]])

    def step(self, inputs: tf.Tensor, states: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the output and the states after a step of the cell, (n, size) each."""
        form = tuple(self.layer.get_initial_state(1))
        states = tree.pack_sequence_as(form, list(states))
        output, states = self.layer.cell(inputs, states, training=False)
        return [output, *tree.flatten(states)]


class _Added(keras.layers.Layer):
    """A cell to whose results something is added, and which shows the states that it got."""

    def __init__(self, stage: StepsStage, features: int) -> None:
        super().__init__(dtype=stage.layer.dtype_policy)
        self._stage, self._features = stage, features
        self._recurrent = stage.layer
        self.state_size = stage.layer.cell.state_size
        self.output_size = sum(stage.parts)

    def call(self, inputs, states):
        stage, flat = self._stage, tree.flatten(states)
        inputs, added = ops.split(inputs, [self._features], axis=-1)
        added = ops.split(added, list(itertools.accumulate(stage.parts))[:-1], axis=-1)
        pairs = zip(stage.step(inputs, flat), added, strict=True)
        output, *new = [each + zeros for each, zeros in pairs]
        return ops.concatenate([output, *flat], axis=-1), tree.pack_sequence_as(states, new)

    def get_initial_state(self, batch_size=None):
        return self._recurrent.get_initial_state(batch_size)


class Steps(keras.layers.Layer):
    """What a recurrent layer returns, and before it the states that its cell got at each time.

    Args:
        stage: Whose zeros it is given.
        features: Numbers of an input at a time.
    """

    def __init__(self, stage: StepsStage, features: int) -> None:
        layer = stage.layer
        super().__init__(name=f"{layer.name}_steps_{next(_NUMBERS)}", dtype=layer.dtype_policy)
        self.supports_masking = True
        self._layer, self._size = layer, stage.parts[0]
        self._rnn = layers.RNN(
            _Added(stage, features),
            return_sequences=True,
            return_state=True,
            go_backwards=layer.go_backwards,
            unroll=layer.unroll,
            zero_output_for_mask=layer.zero_output_for_mask,
            dtype=layer.dtype_policy,
        )

    def call(self, inputs: Sequence[tf.Tensor], mask: Any = None) -> tuple:
        """Returns the states before each time, (B, T, states), and what the layer returns.

        Args:
            inputs: The sequence, the zeros, and the first states if they are given.
            mask: Of the sequence, alone or first in a list; or None.
        """
        sequence, added, *initial = inputs
        if isinstance(mask, list | tuple):  # Keras does not pass one on beside states
            mask = None if initial else mask[0]
        form = self._layer.get_initial_state(1)
        every, *states = self._rnn(
            ops.concatenate([sequence, added], axis=-1),
            initial_state=tree.pack_sequence_as(form, initial) if initial else None,
            mask=mask,
            training=False,
        )
        outputs, before = every[..., : self._size], every[..., self._size :]
        if self._layer.go_backwards:
            before = ops.flip(before, axis=1)
        if mask is not None:  # there Keras shows zeros before the first time, not the states
            first = initial or tree.flatten(self._layer.get_initial_state(ops.shape(sequence)[0]))
            first = ops.concatenate(first, axis=-1)[:, None]
            before = ops.where(mask[..., None], before, first)
        outputs = outputs if self._layer.return_sequences else outputs[:, -1]
        return before, outputs, *(states if self._layer.return_state else [])

    def compute_mask(self, inputs: Sequence[tf.Tensor], previous_mask: Any) -> tuple:
        """Returns the masks of what is returned, as the layer's."""
        mask = previous_mask[0] if isinstance(previous_mask, list | tuple) else previous_mask
        states = tree.flatten(self._layer.state_size) if self._layer.return_state else []
        return None, (mask if self._layer.return_sequences else None), *(None for _ in states)


def steps(
    layer: keras.Layer, args: tuple, kwargs: dict
) -> tuple[StepsStage, list[keras.KerasTensor], keras.KerasTensor, list[keras.KerasTensor]]:
    """Returns the stage of a call, its inputs, its zeros and what the layer returns."""
    sequence, initial, mask = _given(*args, **kwargs)
    stage = StepsStage(layer)
    added = stage(sequence)
    before, *outputs = Steps(stage, math.prod(sequence.shape[2:]))(
        [sequence, added, *initial], mask=mask
    )
    return stage, [sequence, before], added, outputs
