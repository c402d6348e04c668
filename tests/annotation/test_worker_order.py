"""What the worker does first."""

import io
import queue
from types import SimpleNamespace

import numpy as np
import pytest

from emoc_tf.agents.agent import ScoringAgent
from emoc_tf.annotation.settings import Settings
from emoc_tf.annotation.worker import Worker


@pytest.mark.parametrize(("people", "ready", "first"), [
    (1, 1, "ask"), (1, 2, "learn"), (4, 2, "ask"), (4, 7, "ask"), (4, 8, "learn"),
])  # fmt: skip
def test_nobody_waits_while_it_learns(monkeypatch, people, ready, first):
    """Two sets lie ready for each person before it learns."""
    worker = Worker(Settings("images", "out"), queue.Queue(), io.StringIO())
    state = SimpleNamespace(candidate_mask=np.ones(1, bool), step=0)
    ids = {number: f"set {number}" for number in range(ready)}
    worker._exploration = SimpleNamespace(state=state, ids=ids, applied=0)
    worker._reserve, worker._backlog = 3 * people, [{"kind": "goal"}]
    done = []
    for name in ("ask", "learn"):
        monkeypatch.setattr(worker, f"_{name}", lambda name=name: done.append(name))
    worker._work()
    assert done == [first]


class Counting(ScoringAgent):
    """Prefers the first sets, and counts how it is asked."""

    def __init__(self):
        super().__init__(0)
        self.scored = self.acted = 0

    def score(self, state):
        self.scored += 1
        return -np.arange(len(state.candidates), dtype=float)

    def act(self, observation, state):
        self.acted += 1
        return int(np.flatnonzero(state.candidate_mask)[0])


class Chosen:
    """An exploration of twelve sets of two images; those that share an image go with a choice."""

    def __init__(self):
        sets = np.array([[i, i + 1] for i in range(12)])
        self.config, self.asked, self.ids = None, [], {}
        self.state = SimpleNamespace(
            candidates=sets, candidate_mask=np.ones(12, bool), known_classes=[0, 1], step=0,
            probabilities=np.ones((13, 2)), open_queries=0,
        )  # fmt: skip

    def ask(self, choice):
        assert self.state.candidate_mask[choice]
        chosen = self.state.candidates[choice]
        shared = np.isin(self.state.candidates, chosen).any(axis=1)
        self.change(
            candidates=np.where(shared[:, None], -1, self.state.candidates),
            candidate_mask=self.state.candidate_mask & ~shared,
        )
        self.asked.append(chosen.tolist())
        self.ids[len(self.ids)] = f"set {len(self.ids)}"

    def change(self, **changes):
        self.state = SimpleNamespace(**vars(self.state) | changes)


@pytest.fixture
def chooser(monkeypatch):
    worker = Worker(Settings("images", "out"), queue.Queue(), io.StringIO())
    worker._exploration, worker._agent = Chosen(), Counting()
    monkeypatch.setattr(worker, "_publish", lambda: None)
    monkeypatch.setattr("emoc_tf.envs.observation.observe", lambda state, config, nearest: {})
    return worker


@pytest.mark.parametrize(("wanted", "scored", "acted"), [(3, 0, 3), (4, 1, 0), (5, 1, 0)])
def test_many_sets_are_chosen_at_once(chooser, wanted, scored, acted):
    chooser._reserve = wanted
    for _ in range(min(wanted, 4)):
        chooser._ask()
    assert (chooser._agent.scored, chooser._agent.acted) == (scored, acted)
    assert chooser._exploration.asked == [[0, 1], [2, 3], [4, 5], [6, 7]][:wanted]


def test_a_policy_that_heeds_what_is_asked_about_chooses_set_by_set(chooser):
    chooser._reserve, chooser._agent.heeds_open_sets = 12, True
    chooser._ask()
    chooser._ask()
    assert (chooser._agent.scored, chooser._agent.acted) == (0, 2)


@pytest.mark.parametrize("change", ["another model", "other sets"])
def test_scores_of_before_count_for_their_own_model_and_sets_alone(chooser, change):
    chooser._reserve = 12
    chooser._ask()
    if change == "another model":
        chooser._exploration.change(probabilities=np.ones((13, 2)))
    else:
        sets = chooser._exploration.state.candidates[::-1].copy()
        chooser._exploration.change(candidates=sets, candidate_mask=(sets >= 0).all(axis=1))
    chooser._ask()
    assert chooser._agent.scored == 2


def test_nothing_is_scored_while_no_class_is_known(chooser):
    chooser._reserve = 12
    chooser._exploration.change(known_classes=[])
    chooser._ask()
    assert (chooser._agent.scored, chooser._agent.acted) == (0, 1)
