"""Recurrent layers against forward mode and the literal reference."""

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import forward_mode, models

layers = keras.layers


def of_signals(*stack):
    x = signal = keras.Input((4, 3))
    for each in stack:
        x = each(x)
    return keras.Model(signal, layers.Dense(3)(x))


def of_words(*stack):
    x = words = keras.Input((4,), dtype="int32")
    for each in (layers.Embedding(9, 3, mask_zero=True), *stack):
        x = each(x)
    return keras.Model(words, layers.Dense(3)(x))


def lstm(**settings):
    return layers.LSTM(2, **settings)


def gru(**settings):
    return layers.GRU(2, **settings)


STAGED = {
    "backwards": lambda: of_signals(
        lstm(return_sequences=True, go_backwards=True, unroll=True), layers.Flatten()
    ),
    "masked": lambda: of_words(gru(return_sequences=True), layers.SimpleRNN(2, use_bias=False)),
    "both ways, masked": lambda: of_words(layers.Bidirectional(lstm(), merge_mode="ave")),
    "both ways": lambda: of_signals(
        layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True)), layers.Flatten()
    ),
}


def inputs_of(model):
    images = models.inputs(model, 6)
    if "int" in model.inputs[0].dtype:
        images = np.random.default_rng(0).integers(1, 9, (6, 4))
    images[::2, 2:] = 0  # which masks hide
    images[1, 0] = 0
    return images


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.parametrize("name", STAGED)
def test_scores_are_right(name):
    model = models.randomised(STAGED[name]())
    images, scorer = inputs_of(model), EMOCScorer(model)
    found, expected = (
        each(images[:3], images[3:])
        for each in (scorer.scores, lambda *given: forward_mode.scores(model, *given))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert "generic" not in {each.contraction for each in scorer.plan()}


def test_the_literal_reference_agrees():
    model = models.randomised(of_signals(gru(recurrent_regularizer="l2", bias_regularizer="l2")))
    images = inputs_of(model)
    found = EMOCScorer(model).expected_scores(images[:3], images[3:])
    np.testing.assert_allclose(
        found, reference.expected_scores(model, images[:3], images[3:]), rtol=1e-5
    )


@pytest.mark.filterwarnings("ignore::UserWarning")  # of speed, and of Keras, of masks
def test_outputs_that_a_mask_makes_zero_are_scored_as_they_are():
    signals = keras.Input((5, 3))
    mask = keras.ops.any(keras.ops.not_equal(signals, 0), axis=-1)
    one = layers.GRU(2, return_sequences=True, zero_output_for_mask=True)(signals, mask=mask)
    model = models.randomised(keras.Model(signals, layers.Dense(3)(layers.Flatten()(one))))
    images = models.inputs(model, 6)
    images[:, 1:3] = 0
    found = EMOCScorer(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, forward_mode.scores(model, images[:3], images[3:]), rtol=1e-5)


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize("how", ["by position", "by name"])
def test_both_ways_from_states_that_are_given(how):
    signals = keras.Input((3, 2))
    states = [layers.Dense(2)(signals[:, i]) for i in (0, 1)]
    both = layers.Bidirectional(layers.SimpleRNN(2))
    x = both(signals, states) if how == "by position" else both(signals, initial_state=states)
    model = models.randomised(keras.Model(signals, layers.Dense(3)(x)))
    images = models.inputs(model, 6)
    found = EMOCScorer(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, forward_mode.scores(model, images[:3], images[3:]), rtol=1e-5)
