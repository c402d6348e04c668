"""The best set, most sets dropped by sketches."""

import numpy as np
import pytest
from scipy import sparse

from emoc_tf.scoring import EMOCScorer
from emoc_tf.scoring.selection import Sample
from emoc_tf.scoring.sketches import selection
from tests.scoring import models


class Known:
    """Known output changes in the place of `PairScores`."""

    def __init__(self, values):
        self.values, self.reference, self.asked = values, np.zeros(len(values)), 0

    def sample(self, references, pairs, control=True):
        self.asked += len(references) * len(pairs)
        nothing = np.zeros((len(references), len(pairs)))
        return Sample(self.values[np.ix_(references, pairs)], nothing, nothing[0])


def made_up(rng, sets=200, references=300, noise=0.02, bias=0.0):
    """Exact and sketched values: sketches miss a part that differs from set to set."""
    level = rng.gamma(4.0, 1.0, sets)
    sensitivity = rng.gamma(2.0, 1.0, (references, 1))
    exact = sensitivity * level * rng.lognormal(0, 0.2, (references, sets))
    miss = rng.normal(bias, noise, sets) * level.std() * sensitivity
    return exact, 0.9 * exact + miss * rng.lognormal(0, 0.3, exact.shape)


def choose(exact, sketched, confidence=0.9, seed=0, offsets=None):
    weights = sparse.csr_array(np.eye(exact.shape[1]))
    one, other = Known(exact), Known(sketched)
    found = selection.select_by_sketch(one, other, weights, confidence, seed, 1 << 20, offsets)
    return found, one.asked


def test_calibration():
    hits, shares = [], []
    for draw in range(150):
        rng = np.random.default_rng(draw)
        exact, sketched = made_up(rng, noise=[0.02, 0.3, 1.5][draw % 3])
        found, asked = choose(exact, sketched, seed=draw)
        assert found.pairs_evaluated == asked
        hits.append(found.index == exact.mean(axis=0).argmax())
        shares.append(asked / found.pairs)
    assert np.mean(hits) >= 0.9
    assert np.mean(shares) < 0.3


def test_the_spread_around_the_line_is_needed(monkeypatch):
    """Trusting sketches is wrong too often: the test above can fail."""
    line = selection.fit_line
    monkeypatch.setattr(selection, "fit_line", lambda *given: line(*given)._replace(deviation=1e-9))
    hits = []
    for draw in range(60):
        exact, sketched = made_up(np.random.default_rng(draw), noise=1.5)
        found, _ = choose(exact, sketched, seed=draw)
        hits.append(found.index == exact.mean(axis=0).argmax())
    assert np.mean(hits) < 0.8


@pytest.mark.parametrize("kind", ["noise", "against", "constant"])
def test_useless_sketches_drop_nothing_wrongly(kind):
    hits = []
    for draw in range(40):
        rng = np.random.default_rng(draw)
        exact, _ = made_up(rng)
        sketched = {
            "noise": rng.lognormal(0, 1, exact.shape),
            "against": exact.max() - exact,
            "constant": np.ones_like(exact),
        }[kind]
        found, _ = choose(exact, sketched, seed=draw)
        hits.append(found.index == exact.mean(axis=0).argmax())
    assert np.mean(hits) >= 0.9


def test_a_set_far_ahead_needs_few_exact_values():
    exact, sketched = made_up(np.random.default_rng(0))
    best = exact.mean(axis=0).argmax()
    exact[:, best] *= 5
    sketched[:, best] *= 5
    found, asked = choose(exact, sketched)
    assert found.index == best
    assert asked <= selection.MEASURED * selection.REFERENCES
    assert [round_.survivors for round_ in found.rounds] == [1]
    assert (found.rounds[0].references, found.rounds[0].sets) == (selection.FIRST, 200)
    assert not found.exact
    assert found.gap > 0
    assert found.score == pytest.approx(exact[:, best].mean(), rel=0.4)


def test_more_reference_images_before_exact_values():
    """Where sketches err by nothing, all doubt is from the choice of reference images."""
    last = []
    for draw in range(10):
        rng = np.random.default_rng(draw)
        exact, _ = made_up(rng, references=1000)
        exact[:, exact.mean(axis=0).argmax()] *= 1.3
        exact *= rng.lognormal(0, 0.5, exact.shape)
        found, asked = choose(exact, exact, seed=draw)
        assert found.index == exact.mean(axis=0).argmax()
        used = [round_.references for round_ in found.rounds]
        assert used == [selection.FIRST << i for i in range(len(used))]
        assert asked <= selection.MEASURED * selection.REFERENCES
        last.append(used[-1])
    assert max(last) > selection.FIRST


def test_what_is_added_to_scores_counts():
    exact, sketched = made_up(np.random.default_rng(0))
    offsets = np.zeros(200)
    offsets[11] = 10 * exact.mean(axis=0).max()
    found, _ = choose(exact, sketched, offsets=offsets)
    assert found.index == 11
    offsets = np.random.default_rng(1).random(200) * exact.mean()
    found, _ = choose(exact, sketched, confidence=0.99, offsets=offsets)
    assert found.index == (exact.mean(axis=0) + offsets).argmax()


def test_few_sets_are_compared_as_ever():
    exact, _ = made_up(np.random.default_rng(0), sets=30)
    found, asked = choose(exact, np.full_like(exact, np.nan))
    assert found.index == exact.mean(axis=0).argmax()
    assert found.pairs_evaluated == asked


def test_few_reference_images():
    exact, sketched = made_up(np.random.default_rng(0), references=5)
    found, _ = choose(exact, sketched)
    assert found.index == exact.mean(axis=0).argmax()
    exact, sketched = made_up(np.random.default_rng(0), references=1)
    found, _ = choose(exact, sketched)
    assert found.index == exact.mean(axis=0).argmax()


@pytest.fixture(scope="module")
def scored():
    model = models.make("convolutional", scale=2.0)
    images = models.images(160, model.input_shape[1:])
    sets = np.random.default_rng(0).integers(60, size=(80, 3))
    sets[3, 1:] = -1
    sets[5] = -1
    return model, images[:100], images[100:], sets


@pytest.mark.parametrize(
    ("labels", "budget"),
    [("set", 1 << 16), ("joint", 1 << 16), ("expected", 1 << 31), ("given", 1 << 31)],
)
def test_select_set(scored, labels, budget):
    model, x, images, sets = scored
    labels = np.arange(80) % 4 if labels == "given" else labels
    exact = EMOCScorer(model).set_scores(x, images, sets, labels)
    scorer = EMOCScorer(model, method="sketch", memory_budget=budget)
    found = scorer.select_set(x, images, sets, labels, seed=3)
    assert found.index == exact.argmax()
    assert found.rounds[0].sets <= 80
    again = EMOCScorer(model, method="sketch", memory_budget=budget)
    assert again.select_set(x, images, sets, labels, seed=3) == found
    by_sketch = scorer.set_scores(x, images, sets, labels)
    plain = scorer.select_set(x, images, sets, labels, confidence=None)
    assert plain.index == by_sketch.argmax()
    assert plain.score == by_sketch.max()
