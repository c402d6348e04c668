"""What is thought of a new class, where policies weigh its label with it."""

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents.set_evidence import set_evidence
from tests.agents import stubs

NAMES = ["emoc-new", "emoc-new:new_unit=1", "lookahead", "lookahead:score=flips:learning_rate=1"]


@pytest.mark.parametrize("name", NAMES)
def test_the_prior_and_the_temperature_make_the_probability_of_a_new_class(name):
    state = stubs.make_state(labelled=18)

    def scores(prior=0.5, tau=12.0):
        return agents.make(f"{name}:prior_new={prior}:tau={tau}").score(state)

    known, new = scores(prior=1e-9), scores(prior=1 - 1e-9)
    np.testing.assert_array_equal(agents.make(name).score(state), scores())
    assert np.abs(known - new).max() > 1e-4
    for prior, tau in ((0.5, 12.0), (0.1, 12.0), (0.8, 2.0), (0.5, 1.0)):
        unseen = set_evidence(state, state.candidates, new_prior=prior, temperature=tau).novelty
        wanted = (1 - unseen) * known + unseen * new
        np.testing.assert_allclose(scores(prior, tau), wanted, rtol=1e-4, atol=1e-6)


def test_images_are_weighed_by_the_same_settings():
    state = stubs.make_state(labelled=18)
    images = state.candidates[3:6, 0]
    alone = stubs.replace(state, candidates=images[:, None], candidate_mask=images >= 0)
    for name in ("emoc-new", "lookahead"):
        agent = agents.make(f"{name}:prior_new=0.1:tau=3")
        np.testing.assert_allclose(agent.score_images(state, images), agent.score(alone), rtol=1e-5)


@pytest.mark.parametrize("name", ["emoc-new", "lookahead", "p-wrong"])
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("prior_new=1", r"prior_new: expected a number in \(0, 1\), got 1"),
        ("tau=0", "tau: expected a number above 0, got 0"),
    ],
)
def test_bad_settings(name, setting, message):
    with pytest.raises(ValueError, match=message):
        agents.make(f"{name}:{setting}")
