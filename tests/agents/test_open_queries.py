"""Policies that choose several sets in one step, while queries are open."""

import numpy as np
import pytest

from emoc_tf import agents, streams
from tests.agents import stubs
from tests.exploration.tasks import explore, first_set, restored

LABELS = [0, 1] + [-1] * 8


@pytest.mark.parametrize("name", ["random", "min", "emoc"])
def test_choices_within_a_step_are_drawn_by_themselves(name):
    """Equal random numbers would choose the same place among the sets again and again."""
    exploration = explore(40, num_names=0, set_size=1, num_candidate_sets=20)
    policies = [agents.make(name, seed=seed) for seed in range(60)]

    def places():
        mask = exploration.state.candidate_mask
        chosen = [agent.act({}, exploration.state) for agent in policies]
        return [mask[:choice].sum() / mask.sum() for choice in chosen]

    found = [places()]
    for _ in range(3):
        exploration.ask(first_set(exploration))
        found.append(places())
        assert places() == found[-1]  # a function of state and seed
    correlations = np.corrcoef(found)[np.triu_indices(4, 1)]
    assert np.abs(correlations).max() < 0.45
    again = restored(exploration)
    assert [agent.act({}, again.state) for agent in policies] == [
        agent.act({}, exploration.state) for agent in policies
    ]


@pytest.mark.parametrize("audit", [0, 2])
def test_without_an_open_query_nothing_is_drawn_otherwise_than_ever(audit):
    exploration = explore(LABELS, audit=audit)  # an audit is no choice of a set
    agent = agents.make("random", seed=5)

    def drawn(step):
        expected = streams.generator(5, step, "agent").random()
        return agent.rng(exploration.state).random() == expected

    assert drawn(0)
    query = exploration.ask(first_set(exploration))
    assert not drawn(0)
    exploration.withdraw(query)
    assert drawn(0)
    exploration.answer(exploration.ask(first_set(exploration)), [0, 1])
    assert drawn(1)


def test_a_state_tells_which_images_are_asked_about():
    exploration = explore(LABELS, audit=2)
    assert exploration.state.open_images.tolist() == []  # an audit is never learnt
    query = exploration.ask(first_set(exploration))
    assert exploration.state.open_images.tolist() == sorted(query.indices)
    assert restored(exploration).state.open_images.tolist() == sorted(query.indices)
    assert not exploration.state.open_images.flags.writeable
    exploration.withdraw(query)
    assert exploration.state.open_images.tolist() == []


@pytest.mark.parametrize("name", ["herding", "herding:images=12", "core-set"])
def test_what_is_asked_about_is_covered_already(name):
    """Two groups that lie far apart: the second set comes from the other one than the first."""
    rng = np.random.default_rng(0)
    groups = np.repeat([[1, 0, 0], [0, 1, 0]], 8, axis=0) + 0.01 * rng.normal(size=(16, 3))
    features = np.concatenate([[[0, 0, 1]], groups])
    sets = np.arange(1, 17).reshape(4, 4)  # two of each group
    state = stubs.make_state(features=features, sets=sets, labelled=1, rejected=0, classes=2)
    agent = agents.make(name)
    first = agent.act({}, state)
    asked = stubs.replace(state, open_images=np.sort(sets[first]), open_queries=1)
    alike, *others = (
        agent.score(asked)[m] for m in [first ^ 1, *((2, 3) if first < 2 else (0, 1))]
    )
    assert alike < min(others) / 10
