"""Layers whose factors are wrong, in models whose weights hide that: nothing is scored wrong."""

import keras
import numpy as np
import pytest

from emoc_tf.models import graphs
from emoc_tf.scoring import EMOCScorer
from emoc_tf.scoring.gradients import bodies, opening
from tests.scoring import forward_mode, models
from tests.scoring.own_models import scorer_of

layers, ops = keras.layers, keras.ops
IMAGES = np.random.default_rng(0).uniform(0.5, 2, size=(6, 5)).astype(np.float32)


class Tied(layers.Layer):
    """Uses the kernel of another layer, which no graph tells."""

    def __init__(self, owner, **kwargs):
        super().__init__(**kwargs)
        self.owner = [lambda: owner.kernel]

    def call(self, inputs):
        return ops.matmul(inputs, ops.transpose(self.owner[0]()))


def tied(before=lambda x: x, gate=lambda x: x, head="glorot_uniform"):
    """A layer whose kernel is used twice, once behind what may be 0."""
    image = keras.Input((5,))
    owner = layers.Dense(5, activation="tanh", name="owner")
    hidden = gate(Tied(owner)(owner(before(image))))
    x = ops.tanh(layers.Add()([image, hidden]))
    return keras.Model(image, layers.Dense(3, kernel_initializer=head, name="head")(x))


def zero_scale(trainable=True):
    return layers.BatchNormalization(gamma_initializer="zeros", trainable=trainable)


class Gate(layers.Layer):
    """A scalar that starts at 0, as in ReZero."""

    def build(self, shape):
        self.gate = self.add_weight(shape=(), initializer="zeros")

    def call(self, inputs):
        return self.gate * inputs


HIDING = {
    "a head of zeros": lambda: tied(head="zeros"),
    "a scale of zeros": lambda: tied(gate=zero_scale()),
    "a frozen scale of zeros": lambda: tied(gate=zero_scale(False)),
    "a gate of your own": lambda: tied(gate=Gate()),
}


def assert_right(scorer, model, images=IMAGES):
    found = scorer.scores(images[:3], images[3:])
    expected = forward_mode.scores(model, images[:3], images[3:])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())
    assert expected.min() > 0


@pytest.mark.parametrize("name", HIDING)
def test_weights_of_zero_hide_nothing(name):
    """Right and wrong factors gave 0 alike, and were wrong as soon as the model was trained."""
    model = HIDING[name]()
    weights = [value.copy() for value in model.get_weights()]
    before = scorer_of(model)
    for value, other in zip(model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(value, other)  # they are no business of a scorer's
    models.randomised(model)
    assert_right(before, model)
    assert_right(scorer_of(model), model)


def test_what_is_not_finite_proves_nothing():
    """Of the images that are tried first some numbers are below 0.45."""
    model = tied(before=lambda x: ops.log(x - 0.45))
    assert_right(scorer_of(model), model)


def dead():
    image = keras.Input((5,))
    x = layers.Dense(4, activation="relu", bias_initializer=keras.initializers.Constant(-9.0))(
        image
    )
    return keras.Model(image, layers.Dense(3, kernel_initializer="zeros")(x))


def behind_logarithms():
    image = keras.Input((5,))
    x = layers.Dense(4, activation="tanh")(ops.log(image))
    return keras.Model(image, layers.Dense(3)(x))


def unconnected():
    image = keras.Input((5,))
    x = layers.Dense(4, activation="tanh")(image)
    x = layers.Add()([x, ops.stop_gradient(layers.Dense(4)(x))])
    return keras.Model(image, layers.Dense(3)(x))


def equal_words():
    """Attention to words that are all alike has no gradient."""
    text = keras.Input((4,), dtype="int32")
    x = layers.Embedding(5, 4)(text)
    x = layers.MultiHeadAttention(2, 2)(x, x)
    return keras.Model(text, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.parametrize("make", [dead, behind_logarithms, unconnected, equal_words])
def test_other_weights_and_images_prove_what_the_first_do_not(make):
    assert all(layer.contraction != "generic" for layer in EMOCScorer(make()).plan())


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
def test_layers_opened_to_something_else_stay_shut(monkeypatch):
    def opened_wrongly(model):
        graph, ids = opening.opened(model)
        assert ids  # of attention

        def call(layer, *args, **kwargs):
            found = layer(*args, **kwargs)
            return 1.1 * found if isinstance(layer, layers.GlobalAveragePooling1D) else found

        return graphs.walk(graph, call), ids

    image = keras.Input((4, 6))
    x = layers.MultiHeadAttention(2, 3)(image, image)
    x = ops.tanh(layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))
    model = models.randomised(keras.Model(image, layers.Dense(3)(x)))
    images = np.random.default_rng(0).normal(size=(6, 4, 6)).astype(np.float32)
    monkeypatch.setattr(bodies, "opened", opened_wrongly)
    assert_right(EMOCScorer(model), model, images)


class Shift(layers.Layer):
    """Weights that are the same for all examples, as one row."""

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[1:], initializer="normal")

    def call(self, x):
        return self.shift[None]

    def compute_output_shape(self, shape):
        return (1, *shape[1:])


class Centred(layers.Layer):
    """What looks at the images beside."""

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 2), initializer="normal")

    def call(self, x):
        x = x @ self.kernel
        return x - keras.ops.mean(x, axis=0, keepdims=True) / 2


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
def test_an_output_without_a_row_for_each_example_is_no_batch():
    image = keras.Input((4, 3))
    x = layers.Dense(2, activation="tanh")(keras.ops.add(image, Shift()(image)))
    model = keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))
    model = models.randomised(model)
    images = models.inputs(model, 5)
    found = EMOCScorer(model).scores(images[:2], images[2:])
    np.testing.assert_allclose(found, forward_mode.scores(model, images[:2], images[2:]), rtol=1e-4)


def test_a_layer_that_looks_at_the_images_beside_is_named():
    image = keras.Input((4,))
    model = keras.Model(image, layers.Dense(3)(Centred()(image)))
    with pytest.raises(ValueError, match="expected outputs of an image that follow from it alone"):
        EMOCScorer(model)
