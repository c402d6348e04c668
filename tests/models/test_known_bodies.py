"""What was traced of a body serves the next model on the same layers."""

import gc

import keras
import numpy as np
import pytest

from emoc_tf.models import forward, structure, traces
from emoc_tf.models.known_bodies import known_body
from emoc_tf.models.learner import Learner
from emoc_tf.models.prefix import split

layers = keras.layers
CALLED = []
IMAGES = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)


class Counting(layers.Layer):
    """Notes how often one is called."""

    def call(self, inputs):
        CALLED.append(1)
        return inputs * 2


def deep(*others, frozen=0):
    """Convolutions and a head; how often a part of the body is called, `CALLED` tells."""
    x = image = keras.Input((8, 8, 3))
    for block in range(2):
        x = layers.Conv2D(4, 3, activation="relu", trainable=block >= frozen)(x)
    for each in (*others, Counting(), layers.GlobalAveragePooling2D()):
        x = each(x)
    return keras.Model(image, layers.Dense(3)(x))


BODIES = {
    "plain": lambda: deep(),
    "normalised": lambda: deep(layers.BatchNormalization()),
    "dropout": lambda: deep(layers.Dropout(0.5)),
    "frozen": lambda: deep(frozen=1),
}


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(traces, "_kept", type(traces._kept)())


def grown(model):
    return structure.grow_head(model, 1, np.random.default_rng(0))


@pytest.mark.parametrize("name", BODIES)
def test_a_body_whose_head_grows_is_not_called_again(name):
    model = BODIES[name]()
    body, run = known_body(model), forward.compile_features(model)
    forward.check_repeatable(model)
    before = len(CALLED)
    for change in (grown, grown, lambda last: structure.select_outputs(last, [3, 0])):
        model = change(model)
        forward.check_repeatable(model)
        forward.compile_forward(model)
        assert known_body(model) is body
    features, logits = forward.compile_features(model)(IMAGES)
    assert len(CALLED) == before
    np.testing.assert_array_equal(features, run(IMAGES)[0])
    np.testing.assert_allclose(logits, model(IMAGES, training=False), rtol=1e-5, atol=1e-6)


def test_weights_are_those_of_each_call():
    model = BODIES["normalised"]()
    run = forward.compile_forward(model)
    for layer in model.layers:
        layer.set_weights([np.abs(each) + 0.1 for each in layer.get_weights()])
    for each in (model, grown(model)):
        found = forward.compile_forward(each)(IMAGES)
        np.testing.assert_allclose(found, each(IMAGES, training=False), rtol=1e-5)
    np.testing.assert_array_equal(run(IMAGES), forward.compile_forward(model)(IMAGES))


def test_a_body_that_computes_something_else_is_another_one():
    model = BODIES["normalised"]()
    held = known_body(model)
    assert known_body(model) is held
    next(e for e in model.layers if isinstance(e, layers.BatchNormalization)).epsilon = 0.5
    assert known_body(model) is not held
    assert known_body(BODIES["normalised"]()) is not held


def test_nothing_is_held_of_models_that_are_gone():
    gc.collect()
    model = BODIES["normalised"]()
    first = known_body(model)
    first.once("any", lambda: 1)
    del first
    assert known_body(model).once("any", lambda: 2) == 2


@pytest.mark.parametrize("name", BODIES)
def test_layers_hold_no_more_calls_for_it(name):
    model = BODIES[name]()
    body = [each for each in model.layers if not isinstance(each, layers.Dense | layers.InputLayer)]

    def calls():
        return sum(len(layer._inbound_nodes) for layer in body)

    before = calls()
    forward.compile_features(model)
    model = grown(model)
    forward.compile_features(model)
    split(model)  # a part from the first trainable layer on is another graph
    assert calls() - before <= (len(body) - 1 if name == "frozen" else 0)


def other_outputs(kind):
    """Two models on the same layers, of two outputs of one operation; no architecture tells."""
    signal = keras.Input((3, 2))
    x = layers.BatchNormalization()(signal)
    if kind == "split":
        x = layers.Dense(6, activation="tanh")(layers.Flatten()(x))
        found = keras.ops.split(x, 2, axis=-1)
    elif kind == "states":
        found = layers.LSTM(3, return_state=True, unroll=True)(x)[1:]
    else:
        inside = keras.Input((3, 2))
        first = layers.Dense(3, activation="tanh")(layers.Flatten()(inside))
        both = [first, layers.Dense(3, activation="tanh")(first)]
        found = keras.Model(inside, both)(x)
    return [keras.Model(signal, layers.Dense(3)(each)) for each in found]


OTHER_OUTPUTS = "split", "states", "backbone"
SIGNALS = np.random.default_rng(1).normal(size=(6, 3, 2)).astype(np.float32)


@pytest.mark.parametrize("kind", OTHER_OUTPUTS)
def test_features_are_those_of_the_output_that_is_used(kind):
    models = other_outputs(kind)
    runs = [forward.compile_features(model) for model in models]
    for model, run in zip(models, runs, strict=True):
        features, logits = run(SIGNALS)
        expected = structure.feature_extractor(model)(SIGNALS, training=False)
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(logits, model(SIGNALS, training=False), rtol=1e-5, atol=1e-6)


def learnt(model, *others):
    """Returns the weights after some iterations, while learners of others are held."""
    settings = {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 4, "old_fraction": 0.5}
    held = [Learner(each, SIGNALS, **settings) for each in (*others, model)]
    held[-1].train(3, np.array([0, 1], np.int32), np.arange(6) % 3, np.arange(6))
    return model.get_weights()


@pytest.mark.parametrize("kind", OTHER_OUTPUTS)
def test_what_is_trained_is_the_output_that_is_used(kind):
    (first, second), (_, alone) = other_outputs(kind), other_outputs(kind)
    alone.set_weights(second.get_weights())
    for have, want in zip(learnt(second, first), learnt(alone), strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)


def test_a_frozen_layer_without_weights_of_its_own_changes_no_more():
    """Its statistics are what was not frozen before; nothing else of it is trained."""

    def made():
        signal = keras.Input((3, 2))
        plain = layers.BatchNormalization(center=False, scale=False)
        x = plain(layers.Dense(3)(layers.Flatten()(signal)))
        return plain, keras.Model(signal, layers.Dense(3)(keras.ops.tanh(x)))

    (plain, model), (other, alone) = made(), made()
    alone.set_weights(model.get_weights())
    held = known_body(model), forward.compile_features(model)
    trained = learnt(structure.grow_head(model, 0, np.random.default_rng(0)))
    assert held and not np.array_equal(trained[2], alone.get_weights()[2])
    model.set_weights(alone.get_weights())
    plain.trainable = other.trainable = False
    for have, want in zip(learnt(model), learnt(alone), strict=True):
        np.testing.assert_array_equal(have, want)
