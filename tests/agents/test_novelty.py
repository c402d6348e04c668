"""Policies that want what the model does not know, against the probabilities they are made of."""

import dataclasses

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents.set_evidence import set_evidence
from tests.agents.test_set_evidence import make_state, world

NAMES = ["novel", "p-wrong"]


def full(posterior=None, **settings):
    """A state with candidate sets, a fifth of them masked, and posteriors."""
    state, sets, classes = world(**settings)
    sets[::5] = -1
    if posterior is None:
        rng = np.random.default_rng(3)
        posterior = rng.dirichlet(np.ones(len(state.known_classes)), size=len(state.pool))
    state = dataclasses.replace(
        state,
        candidates=sets,
        candidate_mask=(sets >= 0).any(axis=1),
        probabilities=np.asarray(posterior, np.float32),
    )
    return state, classes


def odds(shares):
    return np.log(shares) - np.log1p(-shares)


def test_novel_is_the_probability_of_a_new_class():
    state, classes = full(spread=1.5)
    score = agents.make("novel").score(state)
    found = set_evidence(state, state.candidates)
    np.testing.assert_allclose(score, odds(found.novelty), atol=1e-6)
    state, classes = full(spread=8.0, size=4)
    assert classes[agents.make("novel").act({}, state)] >= 6


def test_p_wrong_is_the_probability_of_all_but_the_label():
    state, _ = full(spread=1.5)
    score = agents.make("p-wrong:prior_new=0.3:tau=4").score(state)
    found = set_evidence(state, state.candidates, new_prior=0.3, temperature=4)
    for i, row in enumerate(state.candidates):
        label = np.log(state.probabilities[row[row >= 0]].astype(float)).sum(axis=0).argmax()
        assert score[i] == pytest.approx(odds(1 - found.posterior[i, label]), abs=1e-6)


def test_p_wrong_wants_known_classes_too_where_the_model_is_wrong():
    state, sets, classes = world(num_new=1, spread=8.0, size=4, seed=2)
    right = np.full((len(state.pool), 6), 0.02)
    for c in range(6):
        right[sets[classes == c], max(c, 1)] = 0.9  # class 0 is taken for class 1
    state = dataclasses.replace(
        state,
        candidates=sets,
        candidate_mask=np.ones(len(sets), bool),
        probabilities=right,
    )
    score = agents.make("p-wrong:tau=1").score(state)
    np.testing.assert_array_equal(score > 0, (classes == 0) | (classes == 6))
    np.testing.assert_array_equal(agents.make("novel").score(state) > 0, classes == 6)


@pytest.mark.parametrize("name", NAMES)
def test_far_sets_are_told_apart(name):
    """Where probabilities are 1 to the last bit, the further one is still wanted more."""
    state, _ = full()
    features = state.features.copy()
    near, far = state.candidates[[1, 2]]
    features[near] += 300
    features[far] += 3000
    state = dataclasses.replace(state, features=features)
    score = agents.make(name).score(state)
    assert np.isfinite(score).all()
    assert score.argsort()[-2:].tolist() == [1, 2]
    assert agents.make(name).act({}, state) == 2


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_a_set_of_one(name):
    state, _ = full()
    indices = np.array([40, 3, 55])
    found = agents.make(name).score_images(state, indices)
    alone = dataclasses.replace(state, candidates=indices[:, None])
    np.testing.assert_array_equal(found, agents.make(name).score(alone))
    assert agents.make(name).score_images(state, indices[:0]).shape == (0,)


@pytest.mark.parametrize("num_known", [0, 1])
@pytest.mark.parametrize("name", NAMES)
def test_with_one_class_or_none_all_are_alike(name, num_known):
    features = np.random.default_rng(0).normal(size=(12, 3))
    state = make_state(features, [0] * num_known * 4 + [-1] * (12 - 4 * num_known), num_known)
    sets = np.array([[8, 9], [10, 11], [-1, -1]])
    state = dataclasses.replace(state, candidates=sets, candidate_mask=(sets >= 0).any(axis=1))
    assert np.ptp(agents.make(name).score(state)) == 0
    assert {agents.make(name, seed=s).act({}, state) for s in range(20)} == {0, 1}


def test_images_taken_for_impossible_do_not_break_the_label():
    posterior = np.zeros((1, 6))
    posterior[0, 2] = 1
    state, _ = full()
    state = dataclasses.replace(
        state, probabilities=posterior.repeat(len(state.pool), axis=0).astype(np.float32)
    )
    found = set_evidence(state, state.candidates, temperature=1)
    wrong = 1 / (1 + np.exp(-agents.make("p-wrong:tau=1").score(state)))
    np.testing.assert_allclose(wrong, 1 - found.posterior[:, 2], atol=1e-9)


def test_settings_out_of_range():
    for bad in ("prior_new=0", "prior_new=1", "prior_new=x", "tau=0", "tau=none", "tau=true"):
        setting = bad.split("=")[0]
        with pytest.raises(ValueError, match=f"{setting}: expected a number .* got"):
            agents.make(f"p-wrong:{bad}")
