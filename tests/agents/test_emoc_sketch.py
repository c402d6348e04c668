"""The policies that take sketches of gradients."""

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import emoc
from emoc_tf.scoring import EMOCScorer
from tests.exploration import fakes


@pytest.mark.parametrize("name", ["emoc", "emoc-expected", "emoc-new"])
def test_the_method_reaches_the_scorer(name, monkeypatch):
    made = []

    def spy(*arguments, **settings):
        made.append(settings)
        return EMOCScorer(*arguments, **settings)

    monkeypatch.setattr(emoc, "EMOCScorer", spy)
    state = fakes.make_state()
    exact = agents.make(name).score(state)
    scores = agents.make(f"{name}:method=sketch").score(state)
    assert made == [{}, {"method": "sketch"}]
    np.testing.assert_allclose(scores, exact, rtol=0.05)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match=r"method: expected one of .*'fast'"):
        agents.make("emoc:method=fast")
