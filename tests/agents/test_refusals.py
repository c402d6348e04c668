"""Images that nobody can name: what refusals teach, and what EMOC makes of it."""

import dataclasses

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import refusals
from emoc_tf.exploration.answers import REJECT
from emoc_tf.exploration.pool import Pool
from emoc_tf.scoring import reference
from emoc_tf.testing import AgentContract
from tests.exploration import fakes

NAMES = ["emoc", "emoc:confidence=none", "emoc-expected"]


def with_labels(state, rejected, features=None):
    """The state after some images were rejected."""
    pool = Pool(state.pool.images)
    labels = state.pool.labels.copy()
    labels[rejected] = REJECT
    pool.set_labels(labels)
    changes = {} if features is None else {"features": features}
    return dataclasses.replace(state, pool=pool.snapshot(), **changes)


def told_apart(unnameable, num_images=40, size=4):
    """Features in which unnameable images lie aside."""
    features = np.random.default_rng(0).normal(size=(num_images, size)).astype(np.float32)
    features[unnameable, 1] += 8
    return features


def after_refusals(masked=()):
    """A state, and the same after refusals of images like those that EMOC wants most."""
    state = fakes.make_state(num_images=40, num_sets=8, set_size=2, masked=masked)
    # Sets without an image in common, so that the best can be unnameable alone.
    sets = np.arange(20, 36).reshape(8, 2)
    sets[list(masked)] = -1
    state = dataclasses.replace(state, candidates=sets, candidate_mask=(sets >= 0).any(axis=1))
    scores = agents.make("emoc").score(state)
    best = sets[scores.argsort()[-2:]].ravel()
    return state, with_labels(state, [36, 37, 38], told_apart([*best, 36, 37, 38])), best


@pytest.mark.parametrize("name", NAMES)
def test_unnameable_images_are_avoided(name):
    before, after, best = after_refusals(masked=(1,))
    heeding = agents.make(f"{name}:refusals=true")
    assert np.isin(before.candidates[heeding.act({}, before)], best).all()
    assert np.isin(after.candidates[agents.make(name).act({}, after)], best).all()
    chosen = heeding.act({}, after)
    assert after.candidate_mask[chosen]
    assert not np.isin(after.candidates[chosen], best).any()


@pytest.mark.parametrize("name", ["emoc", "emoc-expected:references=none"])
def test_scores_are_multiplied_by_the_mean_probability_of_an_answer(name):
    _, state, _ = after_refusals()
    answered = refusals.answer_probabilities(state, np.arange(40))
    literal = reference.set_scores(
        state.model, state.reference, state.pool.images, state.candidates,
        "expected" if "expected" in name else "set",
        set_weights=answered[state.candidates].mean(axis=1),
    )  # fmt: skip
    scores = agents.make(f"{name}:refusals=true").score(state)
    np.testing.assert_allclose(scores, literal, atol=1e-4 * literal.max())


@pytest.mark.parametrize("name", ["emoc", "emoc-expected"])
def test_scores_of_images_are_multiplied_too(name):
    _, state, _ = after_refusals()
    indices = np.arange(20, 36)
    plain = agents.make(name).score_images(state, indices)
    found = agents.make(f"{name}:refusals=true").score_images(state, indices)
    answered = refusals.answer_probabilities(state, indices)
    assert np.ptp(answered) > 0.5
    np.testing.assert_array_equal(found, plain * answered)


@pytest.mark.parametrize("name", NAMES)
def test_without_refusals_nothing_changes(name):
    state = fakes.make_state(masked=(2,))
    plain, heeding = agents.make(name, seed=4), agents.make(f"{name}:refusals=true", seed=4)
    assert heeding.act({}, state) == plain.act({}, state)
    np.testing.assert_array_equal(heeding.score(state), plain.score(state))
    indices = state.pool.unlabelled
    np.testing.assert_array_equal(
        heeding.score_images(state, indices), plain.score_images(state, indices)
    )


def test_probabilities_tell_what_is_unnameable():
    unnameable = [5, 9, 21, 23, 25, 30]
    state = fakes.make_state(num_images=40)
    state = with_labels(state, [5, 9, 21], told_apart(unnameable))
    found = refusals.answer_probabilities(state, np.arange(40))
    assert found.shape == (40,)
    assert found[unnameable].max() < 0.5
    assert np.delete(found, unnameable).min() > 0.7
    some = refusals.answer_probabilities(state, np.array([30, 2]))
    np.testing.assert_array_equal(some, found[[30, 2]])
    assert len(refusals.answer_probabilities(state, np.arange(0))) == 0


def test_both_answers_and_refusals_are_needed():
    state = fakes.make_state()
    assert refusals.answer_probabilities(state, np.arange(20)) is None
    assert refusals.set_answer_probabilities(state) is None
    every = with_labels(state, np.arange(20))
    assert refusals.answer_probabilities(every, np.arange(20)) is None
    nothing_told = with_labels(state, [12], np.ones((20, 3), np.float32))
    found = refusals.answer_probabilities(nothing_told, np.arange(20))
    np.testing.assert_allclose(found, 10 / 11, atol=1e-3)  # ten answers, one refusal


def test_sets_get_the_mean_of_their_images():
    state = fakes.make_state(masked=(1,))
    state = with_labels(state, [19], told_apart([19], 20))
    sets = state.candidates.copy()
    sets[3, 1:] = -1
    state = dataclasses.replace(state, candidates=sets)
    found, each = (
        refusals.set_answer_probabilities(state),
        refusals.answer_probabilities(state, np.arange(20)),
    )
    assert found[1] == 0
    assert found[3] == pytest.approx(each[sets[3, 0]])
    assert found[0] == pytest.approx(each[sets[0]].mean())


def test_it_is_true_or_false():
    for bad in ("emoc:refusals=1", "emoc-expected:refusals=maybe"):
        with pytest.raises(ValueError, match="refusals: expected True or False, got "):
            agents.make(bad)


class Refused(agents.EMOCAgent):
    """EMOC that sees some images as rejected."""

    def act(self, observation, state):
        return super().act(observation, with_labels(state, state.pool.unlabelled[-3:]))


class TestEMOCWithRefusals(AgentContract):
    def make_agent(self, seed):
        return Refused(seed, refusals=True)
