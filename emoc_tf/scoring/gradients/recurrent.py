"""Recurrent layers as stages: the times are positions that share the weights.

A cell adds up what it makes of its input, x_t·W, and of its state, h_{t−1}·U. The first is a dense
stage over all times. To the second nothing is added, a tensor of zeros: its gradient is δ there.
"""

import itertools
from collections.abc import Callable

import keras
import tensorflow as tf

from emoc_tf.scoring.gradients.stages import DenseStage, Stage

layers, ops = keras.layers, keras.ops

_NUMBERS = itertools.count()  # names must differ within a model


class HiddenStage(DenseStage):
    """The zeros that are added to h_{t−1}·U, shaped as the first stage's z; a is h_{t−1}."""

    def linear(self, inputs):
        return ops.zeros_like(inputs)


class HiddenOffset(Stage):
    """The zeros that are added where a cell adds a bias, of several rows side by side."""

    groups = 1
    fan_in = 0

    def __init__(self, layer, bias):
        super().__init__(layer, None, bias)
        self._rows, self.units = bias.shape[0], bias.shape[0] * bias.shape[1]

    def linear(self, inputs):
        return ops.concatenate([ops.zeros_like(inputs)] * self._rows, axis=-1)

    def factor(self, inputs, outputs):
        return inputs


def _simple(cell: keras.Layer, z: tf.Tensor, added: list[tf.Tensor], states: list) -> tuple:
    hidden = cell.activation(z + ops.matmul(states[0], cell.recurrent_kernel) + added[0])
    return hidden, [hidden]


def _lstm(cell: keras.Layer, z: tf.Tensor, added: list[tf.Tensor], states: list) -> tuple:
    hidden, carry = states
    z = z + ops.matmul(hidden, cell.recurrent_kernel) + added[0]
    enter, forget, new, leave = ops.split(z, 4, axis=-1)
    gate = cell.recurrent_activation
    carry = gate(forget) * carry + gate(enter) * cell.activation(new)
    hidden = gate(leave) * cell.activation(carry)
    return hidden, [hidden, carry]


def _gru(cell: keras.Layer, z: tf.Tensor, added: list[tf.Tensor], states: list) -> tuple:
    (hidden,), (inner, *offset) = states, added
    inner = inner + ops.matmul(hidden, cell.recurrent_kernel)
    if offset:
        both = offset[0] + ops.reshape(cell.bias, [-1])
        of_input, of_hidden = ops.split(both, 2, axis=-1)
        z, inner = z + of_input, inner + of_hidden
    update, reset, new = ops.split(z, 3, axis=-1)
    inner_update, inner_reset, inner_new = ops.split(inner, 3, axis=-1)
    keep = cell.recurrent_activation(update + inner_update)
    reset = cell.recurrent_activation(reset + inner_reset)
    hidden = keep * hidden + (1 - keep) * cell.activation(new + reset * inner_new)
    return hidden, [hidden]


_STEPS: dict[type[keras.Layer], Callable] = {
    layers.SimpleRNNCell: _simple,
    layers.LSTMCell: _lstm,
    layers.GRUCell: _gru,
}


def recurrent(layer: keras.Layer, rank: int) -> list[Stage]:
    """Stages of a recurrent layer: of its input first."""
    cell = layer.cell
    if type(cell) not in _STEPS or layer.return_state or layer.stateful:
        return []
    if type(cell) is not layers.GRUCell:
        first = DenseStage(layer, cell.kernel, cell.bias)
        return [first, HiddenStage(layer, cell.recurrent_kernel, None)]
    if not cell.reset_after:  # the state is multiplied by a gate before it meets the weights
        return []
    offset = [] if cell.bias is None else [HiddenOffset(layer, cell.bias)]
    first = DenseStage(layer, cell.kernel, None)
    return [first, HiddenStage(layer, cell.recurrent_kernel, None), *offset]


RECURRENT = dict.fromkeys((layers.SimpleRNN, layers.LSTM, layers.GRU), recurrent)


class _Cell(keras.layers.Layer):
    """A step of a cell, from its stages' outputs side by side; it shows h_{t−1} too."""

    def __init__(self, cell: keras.Layer, sizes: list[int]) -> None:
        super().__init__(dtype=cell.dtype_policy)
        self._cell, self._ends = cell, [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
        self.state_size, self.output_size = cell.state_size, 2 * cell.units

    def call(self, inputs, states):
        z, *added = ops.split(inputs, self._ends, axis=-1)
        hidden, new = _STEPS[type(self._cell)](self._cell, z, added, list(states))
        return ops.concatenate([hidden, states[0]], axis=-1), new

    def get_initial_state(self, batch_size=None):
        return self._cell.get_initial_state(batch_size)


class Scan(keras.layers.Layer):
    """What a recurrent layer makes of its stages' outputs, and h_{t−1} of each time."""

    def __init__(self, layer: keras.Layer, sizes: list[int]) -> None:
        super().__init__(name=f"{layer.name}_scan_{next(_NUMBERS)}", dtype=layer.dtype_policy)
        self.supports_masking = True
        self._layer = layer
        self._rnn = layers.RNN(
            _Cell(layer.cell, sizes),
            return_sequences=True,
            go_backwards=layer.go_backwards,
            unroll=layer.unroll,
            zero_output_for_mask=layer.zero_output_for_mask,
            dtype=layer.dtype_policy,
        )

    def call(self, inputs, mask=None):
        together = ops.concatenate(inputs, axis=-1)
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        every, before = ops.split(self._rnn(together, mask=mask, training=False), 2, axis=-1)
        if self._layer.go_backwards:
            before = ops.flip(before, axis=1)
        return (every if self._layer.return_sequences else every[:, -1]), before

    def compute_mask(self, inputs, previous_mask):
        mask = previous_mask[0] if isinstance(previous_mask, list | tuple) else previous_mask
        return (mask if self._layer.return_sequences else None), None
