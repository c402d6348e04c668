"""Entropy of images and of sets, against SciPy and scikit-activeml."""

import numpy as np
import pytest
from scipy.stats import entropy
from skactiveml.pool import uncertainty_scores

from emoc_tf import agents
from tests.exploration import fakes

SETS = np.array([[0, 1, 2], [3, 4, -1], [5, -1, -1], [-1, -1, -1], [6, 7, 8]])


def state_of(classes=4, seed=0):
    rng = np.random.default_rng(seed)
    posterior = rng.dirichlet(np.full(classes, 0.4), size=9)
    posterior[0] = np.eye(classes)[0]  # no image's share may be NaN
    return fakes.state_with_posterior(posterior, SETS)


def test_entropy_is_the_images_mean():
    state = state_of()
    p = state.probabilities.astype(np.float64)
    expected = [entropy(p[r[r >= 0]], axis=1).mean() for r in SETS if r[0] >= 0]
    score = agents.make("entropy").score(state)
    np.testing.assert_allclose(np.delete(score, 3) * np.log(4), expected, rtol=1e-5)
    assert list(np.delete(score, 3).argsort()) == list(np.argsort(expected))
    images = agents.make("entropy").score_images(state, np.array([4, 2]))
    np.testing.assert_allclose(images * np.log(4), entropy(p[[4, 2]], axis=1), rtol=1e-5)


def test_entropy_is_that_of_scikit_activeml():
    p = state_of().probabilities
    expected = uncertainty_scores(p.astype(np.float64), method="entropy")
    found = agents.make("entropy").score_images(state_of(), np.arange(9))
    np.testing.assert_allclose(found * np.log(4), expected, rtol=1e-5, atol=1e-7)


def test_set_entropy_is_that_of_the_mean_posterior():
    state = state_of()
    p = state.probabilities.astype(np.float64)
    expected = [entropy(p[r[r >= 0]].mean(axis=0)) for r in SETS if r[0] >= 0]
    score = agents.make("set-entropy").score(state)
    np.testing.assert_allclose(np.delete(score, 3) * np.log(4), expected, rtol=1e-6)
    assert np.isfinite(score).all()
    images, own = (
        agents.make(n).score_images(state, np.arange(9)) for n in ("set-entropy", "entropy")
    )
    np.testing.assert_array_equal(images, own)


def test_set_entropy_wants_sets_that_disagree():
    """All images are as sure, but those of the first set of different classes."""
    posterior = [[0.98, 0.01, 0.01], [0.01, 0.98, 0.01], [0.98, 0.01, 0.01]]
    state = fakes.state_with_posterior(posterior, [[0, 1], [0, 2]])
    assert agents.make("set-entropy").act({}, state) == 0
    alone = agents.make("entropy").score(state)
    assert alone[0] == pytest.approx(alone[1])


@pytest.mark.parametrize("classes", [0, 1])
@pytest.mark.parametrize("name", ["entropy", "set-entropy"])
def test_with_one_class_or_none_all_are_alike(name, classes):
    state = state_of(4)
    changed = {**vars(state), "probabilities": np.ones((9, classes), np.float32)}
    state = type(state)(**changed)
    assert list(agents.make(name).score(state)) == [0] * 5
    assert {agents.make(name, seed=s).act({}, state) for s in range(30)} == {0, 1, 2, 4}
