"""Joint steps of sets against the literal reference."""

import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, pairs, reference
from emoc_tf.scoring.gradients import contractions, sums
from tests.scoring import models


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pairs, "GRADIENT_BATCH", 4)
    monkeypatch.setattr(pairs, "REFERENCE_BATCH", 4)
    monkeypatch.setattr(pairs, "BLOCK", 8)
    monkeypatch.setattr(sums, "COLUMNS", 5)


def random_sets(rng, count, members=4, images=9):
    """Sets with padding anywhere, one image twice, one set of padding alone."""
    sets = rng.integers(images, size=(count, members))
    sets[rng.random(sets.shape) < 0.25] = -1
    sets[0, :2], sets[1] = 3, -1
    return sets


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize(
    ("name", "output", "regularizer"),
    [
        ("convolutional", "logits", True),
        ("few_positions", "softmax", True),
        ("unusual", "logits", True),
        ("deep_words", "logits", True),
        ("nested", "logits", False),
        ("unknown", "softmax", True),
    ],
)
def test_every_kind_of_layer_in_float64(name, output, regularizer):
    model = reference.rebuild(models.make(name))
    images = models.inputs(model, 14)
    x, images = images[:5], images[5:]
    sets = random_sets(np.random.default_rng(0), 7)
    literal = reference.set_scores(model, x, images, sets, "joint", output, regularizer)
    scorer = EMOCScorer(model, output, regularizer, memory_budget=1 << 13)
    found = scorer.set_scores(x, images, sets, "joint")
    np.testing.assert_allclose(found, literal, rtol=1e-9)
    assert found[1] == 0


@pytest.mark.parametrize("budget", [1 << 13, 1 << 31])
def test_the_best_set_by_elimination_and_by_all_scores(budget):
    model = reference.rebuild(models.make("few_positions"))
    images = models.images(14, model.input_shape[1:]).astype(float)
    sets = random_sets(np.random.default_rng(2), 7)
    literal = reference.set_scores(model, images, images, sets, "joint")
    scorer = EMOCScorer(model, memory_budget=budget)
    for confidence in (0.95, None):
        chosen = scorer.select_set(images, images, sets, "joint", confidence)
        assert chosen.index == literal.argmax()
        assert chosen.exact
        assert chosen.score == pytest.approx(literal.max(), rel=1e-9)


def test_the_norm_of_the_sum_is_not_the_sum_of_norms():
    model = models.make("convolutional", scale=2.0)
    images, sets = models.images(12, model.input_shape[1:]), np.arange(12).reshape(3, 4)
    scorer = EMOCScorer(model)
    joint = scorer.set_scores(images, images, sets, "joint")
    assert (joint < 0.99 * scorer.set_scores(images, images, sets)).all()
    one = np.arange(12)[:, None]
    for labels in ("set", "joint"):
        np.testing.assert_allclose(
            scorer.set_scores(images, images, one, labels), scorer.scores(images, images), rtol=1e-5
        )


def test_elimination_over_sets_keeps_its_promise():
    """Many sets, few far ahead: fewer columns are evaluated than there are, the best is chosen."""
    model = models.make("convolutional", scale=2.0)
    images = models.images(400, model.input_shape[1:])
    sets = np.random.default_rng(1).integers(40, size=(60, 3))
    sets[17] = sets[3]
    scorer = EMOCScorer(model)
    scores = scorer.set_scores(images, images, sets, "joint")
    found = [scorer.select_set(images, images, sets, "joint", seed=seed) for seed in range(20)]
    assert np.mean([each.index == scores.argmax() for each in found]) >= 0.95
    assert np.mean([each.pairs_evaluated / each.pairs for each in found]) < 0.5
    assert found[0].pairs == 400 * 59  # a column a set, equal ones once
    assert scorer.select_set(images, images, sets, "joint", seed=0) == found[0]


@pytest.mark.parametrize("precision", ["bfloat16", "tf32"])
def test_other_precisions(precision):
    model = models.make("convolutional", scale=2.0)
    images, sets = models.images(12, model.input_shape[1:]), np.arange(12).reshape(3, 4)
    exact = EMOCScorer(model).set_scores(images, images, sets, "joint")
    found = EMOCScorer(model, precision=precision).set_scores(images, images, sets, "joint")
    np.testing.assert_allclose(found, exact, rtol=2e-2)


@pytest.mark.parametrize("kind", ["apply", "gram"])
def test_contractions_that_pay_elsewhere(kind, monkeypatch):
    """Of every layer that allows them."""
    costs_of = contractions.multiply_adds

    def costs(stage, *args):
        return {key: 0 if key == kind else cost for key, cost in costs_of(stage, *args).items()}

    monkeypatch.setattr(contractions, "multiply_adds", costs)
    model = reference.rebuild(models.make("convolutional"))
    images = models.images(14, model.input_shape[1:]).astype(float)
    sets = random_sets(np.random.default_rng(4), 9)
    scorer = EMOCScorer(model, memory_budget=1 << 14)
    assert {layer.contraction for layer in scorer.plan()} == {kind}
    literal = reference.set_scores(model, images[:5], images[5:], sets, "joint")
    found = scorer.set_scores(images[:5], images[5:], sets, "joint")
    np.testing.assert_allclose(found, literal, rtol=1e-9)
