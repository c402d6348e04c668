"""A choice that will take long is told beforehand, once."""

import warnings

import pytest

from emoc_tf.agents import emoc
from emoc_tf.scoring import EMOCScorer
from tests.agents import stubs


@pytest.mark.parametrize("confidence", [0.95, None])
def test_a_choice_that_takes_long_is_told_once(monkeypatch, confidence):
    state, agent = stubs.make_state(), emoc.EMOCAgent(confidence=confidence)
    monkeypatch.setattr(EMOCScorer, "expected_seconds", lambda self, count, pairs: 1200.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        choice = agent.act({}, state)  # too little to measure
    monkeypatch.setattr(emoc, "MANY_PRODUCTS", 1)
    with pytest.warns(UserWarning, match="a choice is expected to take 20 minutes or more for"):
        assert agent.act({}, state) == choice
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert agent.act({}, state) == choice


@pytest.mark.parametrize("update, told", [(None, None), (7.0, None), (5.0, "12 times the last")])
def test_what_is_long_follows_from_the_last_update(monkeypatch, update, told):
    """Also where the first choice, before any update, was not long."""
    first, agent = stubs.make_state(step=0), emoc.EMOCAgent()
    monkeypatch.setattr(emoc, "MANY_PRODUCTS", 1)
    monkeypatch.setattr(EMOCScorer, "expected_seconds", lambda self, count, pairs: 60.0)
    then = stubs.replace(first, step=1, update_seconds=update)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for state in (first, then, then):
            agent.act({}, state)
    seen = [str(each.message) for each in seen if "a choice is expected" in str(each.message)]
    assert len(seen) == (told is not None)
    assert all("to take 60 seconds or more" in each and told in each for each in seen)
