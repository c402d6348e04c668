"""Heads as people build them: behind activations, softmaxes, in nested models."""

import re

import keras
import numpy as np
import pytest

from emoc_tf.models.forward import compile_forward
from tests.scoring import models, own_models
from tests.scoring.own_models import assert_refused, assert_scored, classifier, scorer_of

layers = keras.layers


def test_an_activation_that_was_set_to_none_is_linear():
    model = classifier()
    expected = assert_scored(model)
    model.layers[-1].activation = None
    np.testing.assert_array_equal(assert_scored(model), expected)


@pytest.mark.parametrize("nested", [False, True])
def test_the_way_past_a_softmax_of_a_trained_model(nested):
    softmax = layers.Dense(3, activation="softmax")
    head = keras.Sequential([keras.Input((4,)), softmax]) if nested else softmax
    model = classifier(head=head)
    model.compile(loss="sparse_categorical_crossentropy")
    images = own_models.make_images()
    posterior = model.predict(images, verbose=0)
    told = assert_refused(model, "activation 'softmax'; give it activation=None")
    exec(re.search(r"set (model\..*linear)", told).group(1), {"keras": keras, "model": model})
    logits = compile_forward(model)(images).numpy()
    np.testing.assert_allclose(keras.ops.softmax(logits), posterior, rtol=1e-4)
    assert np.abs(logits.sum(axis=1) - 1).max() > 0.01
    assert_scored(model)


def softmax_layer(model):
    return keras.Model(model.inputs, layers.Softmax()(model.outputs[0]))


def softmax_activation(model):
    return keras.Model(model.inputs, layers.Activation("softmax")(model.outputs[0]))


def softmax_operation(model):
    return keras.Model(model.inputs, keras.ops.softmax(model.outputs[0]))


@pytest.mark.parametrize("build", [softmax_layer, softmax_activation, softmax_operation])
def test_the_way_past_a_softmax_layer(build):
    plain = classifier()
    expected = assert_scored(plain)
    model = build(plain)
    told = assert_refused(model, "drop the softmax")
    way = re.search(r"as (keras\.Model\(.*?\]\.(in|out)put\)) ", told).group(1)
    new = eval(way, {"keras": keras, "model": model})
    np.testing.assert_allclose(assert_scored(new), expected, rtol=1e-6)


def test_a_linear_activation_behind_the_head_is_looked_through():
    model = softmax_activation(classifier())
    model.layers[-1].activation = keras.activations.linear
    assert_scored(model)


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", ["sequential", "functional"])
def test_a_head_in_a_nested_model_is_found(kind, depth):
    model = own_models.nested_head(kind, depth)
    assert_scored(model)
    assert len(scorer_of(model).plan()) == len([w for w in model.weights if w.path[-4:] == "bias"])


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_a_mask_reaches_a_nested_head():
    words = keras.Input((6,), dtype="int32")
    inner = keras.Input((6, 4))
    head = keras.Model(inner, layers.Dense(3)(layers.GlobalAveragePooling1D()(inner)))
    model = keras.Model(words, head(layers.Embedding(11, 4, mask_zero=True)(words)))
    models.randomised(model)
    images = models.inputs(model, 7)
    images[:, 3:] = 0
    logits = compile_forward(model)(images.astype(np.int32))
    np.testing.assert_allclose(logits, model(images), rtol=1e-5, atol=1e-6)
    assert_scored(model, images)


def test_a_head_of_a_class_of_its_own_is_scored_as_what_it_is():
    assert_scored(classifier(head=own_models.Cosine(3)))
