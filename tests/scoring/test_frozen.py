"""Scores of models with frozen layers at their beginning."""

import keras
import numpy as np
import pytest

from emoc_tf.models.prefix import split
from emoc_tf.scoring import EMOCScorer, reference
from tests.models.test_prefix import SHAPE, frozen, pooled
from tests.scoring import forward_mode

layers = keras.layers
IMAGES = np.random.default_rng(0).normal(size=(14, *SHAPE)).astype(np.float32)
REFERENCE, CANDIDATES = IMAGES[:6], IMAGES[6:]
SETS = np.array([[0, 1, 2], [3, 4, -1], [5, 6, 7]])


def trained_convolution():
    base = frozen()
    x = image = keras.Input(SHAPE)
    x = layers.Conv2D(3, 3)(base(x, training=False))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


MODELS = {
    "linear": lambda: pooled(frozen(), training=False),
    "hidden layer": lambda: pooled(frozen(), layers.Dense(5, "relu", kernel_regularizer="l2")),
    "dropout": lambda: pooled(frozen(noise=0.5), layers.Dropout(0.5)),
    "convolution": trained_convolution,
}


@pytest.mark.parametrize("kind", MODELS)
def test_scores_are_those_of_the_whole_model(kind):
    model, output = MODELS[kind](), "softmax" if kind == "dropout" else "logits"
    ours = EMOCScorer(model, output)
    assert ours._part.model is not model
    expected = reference.scores(model, REFERENCE, CANDIDATES, output=output)
    np.testing.assert_allclose(ours.scores(REFERENCE, CANDIDATES), expected, rtol=1e-4)
    expected = reference.set_scores(model, REFERENCE, CANDIDATES, SETS, output=output)
    np.testing.assert_allclose(ours.set_scores(REFERENCE, CANDIDATES, SETS), expected, rtol=1e-4)
    assert ours.select_set(REFERENCE, CANDIDATES, SETS).index == expected.argmax()


def test_frozen_weights_count_as_they_are_at_each_call():
    base = frozen()
    model = pooled(base)
    ours = EMOCScorer(model)
    before = ours.scores(REFERENCE, CANDIDATES)
    base.get_layer("first").kernel.assign(base.get_layer("first").kernel * 2)
    after = ours.scores(REFERENCE, CANDIDATES)
    assert not np.allclose(before, after, rtol=0.01)
    np.testing.assert_allclose(after, reference.scores(model, REFERENCE, CANDIDATES), rtol=1e-4)


def test_a_base_that_is_unfrozen_later_is_told():
    base = frozen()
    model = pooled(base)
    ours = EMOCScorer(model)
    base.trainable = True
    with pytest.raises(ValueError, match="trainable weights changed"):
        ours.scores(REFERENCE, CANDIDATES)


def test_each_image_meets_frozen_layers_once():
    ours, seen = EMOCScorer(pooled(frozen(), layers.Dense(5))), []
    run = ours._part._prefix

    def count(images):
        seen.append(len(images))
        return run(images)

    ours._part._prefix = count
    ours.select_set(REFERENCE, CANDIDATES, SETS[:2])
    assert sum(seen) == len(REFERENCE) + 5  # images in no set are not looked at


def test_outputs_that_are_not_finite_are_told():
    base = frozen()
    for name in ("first", "second"):  # a compiled ReLU may take ∞ − ∞ for 0
        base.get_layer(name).kernel.assign(abs(base.get_layer(name).kernel))
    model = pooled(base)
    huge = np.full((2, *SHAPE), 3e38, np.float32)
    with pytest.raises(ValueError, match="candidates: expected finite"):
        EMOCScorer(model).scores(REFERENCE, huge)


def reading_of(trainable):
    """A model whose function, before all that is trained, reads the kernel of a later layer."""
    later = layers.Dense(4, activation="tanh", name="later", trainable=trainable)
    later.build((None, 4))
    read = layers.Lambda(lambda x: keras.ops.tanh(x @ later.kernel), output_shape=(4,))
    image = keras.Input((4,))
    x = read(layers.Dense(4, trainable=False)(image))
    x = later(layers.Dense(4, activation="tanh")(x))
    return keras.Model(image, layers.Dense(3)(x))


def test_a_function_that_reads_what_is_trained_is_no_part_of_the_prefix():
    """Scores left out what they owe to the weights that it reads."""
    model = reading_of(True)
    images = IMAGES[:6, 0, 0] @ np.ones((3, 4), np.float32) + IMAGES[:6, 0, 1, :1]
    expected = forward_mode.scores(model, images[:3], images[3:])
    with pytest.warns(UserWarning, match="slowly"):
        ours = EMOCScorer(model)
    np.testing.assert_allclose(ours.scores(images[:3], images[3:]), expected, rtol=1e-4)
    assert len(split(model).prefix.layers) == 2  # the frozen layer alone


def test_a_model_in_it_that_is_called_by_name():
    inner_image, image = keras.Input((4,)), keras.Input((4,))
    x = layers.Dense(4, activation="tanh", trainable=False)(inner_image)
    inner = keras.Model(inner_image, layers.Dense(4)(x))
    model = keras.Model(image, layers.Dense(3)(keras.ops.tanh(inner(inputs=image))))
    images = IMAGES[:6, 0, :2].reshape(6, 6)[:, :4]
    expected = forward_mode.scores(model, images[:3], images[3:])
    found = EMOCScorer(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


CALLS = {
    "candidates": lambda ours: ours.scores(REFERENCE, CANDIDATES[:, :2]),
    "labels": lambda ours: ours.scores(REFERENCE, CANDIDATES, np.full(8, 7)),
    "expected": lambda ours: ours.expected_scores(REFERENCE, CANDIDATES[:, :2]),
    "sets": lambda ours: ours.set_scores(REFERENCE, CANDIDATES, SETS + 90),
    "labels of sets": lambda ours: ours.set_scores(REFERENCE, CANDIDATES, SETS, np.full(3, 7)),
    "offsets": lambda ours: ours.select_set(REFERENCE, CANDIDATES, SETS, offsets=[1.0]),
}


def test_all_arguments_are_looked_at_before_images_meet_frozen_layers():
    ours = EMOCScorer(pooled(frozen()))
    ours._part._prefix = lambda images: pytest.fail("long work")
    for name, call in CALLS.items():
        expected = {"expected": "candidates"}.get(name, name.split()[0])
        with pytest.raises(ValueError, match=f"^{expected}: expected"):
            call(ours)
