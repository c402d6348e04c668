"""Layers that get masks are opened, or scored in batches, and right."""

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer
from tests.scoring import forward_mode, models

layers, ops = keras.layers, keras.ops


def of_words(build, nested=False):
    words = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(words)
    if nested:
        x = keras.Model(words, x)(words)
    x = build(x)
    x = layers.GlobalAveragePooling1D()(x) if len(x.shape) > 2 else x
    return keras.Model(words, layers.Dense(3)(x))


class Block(layers.Layer):
    """A transformer's block of your own, in which masks travel by themselves."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True
        self.attention, self.add = layers.MultiHeadAttention(2, 2), layers.Add()
        self.norm, self.dense = layers.LayerNormalization(), layers.Dense(4, activation="tanh")

    def build(self, shape):
        self.attention.build(shape, shape)
        self.norm.build(shape)
        self.dense.build(shape)

    def call(self, x):
        return self.dense(self.norm(self.add([x, self.attention(x, x)])))


def transformer(x):
    """As guides of Keras have it: attention takes the mask from what is added to it."""
    frozen = layers.MultiHeadAttention(2, 2)
    x = layers.Add()([layers.MultiHeadAttention(2, 2)(x, x), frozen(x, x)])
    frozen.trainable = False
    x = layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x)])
    return layers.LayerNormalization()(x)


def both_ways(x):
    return layers.Bidirectional(layers.GRU(2, return_sequences=True), merge_mode="mul")(x)


def within(x):
    inside = keras.Input((5, 4))
    return keras.Model(inside, layers.Bidirectional(layers.GRU(2, return_sequences=True))(inside))(
        x
    )


OPENED = {
    "transformer": lambda: of_words(transformer, nested=True),
    "block of your own": lambda: of_words(lambda x: Block()(x)),
    "both ways": lambda: of_words(within, nested=True),
}


class Hidden(layers.Layer):
    """A mask of your own: times of which the first number is 0 are hidden."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True

    def call(self, x):
        return x

    def compute_mask(self, x, previous_mask=None):
        return ops.not_equal(x[..., 0], 0)


def checked(model):
    model = models.randomised(model)
    words = np.random.default_rng(0).integers(0, 9, (6, 5))
    words[:, 1], words[:4, -2:] = 1 + np.arange(6), 0
    scorer = EMOCScorer(model)
    found, expected = (
        scorer.scores(words[:3], words[3:]),
        forward_mode.scores(model, words[:3], words[3:]),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    return {each.contraction for each in scorer.plan()}


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("name", OPENED)
def test_layers_that_get_masks_are_opened(name):
    assert "generic" not in checked(OPENED[name]())


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_attention_with_a_weight_of_its_own_is_scored_in_batches():
    """Its scores, which are a second output, are used too."""

    def attended(x):
        seen, weights = layers.Attention(use_scale=True)([x, x], return_attention_scores=True)
        return layers.Concatenate()([seen, ops.tanh(weights)])

    assert "generic" in checked(of_words(attended))


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_a_mask_that_a_frozen_model_makes_is_not_lost():
    inside, signals = keras.Input((4, 3)), keras.Input((4, 3))
    body = keras.Model(inside, layers.Dense(3)(Hidden()(inside)))
    body.trainable = False
    x = layers.SimpleRNN(2)(body(signals))
    model = models.randomised(keras.Model(signals, layers.Dense(3)(x)))
    images = models.inputs(model, 4)
    images[:, 0, 0] = images[:2, -1, 0] = 0
    found = EMOCScorer(model).scores(images[:2], images[2:])
    np.testing.assert_allclose(found, forward_mode.scores(model, images[:2], images[2:]), rtol=1e-4)
