"""The best set by elimination, on made-up values and on a network."""

import numpy as np
import pytest
from scipy import sparse

from emoc_tf.scoring import EMOCScorer, pairs, reference, selection
from tests.scoring import models


def lookup(values):
    return lambda references, columns: values[np.ix_(references, columns)]


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


def test_the_tests_are_needed(monkeypatch):
    """Trusting the first reference images is wrong too often: the test above can fail."""

    def trust(shown, leader, total, level):
        return np.arange(shown.shape[1]) == leader

    monkeypatch.setattr(selection, "_undecided", trust)
    hits = []
    for draw in range(200):
        values = made_up(np.random.default_rng(draw), noise=1 + draw % 3)
        found = selection.select(lookup(values), each_its_own(60), 400, 0.9, seed=draw)
        hits.append(found.index == values.mean(axis=0).argmax())
    assert np.mean(hits) < 0.8


def test_what_is_told_about_it():
    values = made_up(np.random.default_rng(1))
    values[:, 7] *= 4
    asked = []

    def counted(references, columns):
        asked.append(len(references) * len(columns))
        return values[np.ix_(references, columns)]

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


@pytest.fixture
def scored():
    model = models.make("convolutional", scale=2.0)
    images = models.images(60, model.input_shape[1:])
    sets = np.random.default_rng(0).integers(20, size=(12, 3))
    sets[3, 1:] = -1
    sets[5] = -1
    return model, images[:50], images[40:], sets


@pytest.mark.parametrize("budget", [1 << 13, 1 << 31])
@pytest.mark.parametrize("labels", ["set", "image", "expected", "given"])
def test_select_set(scored, labels, budget, monkeypatch):
    monkeypatch.setattr(pairs, "BLOCK", 8)
    monkeypatch.setattr(pairs, "GRADIENT_BATCH", 4)
    model, x, images, sets = scored
    labels = np.arange(12) % 4 if labels == "given" else labels
    literal = reference.set_scores(model, x, images, sets, labels)
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
