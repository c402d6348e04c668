"""A body is traced for training once, whatever outputs the model ends in."""

import keras
import numpy as np
import pytest

from emoc_tf.models import graphs, structure, traces, training_step
from emoc_tf.models.learner import Learner

layers = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(12, 6, 6, 2)).astype(np.float32)
LABELS, SEED = np.arange(12) % 3, np.array([3, 4], np.int32)


class Doubling(layers.Layer):
    """A layer that is not Keras' own: only models on the same layers share what is traced."""

    def call(self, inputs):
        return inputs * 2


def of_layers(*middle, **head):
    x = image = keras.Input((6, 6, 2))
    for each in (Doubling(), *middle, layers.GlobalAveragePooling2D()):
        x = each(x)
    return keras.Model(image, layers.Dense(3, **head)(x))


def convolution(**settings):
    return layers.Conv2D(4, 3, activation="relu", **settings)


MODELS = {
    "own layer": lambda: of_layers(convolution(kernel_regularizer="l2"), kernel_regularizer="l2"),
    "normalised": lambda: of_layers(convolution(), layers.BatchNormalization()),
    "dropout": lambda: of_layers(convolution(), layers.Dropout(0.5, seed=7)),
    "frozen": lambda: of_layers(layers.Dropout(0.1, seed=3), convolution(trainable=False)),
    "without bias": lambda: of_layers(convolution(), use_bias=False),
}


def made(model, **settings):
    given = {"learning_rate": 0.05, "momentum": 0.9, "batch_size": 4, "old_fraction": 0.5}
    return Learner(model, IMAGES, **{**given, **settings})


def train(learner, iterations=3):
    count = learner.model.output_shape[-1]
    learner.train(iterations, SEED, LABELS % count, np.arange(12))


def other_heads(model):
    """Yields the model with one more output, two more, and one output of these."""
    for _ in range(2):
        model = structure.grow_head(model, 1, np.random.default_rng(0))
        yield model
    yield structure.select_outputs(model, [4, 0, 1, 3])


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(traces, "_kept", type(traces._kept)())
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_a_body_whose_head_grows_is_not_traced_again_and_learns_the_same(name, monkeypatch):
    traced, forward = [], training_step._forward
    monkeypatch.setattr(training_step, "_forward", lambda *a: traced.append(1) or forward(*a))

    def learnt():
        keras.utils.set_random_seed(0)
        learner = made(MODELS[name]())
        train(learner)
        traced.clear()
        for model in other_heads(learner.model):
            learner.replace_model(model)
            train(learner)
        return learner.get_arrays(), len(traced)

    found, calls = learnt()
    assert calls == 0
    with monkeypatch.context() as patch:
        patch.setattr(graphs, "plain_head", lambda model: None)
        expected, calls = learnt()
    assert calls > 0
    for key, each in expected.items():
        np.testing.assert_array_equal(found[key], each, err_msg=key)


def test_learners_of_one_body_keep_their_own_slots():
    model = MODELS["normalised"]()
    one, other = made(model), made(model)
    train(one)
    assert all(not each.any() for key, each in other.get_arrays().items() if "velocity" in key)


@pytest.mark.parametrize("changed", [{"learning_rate": 0.1}, {"batch_size": 3}])
def test_other_settings_are_traced_anew(changed):
    weights = []
    for before in (False, True):
        model = MODELS["normalised"]()
        start = model.get_weights()
        held = made(model) if before else None
        train(made(model, **changed))
        weights.append(np.concatenate([each.ravel() for each in model.get_weights()]))
        keras.utils.set_random_seed(0)
        assert held is None or held.model is model
        assert any((a != b).any() for a, b in zip(start, model.get_weights(), strict=True))
    np.testing.assert_array_equal(*weights)


def test_a_penalty_that_was_changed_by_hand_counts():
    norms = []
    for penalty in (None, keras.regularizers.L2(1.0)):
        learner = made(MODELS["normalised"]())
        train(learner)
        learner.model.layers[2].kernel.regularizer = penalty
        learner.replace_model(next(other_heads(learner.model)))
        train(learner, 20)
        norms.append(np.linalg.norm(learner.model.layers[2].kernel))
        keras.utils.set_random_seed(0)
    assert norms[1] < 0.5 * norms[0]


def test_a_head_that_the_body_reads_too_is_trained_as_before(monkeypatch):
    """Its kernel must not come into one function both as an argument and captured."""

    def learnt():
        keras.utils.set_random_seed(0)
        head = layers.Dense(3)
        head.build((None, 4))
        read = layers.Lambda(lambda x: x + keras.ops.mean(head.kernel))
        x = image = keras.Input((6, 6, 2))
        for each in (convolution(), layers.GlobalAveragePooling2D(), read, head):
            x = each(x)
        learner = made(keras.Model(image, x))
        train(learner, 10)
        return learner.model.get_weights()

    found = learnt()
    monkeypatch.setattr(graphs, "plain_head", lambda model: None)
    for one, other in zip(found, learnt(), strict=True):
        np.testing.assert_array_equal(one, other)
