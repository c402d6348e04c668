"""States with numbers that are none: refused in a sentence, never chosen from in silence."""

import numpy as np
import pytest

from emoc_tf import agents
from tests.agents import stubs

NAMES = [
    "badge", "bait", "bald", "bald:information=labels", "core-set", "egl:layer=head", "emoc-new",
    "egl:layer=head:labels=joint", "gp-emoc", "gp-emoc:kernel=linear", "herding",
    "herding:kernel=tophat", "herding:weights=margin", "lookahead", "lookahead:score=flips",
    "novel", "p-wrong",
]  # fmt: skip


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["features", "probabilities"])
@pytest.mark.parametrize("where", ["labelled", "in a set", "waiting"])
def test_they_are_refused_by_name_and_image(name, where, bad):
    state = stubs.make_state(labelled=18, num_sets=2)
    waiting = np.setdiff1d(state.pool.unlabelled, state.candidates)
    image = {"labelled": 4, "in a set": state.candidates[1, 0], "waiting": waiting[0]}[where]
    values = getattr(state, name).copy()
    values[image, 1] = bad
    broken = stubs.replace(state, **{name: values})
    message = rf"state\.{name}: expected finite numbers, got {bad} for image {image} of the pool"
    for policy in NAMES:
        agent = agents.make(policy)
        with pytest.raises(ValueError, match=message):
            agent.act({}, broken)
        with pytest.raises(ValueError, match=message):
            agent.score_images(broken, state.candidates[0, :2])
