"""The best set by elimination, on made-up values and on a network."""

import functools

import numpy as np
import pytest
from scipy import sparse

from emoc_tf.scoring import EMOCScorer, pairs, reference, selection
from tests.scoring import models


def lookup(values, control=None):
    """Returns what `select` asks, on known values."""
    control = np.zeros_like(values) if control is None else control

    def sample(references, columns):
        return selection.Sample(
            values[np.ix_(references, columns)],
            control[np.ix_(references, columns)],
            control[:, columns].mean(axis=0),
        )

    return sample


def made_up(rng, sets=60, references=400, noise=1.0):
    """Values as they are: a level a set, a sensitivity an image, and noise."""
    level = rng.gamma(4.0, 1.0, sets)
    sensitivity = rng.gamma(2.0, 1.0, (references, 1))
    return sensitivity * level * rng.lognormal(0, 0.3 * noise, (references, sets))


def each_its_own(sets):
    return sparse.csr_array(np.eye(sets))


def test_calibration():
    """Over many draws the exact best set is chosen at least as often as promised."""
    hits, rounds = [], []
    for draw in range(200):
        rng = np.random.default_rng(draw)
        values = made_up(rng, noise=1 + draw % 3)
        if draw % 4 == 0:  # nearly tied, nothing in common
            values = rng.lognormal(0, 1, (400, 60))
        found = selection.select(lookup(values), each_its_own(60), 400, 0.9, seed=draw)
        hits.append(found.index == values.mean(axis=0).argmax())
        rounds.append(found.pairs_evaluated / found.pairs)
    assert np.mean(hits) >= 0.9
    assert np.mean(rounds) < 0.6


@pytest.mark.parametrize("kind", ["explains much", "misleads", "constant"])
def test_control_variates(kind):
    """A good one saves reference images; none may cost the promise."""
    hits, used, without = [], [], []
    for draw in range(120):
        rng = np.random.default_rng(draw)
        values = rng.lognormal(0, 1, (600, 40))
        if kind == "explains much":
            control = values**0.9 + rng.normal(0, 0.1, values.shape)
        elif kind == "misleads":
            control = rng.lognormal(0, 1, (600, 40)) - values**0.5
        else:
            control = np.full_like(values, 3.0)
        found = selection.select(lookup(values, control), each_its_own(40), 600, 0.9, seed=draw)
        hits.append(found.index == values.mean(axis=0).argmax())
        used.append(found.pairs_evaluated)
        plain = selection.select(lookup(values), each_its_own(40), 600, 0.9, seed=draw)
        without.append(plain.pairs_evaluated)
    assert np.mean(hits) >= 0.9
    if kind == "explains much":
        assert np.mean(used) < np.mean(without) / 3
    else:
        assert np.mean(used) < np.mean(without) * 1.1


def test_the_mean_of_the_control_is_needed():
    """With a wrong mean of the control variate the choice is wrong: the test above can fail."""
    hits = []
    for draw in range(60):
        rng = np.random.default_rng(draw)
        values = rng.lognormal(0, 1, (600, 40))

        def biased(references, columns, values=values):
            found = lookup(values, values)(references, columns)
            return found._replace(control_mean=np.arange(40.0)[columns])

        found = selection.select(biased, each_its_own(40), 600, 0.9, seed=draw)
        hits.append(found.index == values.mean(axis=0).argmax())
    assert np.mean(hits) < 0.5


def test_the_tests_are_needed(monkeypatch):
    """Trusting the first reference images is wrong too often: the test above can fail."""

    def trust(shown, leader, total, level):
        return np.arange(shown.changes.shape[1]) == leader

    monkeypatch.setattr(selection, "_undecided", trust)
    hits = []
    for draw in range(200):
        values = made_up(np.random.default_rng(draw), noise=1 + draw % 3)
        found = selection.select(lookup(values), each_its_own(60), 400, 0.9, seed=draw)
        hits.append(found.index == values.mean(axis=0).argmax())
    assert np.mean(hits) < 0.8


def test_values_of_many_references_are_asked_for_in_parts():
    values = np.random.default_rng(0).lognormal(0, 1, (400, 60))
    control = np.random.default_rng(2).random((400, 60))
    weights = each_its_own(60)
    asked = []

    def sample(references, columns):
        asked.append((len(references), len(columns)))
        return lookup(values, control)(references, columns)

    want = selection.select(sample, weights, 400, 0.95, seed=0)
    whole, asked[:] = sum(m * p for m, p in asked), []
    assert len(want.rounds) > 2
    for most in (1, 64 * 60, 100 * 60):
        assert selection.select(sample, weights, 400, 0.95, 0, most) == want
        assert all(m <= 32 or m * p <= most for m, p in asked)
        assert sum(m * p for m, p in asked) == whole
        assert len(asked) > len(want.rounds)
        asked[:] = []


def test_what_is_told_about_it():
    values = made_up(np.random.default_rng(1))
    values[:, 7] *= 4
    asked = []

    def counted(references, columns):
        asked.append(len(references) * len(columns))
        return lookup(values)(references, columns)

    found = selection.select(counted, each_its_own(60), 400, 0.95, seed=0)
    assert found.index == 7
    assert found.pairs_evaluated == sum(asked) < found.pairs == 60 * 400
    assert [r.references for r in found.rounds] == [32 << i for i in range(len(found.rounds))]
    assert found.rounds[0].sets == 60
    assert found.rounds[-1].survivors == 1
    assert not found.exact
    assert found.gap > 0
    assert found.score == pytest.approx(values[:, 7].mean(), rel=0.5)


def test_ties_need_all_reference_images_and_equal_sets_need_none():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 2)) + 5
    values[:, 1] += values[:, 0].mean() - values[:, 1].mean() - 1e-9
    found = selection.select(lookup(values), each_its_own(2), 300, 0.95, seed=0)
    assert found.exact
    assert found.index == 0
    twice = sparse.csr_array(np.array([[0, 1], [1, 0], [1, 0.0]]))
    found = selection.select(lookup(values), twice, 300, 0.95, seed=0)
    assert found.index in (0, 1)
    same = sparse.csr_array(np.array([[1, 0], [1, 0.0]]))
    found = selection.select(lookup(values), same, 300, 0.95, seed=0)
    assert (found.index, found.gap, len(found.rounds)) == (0, None, 1)


def test_few_reference_images_are_all_used():
    values = made_up(np.random.default_rng(2), references=9)
    found = selection.select(lookup(values), each_its_own(60), 9, 0.95, seed=0)
    assert found.exact
    assert found.index == values.mean(axis=0).argmax()
    assert found.score == pytest.approx(values.mean(axis=0).max())


@pytest.fixture(scope="module")
def scored():
    model = models.make("convolutional", scale=2.0)
    images = models.images(60, model.input_shape[1:])
    sets = np.random.default_rng(0).integers(20, size=(12, 3))
    sets[3, 1:] = -1
    sets[5] = -1
    return model, images[:50], images[40:], sets


@pytest.fixture(scope="module")
def literal_of(scored):
    """Literal scores of all sets, by labels."""
    model, x, images, sets = scored

    @functools.cache
    def scores(labels):
        given = np.arange(12) % 4 if labels == "given" else labels
        return reference.set_scores(model, x, images, sets, given)

    return scores


@pytest.mark.parametrize("budget", [1 << 13, 1 << 31])
@pytest.mark.parametrize("labels", ["set", "image", "expected", "joint", "given"])
def test_select_set(scored, literal_of, labels, budget, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 8)
    monkeypatch.setattr(pairs, "GRADIENT_BATCH", 4)
    model, x, images, sets = scored
    literal = literal_of(labels)
    labels = np.arange(12) % 4 if labels == "given" else labels
    scorer = EMOCScorer(model, memory_budget=budget)
    for confidence in (0.95, None):
        found = scorer.select_set(x, images, sets, labels, confidence, seed=3)
        assert found.index == literal.argmax()
        if found.exact:
            assert found.score == pytest.approx(literal.max(), rel=1e-4)
            second = np.sort(np.unique(literal))[-2]
            assert found.gap == pytest.approx(literal.max() - second, rel=1e-2)
    assert found.exact
    assert found.pairs == found.pairs_evaluated


@pytest.mark.parametrize("labels", ["set", "expected", "joint"])
def test_weights_of_sets_decide(scored, labels):
    model, x, images, sets = scored
    sets = sets[[0, 1, 2, 3, 4, 5, 6, 2, 8, 9, 10, 11]]  # two alike
    literal = reference.set_scores(model, x, images, sets, labels)
    scorer = EMOCScorer(model)
    scores = scorer.set_scores(x, images, sets, labels)
    for draw in range(6):
        weights = np.random.default_rng(draw).random(12)
        weights[[draw, draw + 3]] = 0
        best = (weights * literal).argmax()
        assert best == (weights * scores).argmax()
        for confidence in (0.95, None):
            found = scorer.select_set(x, images, sets, labels, confidence, draw, weights)
            assert found.index == best
            if found.exact:
                assert found.score == pytest.approx((weights * scores).max(), rel=1e-5)
    only = np.arange(12) == 9
    assert scorer.select_set(x, images, sets, labels, set_weights=only).index == 9
    plain = scorer.select_set(x, images, sets, labels, seed=3)
    assert scorer.select_set(x, images, sets, labels, seed=3, set_weights=np.ones(12)) == plain


def test_equal_seeds_choose_equally(scored):
    model, x, images, sets = scored
    scorer = EMOCScorer(model)
    first = scorer.select_set(x, images, sets, seed=4)
    assert first == scorer.select_set(x, images, sets, seed=4)
    assert first == EMOCScorer(model).select_set(x, images, sets, seed=4)


def test_bad_arguments(scored):
    model, x, images, sets = scored
    scorer = EMOCScorer(model)
    for confidence in (0.0, 1.0, 2, "high", True):
        with pytest.raises(ValueError, match=r"confidence: expected None or a number in \(0, 1\)"):
            scorer.select_set(x, images, sets, confidence=confidence)
    for seed in (-1, 0.5, None):
        with pytest.raises(ValueError, match="seed: expected an integer of at least 0"):
            scorer.select_set(x, images, sets, seed=seed)
    with pytest.raises(ValueError, match="sets: expected one that is not padding alone"):
        scorer.select_set(x, images, np.full((2, 3), -1))
    broken = images.copy()
    broken[sets[0, 0]] = np.inf
    with pytest.raises(ValueError, match="images: expected finite numbers, got inf"):
        scorer.select_set(x, broken, sets)
    broken = x.copy()
    broken[-1] = np.nan
    with pytest.raises(ValueError, match="reference: expected finite numbers, got nan"):
        scorer.select_set(broken, images, sets)


@pytest.mark.parametrize("budget", [1 << 11, 1 << 31])
@pytest.mark.parametrize("output", ["logits", "softmax"])
def test_samples(output, budget, monkeypatch):
    """Output changes as the reference has them; the control variate as if all else were frozen."""
    monkeypatch.setattr(pairs, "REFERENCE_BATCH", 4)
    monkeypatch.setattr(pairs, "GRADIENT_BATCH", 4)
    model = models.make("convolutional", scale=2.0)
    images = models.images(40, model.input_shape[1:])
    x, candidates = images[:25], images[25:]
    labels = np.arange(15) % model.output_shape[-1]
    scorer = EMOCScorer(model, output, memory_budget=budget)
    every = np.arange(15)
    known = scorer._pairs(x, candidates, every, labels)
    literal = reference.scores(model, x, candidates, labels, output)
    first = known.sample(np.arange(25), every)
    np.testing.assert_allclose(first.changes.mean(axis=0), literal, rtol=1e-4)
    some = known.sample(np.array([20, 3, 7]), np.array([2, 3, 11]))
    rows = np.ix_([20, 3, 7], [2, 3, 11])
    np.testing.assert_allclose(some.changes, first.changes[rows], rtol=1e-5)
    np.testing.assert_allclose(some.control, first.control[rows], rtol=1e-5)
    np.testing.assert_allclose(some.control_mean, first.control_mean[[2, 3, 11]], rtol=1e-5)
    if budget < 1 << 20:
        assert not first.control.any()
        return
    last = {layer.plan.layer for layer in scorer._changes.factors.last}
    assert last
    for layer in model.layers:
        layer.trainable = layer.name in last
    assert model.trainable_variables
    only_last = reference.scores(model, x, candidates, labels, output)
    np.testing.assert_allclose(first.control_mean, only_last, rtol=1e-4)
    np.testing.assert_allclose(first.control.mean(axis=0), only_last, rtol=1e-4)


def test_an_entirely_dense_model_is_decided_at_once():
    """The control variate is the output change itself."""
    model = models.make("dense", scale=2.0)
    images = models.inputs(model, 240)
    sets = np.random.default_rng(0).integers(40, size=(12, 3))
    scorer = EMOCScorer(model)
    found = scorer.select_set(images[40:], images[:40], sets)
    assert [r.references for r in found.rounds] == [32]
    scores = scorer.set_scores(images[40:], images[:40], sets)
    assert found.index == scores.argmax()
    assert found.score == pytest.approx(scores.max(), rel=1e-5)
