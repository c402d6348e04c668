"""Models whose layers learnt tables of words, which no configuration tells."""

import keras
import numpy as np
import pytest

from emoc_tf.models import structure
from emoc_tf.models.forward import compile_features
from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import forward_mode, models

layers = keras.layers
WORDS = np.random.default_rng(0).integers(0, 9, (6, 4))


def reading(words):
    table = layers.IntegerLookup()
    table.adapt(words)
    text = keras.Input((4,), dtype="int32")
    x = layers.Flatten()(layers.Embedding(9, 3)(table(text)))
    return models.randomised(keras.Model(text, layers.Dense(3)(x)))


@pytest.fixture(scope="module")
def pair():
    """Two models that differ in what they read alone."""
    return reading(np.arange(1, 8)), reading(np.arange(7, 0, -1) * 3)


def test_each_is_scored_by_its_own_table(pair):
    for model in pair:
        expected = forward_mode.scores(model, WORDS[:3], WORDS[3:])
        found = EMOCScorer(model).scores(WORDS[:3], WORDS[3:])
        np.testing.assert_allclose(found, expected, rtol=1e-4)
    literal = reference.scores(model, WORDS[:3], WORDS[3:])
    np.testing.assert_allclose(literal, expected, rtol=1e-4)


def test_compiled_functions_are_not_shared(pair):
    for model in pair:
        _, logits = compile_features(model)(keras.ops.cast(WORDS, "int32"))
        np.testing.assert_allclose(logits, model(WORDS), rtol=1e-5)


def test_copies_have_the_table(pair):
    for model in pair:
        np.testing.assert_allclose(structure.copy(model)(WORDS), model(WORDS), rtol=1e-6)


def test_a_table_that_learns_other_words_is_noticed(pair):
    scorer = EMOCScorer(pair[0])
    pair[0].layers[1].adapt(np.arange(3, 8))
    with pytest.raises(ValueError, match="settings of layers changed since"):
        scorer.scores(WORDS[:3], WORDS[3:])
