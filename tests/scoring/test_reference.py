"""The literal reference is checked against nothing but definitions: real gradient steps."""

import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.scoring import reference
from tests.scoring import literal, models


@pytest.mark.parametrize("output", ["logits", "softmax"])
@pytest.mark.parametrize("regularizer", [True, False])
@pytest.mark.parametrize("name", ["dense", "convolutional", "unusual"])
def test_scores_agree_with_a_real_gradient_step(name, regularizer, output):
    model = models.make(name)
    images = models.images(7, model.input_shape[1:])
    x, candidates, labels = images[:4], images[4:], np.array([0, 2, 1])
    scores = reference.scores(model, x, candidates, labels, output, regularizer)

    moved = reference.rebuild(model)
    weights, rate = moved.get_weights(), 1e-7
    gradient = literal.gradient_function(moved, regularizer)
    function = tf.function(lambda images: moved(images, training=False), autograph=False)

    def outputs():
        logits = function(tf.constant(x, "float64"))
        return (logits if output == "logits" else tf.nn.softmax(logits)).numpy()

    before = outputs()
    for candidate, label, score in zip(candidates, labels, scores, strict=True):
        moved.set_weights(weights)
        step = gradient(candidate, label)
        start = 0
        for variable in moved.trainable_variables:
            size = int(np.prod(variable.shape))
            variable.assign_sub(rate * step[start : start + size].reshape(variable.shape))
            start += size
        change = (outputs() - before) / rate
        assert np.abs(change).sum(axis=1).mean() == pytest.approx(score, rel=1e-5)


def test_rebuilding_keeps_the_function_and_raises_the_precision():
    model = models.make("unusual")
    images = models.images(5, model.input_shape[1:])
    rebuilt = reference.rebuild(model)
    assert {variable.dtype for variable in rebuilt.trainable_variables} == {"float64"}
    np.testing.assert_allclose(
        reference.outputs(rebuilt, images), reference.outputs(model, images), rtol=2e-5, atol=1e-6
    )


def test_frozen_layers_contribute_nothing():
    model = models.make("partly_frozen")
    image = models.images(1, model.input_shape[1:])[0]
    rows = reference.jacobian(reference.rebuild(model), image)
    assert rows.shape == (3, sum(int(np.prod(v.shape)) for v in model.trainable_variables))


def test_the_regulariser_enters_the_gradient():
    model = reference.rebuild(models.make("dense"))
    image = models.images(1, model.input_shape[1:])[0]
    difference = reference.gradient(model, image, 1, True) - reference.gradient(
        model, image, 1, False
    )
    flat = np.concatenate([np.ravel(variable) for variable in model.trainable_variables])
    # Keras keeps the coefficient in float32.
    np.testing.assert_allclose(difference, 2 * np.float32(0.05) * flat, rtol=1e-7, atol=1e-15)


def test_set_scores_give_the_whole_set_its_most_likely_label():
    model = models.make("convolutional")
    images = models.images(6, model.input_shape[1:])
    sets = np.array([[0, 1, 2], [3, 4, -1], [0, 5, 3]])
    log_posterior = tf.nn.log_softmax(reference.outputs(reference.rebuild(model), images)).numpy()
    for row, expected in zip(sets, reference.set_scores(model, images, images, sets), strict=True):
        members = row[row >= 0]
        label = log_posterior[members].sum(axis=0).argmax()
        each = reference.scores(model, images, images[members], np.full(len(members), label))
        assert each.sum() == pytest.approx(expected, rel=1e-12)
