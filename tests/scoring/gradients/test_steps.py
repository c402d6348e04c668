"""Recurrent layers of any cell are scored in batches, from the cell's steps."""

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer
from tests.scoring import forward_mode, models

layers, ops = keras.layers, keras.ops


class OwnCell(layers.Layer):
    """A cell whose output is none of its two states."""

    def __init__(self, units, **settings):
        super().__init__(**settings)
        self.units, self.state_size, self.output_size = units, [units, 1], units + 1

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units), initializer="normal")
        self.back = self.add_weight(shape=(self.units, self.units), initializer="normal")

    def call(self, inputs, states):
        hidden, count = states
        new = ops.tanh(inputs @ self.kernel + (hidden * ops.sigmoid(count)) @ self.back)
        return ops.concatenate([new * new, count], axis=-1), [new, count + new[:, :1]]


class Averaging(layers.Layer):
    """A cell that divides by a state, which begins at 1."""

    state_size, output_size = [2, 1], 2

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2), initializer="normal")

    def call(self, inputs, states):
        total, count = states
        total = total + ops.tanh(inputs @ self.kernel)
        return total / count, [total, count + 1]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, 2)), ops.ones((batch_size, 1))]


class Table(layers.Layer):
    """A cell whose state is a matrix."""

    state_size, output_size = (2, 2), 2

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2), initializer="normal")

    def call(self, inputs, states):
        new = ops.tanh(inputs @ self.kernel)
        table = 0.5 * states[0] + new[:, :, None] * new[:, None]
        return table[:, 0] + new, [table]

    def get_initial_state(self, batch_size=None):
        return [ops.zeros((batch_size, 2, 2))]


def of_signals(build, masked=False):
    signals = keras.Input((4, 3))
    x = build(layers.Masking()(signals) if masked else signals)
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return keras.Model(signals, layers.Dense(3)(x))


def with_states(x):
    """States that are given, and those that are returned."""
    first = [layers.Dense(2)(x[:, i]) for i in (0, 1)]
    every, hidden, carry = layers.LSTM(2, return_sequences=True, return_state=True)(x, first)
    last = layers.GRU(2, reset_after=False, unroll=True)(every, initial_state=hidden)
    return ops.concatenate([last, carry], axis=-1)


def frozen_in_part(x):
    """Of a class of your own, which does what its base does."""
    kind = type("Mine", (layers.SimpleRNN,), {})
    layer = kind(2, go_backwards=True, return_sequences=True)
    outputs = layer(x)
    layer.cell.recurrent_kernel.trainable = False
    return outputs


STEPS = {
    "own cell, masked": lambda: of_signals(layers.RNN(OwnCell(2), go_backwards=True), True),
    "cells on each other, masked": lambda: of_signals(
        layers.RNN([layers.LSTMCell(2), OwnCell(2)], return_sequences=True), True
    ),
    "divided by a state, masked": lambda: of_signals(layers.RNN(Averaging()), True),
    "states": lambda: of_signals(with_states),
    "frozen in part": lambda: of_signals(frozen_in_part, True),
}


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("name", STEPS)
def test_scores_are_right(name):
    model = models.randomised(STEPS[name]())
    images = models.inputs(model, 6)
    images[::2, 2:] = images[1, 0] = 0  # which masks hide
    found = EMOCScorer(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, forward_mode.scores(model, images[:3], images[3:]), rtol=1e-5)


def test_a_state_that_is_no_row_is_scored_slowly():
    model = models.randomised(of_signals(layers.RNN(Table())))
    images = models.inputs(model, 4)
    with pytest.warns(UserWarning, match="scored exactly but slowly"):
        found = EMOCScorer(model).scores(images[:2], images[2:])
    np.testing.assert_allclose(found, forward_mode.scores(model, images[:2], images[2:]), rtol=1e-4)
