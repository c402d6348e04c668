"""Models in many ways of building them: scored as forward mode differentiates what they are."""

import re
import warnings

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import built_models, forward_mode, models
from tests.scoring.own_models import assert_refused, scorer_of

layers, ops = keras.layers, keras.ops


def assert_as_forward_mode(model, images, tolerance=1e-4, **settings):
    """The scores, fast and literal, are those of forward mode; returns them."""
    given = images[:3], images[3:]
    expected = forward_mode.scores(model, *given, **settings)
    assert expected.min() > 0
    for found in (
        scorer_of(model, **settings).scores(*given),
        reference.scores(model, *given, **settings),
    ):
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * expected.max())
    return expected


@pytest.mark.parametrize("name", sorted(built_models.BUILT))
def test_models_as_people_build_them(name):
    model = built_models.make(name)
    assert_as_forward_mode(model, built_models.make_images(model))


def test_variables_that_are_in_one_precision_whatever_the_layer_is_told():
    """They can be scored, but not by the literal reference, which computes in another precision."""
    model = models.randomised(built_models.own_variables())
    images = built_models.make_images(model)
    given = images[:3], images[3:]
    expected = forward_mode.scores(model, *given)
    np.testing.assert_allclose(scorer_of(model).scores(*given), expected, rtol=1e-4)
    with pytest.raises(ValueError, match=r"compute in float64 where .* by self\.add_weight"):
        reference.scores(model, *given)


@pytest.mark.parametrize("settings", [{"output": "softmax"}, {"regularizer": False}])
@pytest.mark.parametrize("name", ["branches", "unfrozen_within_a_block", "adapters"])
def test_other_settings(name, settings):
    model = built_models.make(name)
    assert_as_forward_mode(model, built_models.make_images(model), **settings)


def test_forward_mode_is_the_change_by_a_step():
    """The oracle itself, against outputs of the model after a small step."""
    model = built_models.make("double_precision")
    images = built_models.make_images(model)
    labels, rate = np.array([2, 0, 1, 1]), 1e-6
    expected = forward_mode.scores(model, images[:3], images[3:], labels)
    weights, before = model.get_weights(), np.asarray(model(images[:3]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(rate), loss)
    for image, label, score in zip(images[3:], labels, expected, strict=True):
        model.set_weights(weights)
        model.train_on_batch(image[None], label[None])
        change = (np.asarray(model(images[:3])) - before) / rate
        assert np.abs(change).sum(axis=1).mean() == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize("name", ["words_as_floats", "two_words", "sentences"])
def test_words_need_no_slow_way_whatever_they_are_given_as(name):
    model = built_models.make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        scorer = EMOCScorer(model)
    assert all(layer.contraction != "generic" for layer in scorer.plan())


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("size", [6, 400])
def test_words_that_count_from_the_end_of_the_table(size, dtype):
    """Keras takes −1 for the last row, such as where −1 pads."""
    text = keras.Input((5,), dtype=dtype)
    x = layers.Dense(3, activation="tanh")(layers.Embedding(size, 4)(text))
    model = models.randomised(keras.Model(text, layers.Dense(3)(layers.Flatten()(x))))
    words = np.random.default_rng(0).integers(-6, 6, (7, 5))
    words[3:, -2:] = -1
    assert_as_forward_mode(model, words)


def test_a_call_of_its_own_is_no_graph():
    """What the graph says was scored, with other outputs than the model has."""
    model = models.randomised(built_models.OnGraphAndMore())
    images = np.random.default_rng(1).normal(size=(7, *built_models.SHAPE)).astype(np.float32)
    told = assert_refused(model, "computes what its graph says, got .*OnGraphAndMore", images)
    scope = {"keras": keras, "model": model, "shape": built_models.SHAPE}
    exec(re.search(r"(x = .*); (.*)$", told).group(1), scope)
    new = eval(re.search(r"; (keras\.Model\(.*\))$", told).group(1), scope)
    np.testing.assert_allclose(new(images), model(images), rtol=1e-6)
    expected = forward_mode.scores(model, images[:3], images[3:])
    np.testing.assert_allclose(assert_as_forward_mode(new, images), expected, rtol=1e-5)


def frozen_at_once(model):
    model.trainable = False


def frozen_layer_by_layer(model):
    for layer in model.layers:
        layer.trainable = False


def frozen_but_for_nothing(model):
    model.trainable = False
    model.layers[-1].trainable = True  # of no use alone: Keras trains nothing of a frozen model


@pytest.mark.parametrize("freeze", [frozen_at_once, frozen_layer_by_layer, frozen_but_for_nothing])
def test_the_way_from_frozen_as_a_whole_to_the_head_alone(freeze):
    model = built_models.make("functional_in_sequential")
    count = len(model.trainable_variables)
    freeze(model)
    images = built_models.make_images(model)
    told = assert_refused(model, "frozen as a whole", images)
    then, first = re.search(r"set (model.*), after (model.*) if it is True", told).groups()
    if model.trainable:
        exec(first, {"model": model})
    exec(then, {"model": model})
    assert len(model.trainable_variables) == count
    for layer in model.layers[:-1]:
        layer.trainable = False
    assert_as_forward_mode(model, images)
    assert [layer.layer for layer in scorer_of(model).plan()] == [model.layers[-1].name]


def base(model, trainable):
    model.layers[0].trainable = trainable


def base_at_its_end(model, trainable):
    for layer in model.layers[0].layers[-3:]:
        layer.trainable = trainable


def all_but_the_head(model, trainable):
    for layer in model.layers[:-1]:
        layer.trainable = trainable


@pytest.mark.parametrize("freeze", [base, base_at_its_end, all_but_the_head])
def test_a_second_phase_is_noticed_and_scored_anew(freeze):
    """Layers are unfrozen after the scorer was made, as the guides do to tune them finely."""
    model = built_models.make("functional_in_sequential")
    images = built_models.make_images(model)
    freeze(model, False)
    scorer = EMOCScorer(model)
    first = assert_as_forward_mode(model, images)
    np.testing.assert_allclose(scorer.scores(images[:3], images[3:]), first, rtol=1e-4)
    freeze(model, True)
    with pytest.raises(ValueError, match="trainable weights changed since; make a new EMOCScorer"):
        scorer.scores(images[:3], images[3:])
    second = assert_as_forward_mode(model, images)
    assert np.abs(second / first - 1).max() > 1e-3


@pytest.mark.filterwarnings("ignore:.build... was called on layer")
def test_models_from_files_with_layers_of_their_own(tmp_path):
    model = built_models.make("blocks")
    images = built_models.make_images(model)
    expected = assert_as_forward_mode(model, images)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(assert_as_forward_mode(loaded, images), expected, rtol=1e-6)
