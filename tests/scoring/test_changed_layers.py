"""Layers whose settings are changed by hand, within other layers and in those of your own."""

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer
from tests.scoring import forward_mode, models

layers, ops = keras.layers, keras.ops
IMAGES = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)


class Own(layers.Layer):
    """Holds all kinds of things, and notes down what it meets."""

    factor = 1.0

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self._hidden, self.listed, self.array = 1.0, [1.0], np.ones(4, np.float32)
        self.function, self.calls, self.last = ops.tanh, 0, None

    def call(self, inputs):
        self.calls, self.last = self.calls + 1, inputs.shape
        return self.function(self.factor * self._hidden * self.listed[0] * self.array * inputs)


def other_factor(model):
    model.get_layer("own").factor = 3.0


def other_hidden(model):
    model.get_layer("own")._hidden = 3.0


def other_list(model):
    model.get_layer("own").listed[0] = 3.0


def other_array(model):
    model.get_layer("own").array[:2] = 3


def other_function(model):
    model.get_layer("own").function = ops.sigmoid


def other_wrapped_activation(model):
    model.get_layer("wrapper").layer.activation = keras.activations.sigmoid


def other_attention(model):
    model.get_layer("attention")._value_dense.activation = keras.activations.sigmoid


CHANGES = (
    other_factor, other_hidden, other_list, other_array, other_function, other_wrapped_activation,
    other_attention,
)  # fmt: skip


def test_an_old_scorer_says_so_and_a_new_one_is_right():
    image = keras.Input((3, 4))
    own = Own(name="own")
    x = layers.TimeDistributed(layers.Dense(4, activation="tanh"), name="wrapper")(own(image))
    x = layers.MultiHeadAttention(1, 2, name="attention")(x, x)
    model = models.randomised(keras.Model(image, layers.Dense(3)(layers.Flatten()(x))))
    scorer = EMOCScorer(model)
    assert_right(scorer, model)  # what is noted down in a call is no change
    for change in CHANGES:
        change(model)
        with pytest.raises(ValueError, match=r"its .* changed since; make a new EMOCScorer"):
            scorer.scores(IMAGES[:3], IMAGES[3:])
        scorer = EMOCScorer(model)
        assert_right(scorer, model)


def assert_right(scorer, model):
    expected = forward_mode.scores(model, IMAGES[:3], IMAGES[3:])
    found = scorer.scores(IMAGES[:3], IMAGES[3:])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())


def test_shared_functions_tell_layers_within_layers_apart():
    def attending(activation):
        image = keras.Input((3, 4))
        attention = layers.MultiHeadAttention(1, 2)
        x = attention(image, image)
        attention._value_dense.activation = activation
        return models.randomised(keras.Model(image, layers.Dense(3)(layers.Flatten()(x))))

    for activation in (keras.activations.linear, keras.activations.tanh):
        changed = attending(activation)
        assert_right(EMOCScorer(changed), changed)
