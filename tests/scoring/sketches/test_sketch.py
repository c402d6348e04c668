"""The sketch of a scorer: fitted, measured, and whose it is."""

import keras
import numpy as np
import pytest

from emoc_tf.models import structure
from emoc_tf.scoring import EMOCScorer, pairs, reference
from emoc_tf.scoring.images import check_images
from emoc_tf.scoring.sketches import sketch
from tests.scoring import models

layers = keras.layers


def network(classes=4, seed=0):
    """A network that is trained whole, with every kind of cut."""
    image = keras.Input((10, 10, 3))
    x = layers.Conv2D(12, 3, padding="same", activation="tanh", kernel_regularizer=models.l2())(
        image
    )
    x = layers.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = layers.Conv2D(80, 1, activation="relu")(x)
    x = layers.Conv2D(8, 3, activation="tanh")(x)
    x = layers.Dense(classes)(layers.Flatten()(x))
    return models.randomised(keras.Model(image, x), seed, scale=1.5)


def smooth(count, seed=1):
    """Images whose neighbouring pixels are alike, as those of photographs."""
    images = np.random.default_rng(seed).normal(size=(count, 12, 12, 3))
    return sum(images[:, i : i + 10, j : j + 10] for i in range(3) for j in range(3)) / 3


@pytest.fixture(scope="module")
def problem():
    images = smooth(120)
    return network(), images[:40], images[40:]


def test_scores_are_close_and_the_error_is_what_is_said(problem):
    model, x, candidates = problem
    exact = EMOCScorer(model)
    scorer = EMOCScorer(model, method="sketch")
    assert scorer.sketch is None
    want, found = exact.scores(x, candidates), scorer.scores(x, candidates)
    told = scorer.sketch
    assert told.size < told.parameters / 2
    assert 0 < told.energy_left <= sketch.ERROR
    assert np.corrcoef(want, found)[0, 1] > 0.99
    assert {layer.cut for layer in told.layers} == {"inputs", "both", "rows"}
    assert all(layer.numbers > 0 for layer in told.layers)
    labels = model(candidates).numpy().argmax(axis=1)
    given = [exact._part.inputs(check_images(images, "", model)) for images in (x, candidates)]
    values = exact._pairs(*given, np.arange(80), labels)
    right = values.sample(np.arange(40), np.arange(80)).changes
    sketched = scorer._sketch.apply(values).sample(np.arange(40), np.arange(80)).changes
    error = np.sqrt(np.square(sketched - right).mean() / np.square(right).mean())
    assert error / 2 < told.error < 2 * error


def test_a_size_of_your_own(problem):
    model, x, candidates = problem
    exact = EMOCScorer(model).scores(x, candidates)
    errors = []
    for size in (300, 900, 2500):
        scorer = EMOCScorer(model, method="sketch", sketch_size=size)
        errors.append(np.abs(scorer.scores(x, candidates) / exact - 1).mean())
        cut = sum(layer.numbers for layer in scorer.sketch.layers)
        assert size / 2 < cut <= size
    assert errors[0] > errors[1] > errors[2]


def test_equal_seeds_give_equal_bits_whatever_was_asked_before(problem):
    model, x, candidates = problem
    scorer = EMOCScorer(model, method="sketch")
    first = scorer.scores(x, candidates)
    scorer.scores(x[:20], candidates[:9])
    np.testing.assert_array_equal(scorer.scores(x, candidates), first)
    again = EMOCScorer(model, method="sketch", seed=0)
    again.expected_scores(x[:3], candidates[:3])
    np.testing.assert_array_equal(again.scores(x, candidates), first)
    assert (EMOCScorer(model, method="sketch", seed=1).scores(x, candidates) != first).any()


def test_directions_are_fitted_anew_to_other_weights():
    model, images = network(), smooth(60)
    scorer = EMOCScorer(model, method="sketch")
    before = scorer.scores(images, images)
    fitted = scorer._sketch._changes
    scorer.scores(images, images)
    assert scorer._sketch._changes is fitted
    model.set_weights(network(seed=7).get_weights())
    found = scorer.scores(images, images)
    assert scorer._sketch._changes is not fitted
    assert not np.allclose(found, before)
    fresh = EMOCScorer(network(seed=7), method="sketch")
    np.testing.assert_array_equal(found, fresh.scores(images, images))


def test_models_that_share_functions_have_directions_of_their_own():
    first = models.make("convolutional", scale=2.0)
    second = models.randomised(structure.copy(first), seed=7, scale=2.0)
    images = models.inputs(first, 30)
    alone = []
    for model in (first, second):
        scorer = EMOCScorer(model, method="sketch", sketch_size=20)
        alone.append(scorer.scores(images, images))
    scorers = [EMOCScorer(m, method="sketch", sketch_size=20) for m in (first, second)]
    assert scorers[0]._changes._traced is scorers[1]._changes._traced
    for scorer in scorers:  # both are fitted before either is asked again
        scorer.scores(images, images)
    for scorer, want in zip(scorers, alone, strict=True):
        np.testing.assert_array_equal(scorer.scores(images, images), want)
        exact = EMOCScorer(scorer.model).scores(images, images)
        assert np.corrcoef(want, exact)[0, 1] > 0.5


def test_nothing_is_traced_again_for_other_directions(problem, monkeypatch):
    model, x, candidates = problem
    EMOCScorer(model, method="sketch").scores(x, candidates)
    scorer = EMOCScorer(model, method="sketch", sketch_size=400)
    first = scorer.scores(x, candidates)
    monkeypatch.setattr(type(scorer._changes), "_trace", None)
    scorer._sketch._wanted, scorer._sketch._most = 0.0, 900
    assert (scorer.scores(x, candidates[:50]) != first[:50]).any()


@pytest.mark.parametrize("budget", [1 << 15, 1 << 20])
def test_budgets(problem, budget):
    model, x, candidates = problem
    found = EMOCScorer(model, method="sketch", sketch_size=600, memory_budget=budget)
    want = EMOCScorer(model, method="sketch", sketch_size=600).scores(x[:9], candidates[:9])
    # Rounding of the moments turns directions that hold nearly the same.
    np.testing.assert_allclose(found.scores(x[:9], candidates[:9]), want, rtol=1e-3)
    assert found.sketch.size * 4 < 1 << 15


def test_few_images(problem):
    model, x, candidates = problem
    exact = EMOCScorer(model).scores(x[:1], candidates[:2])
    found = EMOCScorer(model, method="sketch").scores(x[:1], candidates[:2])
    np.testing.assert_allclose(found, exact, rtol=0.05)


def test_bfloat16(problem):
    model, x, candidates = problem
    want = EMOCScorer(model, method="sketch").scores(x, candidates)
    found = EMOCScorer(model, method="sketch", precision="bfloat16").scores(x, candidates)
    assert 0 < np.abs(found / want - 1).max() < 2e-2


def test_a_dense_network_is_not_cut():
    model = reference.rebuild(models.make("dense"))
    images = models.inputs(model, 20).astype(np.float64)
    scorer = EMOCScorer(model, method="sketch")
    np.testing.assert_allclose(
        scorer.scores(images, images), EMOCScorer(model).scores(images, images), rtol=1e-12
    )
    assert scorer.sketch.layers == []
    assert scorer.sketch.error < 1e-12


def test_the_plan_tells_the_sketch(problem, capsys):
    model, x, candidates = problem
    scorer = EMOCScorer(model, method="sketch")
    scorer.print_plan()
    assert "sketch" not in capsys.readouterr().out
    exact = EMOCScorer(model).plan()
    assert scorer.plan() == exact
    scorer.scores(x, candidates)
    scorer.print_plan()
    text = capsys.readouterr().out
    assert f"{scorer.sketch.size:,} numbers a pair" in text
    assert f"{scorer.sketch.error:.2%}" in text
    cut = {layer.layer for layer in scorer.sketch.layers}
    for own, before in zip(scorer.plan(), exact, strict=True):
        sketched = own.layer in cut
        assert own.contraction == ("sketch" if sketched else before.contraction)
        assert sketched or own == before
    told = [sum(layer.multiply_adds for layer in plan) for plan in (scorer.plan(), exact)]
    assert told == [scorer.sketch.multiply_adds, scorer.sketch.exact_multiply_adds]
    assert told[0] < told[1]


def test_bad_settings(problem):
    model, _, _ = problem
    with pytest.raises(ValueError, match=r"method: expected one of .*'fast'"):
        EMOCScorer(model, method="fast")
    for size in (0, -3, 1.5, True, "many"):
        with pytest.raises(ValueError, match="sketch_size: expected None or how many numbers"):
            EMOCScorer(model, method="sketch", sketch_size=size)
    with pytest.raises(ValueError, match="sketch_size: expected None with method='exact'"):
        EMOCScorer(model, sketch_size=100)
    for seed in (-1, 0.5, None):
        with pytest.raises(ValueError, match="seed: expected an integer of at least 0"):
            EMOCScorer(model, method="sketch", seed=seed)


def test_exact_is_the_default_and_keeps_its_bits(problem):
    model, x, candidates = problem
    plain = EMOCScorer(model)
    want = plain.scores(x, candidates)
    assert plain.sketch is None
    sketched = EMOCScorer(model, method="sketch")
    sketched.scores(x, candidates)
    np.testing.assert_array_equal(plain.scores(x, candidates), want)
    np.testing.assert_array_equal(EMOCScorer(model, method="exact").scores(x, candidates), want)


def test_pairs_are_asked_for_without_a_control(problem):
    model, x, candidates = problem
    scorer = EMOCScorer(model)
    images = [scorer._part.inputs(check_images(own, "", model)) for own in (x, candidates)]
    known = scorer._pairs(*images, np.arange(80), np.arange(80) % 4)
    every = np.arange(40), np.arange(80)
    plain, without = known.sample(*every), known.sample(*every, control=False)
    assert plain.control.any()
    assert not without.control.any()
    np.testing.assert_array_equal(plain.changes, without.changes)
    assert known.by(scorer._changes) is not known
    assert pairs.PairScores.by  # of sets too, which inherit it
