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
