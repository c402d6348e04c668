"""What every query policy has to keep to, as a test class to inherit."""

import abc
import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoc_tf.agents import Agent
from emoc_tf.data.images import read_only
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.envs.observation import observe
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.models import structure

World = tuple[dict[str, np.ndarray], ExplorationState]

_SMALL = {
    "known_classes": 3, "novel_classes": 2, "initial_per_class": 4, "pool_per_class": 6,
    "num_candidate_sets": 6, "set_size": 3, "pretrain_iterations": 20, "update_iterations": 2,
    "batch_size": 4,
}  # fmt: skip


@functools.cache
def _environment(**changes: Any) -> ActiveExplorationEnv:
    return ActiveExplorationEnv(**{**_SMALL, **changes})


@functools.cache
def _kept_state(steps: int, **changes: Any) -> ExplorationState:
    env = _environment(**changes)
    env.reset(seed=0)
    for _ in range(steps):
        env.step(0)
    return env.state


def make_world(steps: int = 0, masked: Sequence[int] = (), **changes: Any) -> World:
    """Returns an observation and the state that it belongs to, copies for this call alone.

    Args:
        steps: Steps made before.
        masked: Candidate sets to be taken out.
        **changes: Fields of the configuration to change; digits with a small network otherwise.
    """
    kept = _kept_state(steps, **changes)
    state = dataclasses.replace(
        kept,
        model=structure.copy(kept.model),
        pool=kept.pool.snapshot(),
        probabilities=read_only(kept.probabilities.copy()),
        features=read_only(kept.features.copy()),
    )
    return _take_out(state, masked, **changes)


def _take_out(state: ExplorationState, masked: Sequence[int], **changes: Any) -> World:
    """Returns the world without some candidate sets; the model is the same."""
    candidates, mask = state.candidates.copy(), state.candidate_mask.copy()
    candidates[list(masked)], mask[list(masked)] = -1, False
    state = dataclasses.replace(
        state, candidates=read_only(candidates), candidate_mask=read_only(mask)
    )
    return observe(state, _environment(**changes).config), state


class AgentContract(abc.ABC):
    """Tests of a query policy: inherit, give `make_agent`, and let pytest collect the class.

    An agent passes if it chooses only sets that may be chosen, as Python integers; if its choice is
    a function of observation, state and seed, whatever it was asked before; if it leaves what it is
    shown as it was; if it copes with one candidate set, one image a set and one known class; if it
    raises ValueError where there is nothing to choose; and if its scores of images, where it has
    `score_images`, are a function of state and seed, whatever candidate sets there are.

    Example:
        >>> from emoc_tf import agents
        >>> from emoc_tf.testing import AgentContract
        >>> class TestMine(AgentContract):  # pytest collects it
        ...     def make_agent(self, seed):
        ...         return agents.MinAgent(seed)
        >>> TestMine().test_only_possible_sets_are_chosen()
        >>> len([name for name in dir(TestMine) if name.startswith("test_")])
        8
    """

    @abc.abstractmethod
    def make_agent(self, seed: int) -> Agent:
        """Returns a new agent."""

    def _choose(self, agent: Agent, world: World) -> int:
        choice, mask = agent.act(*world), world[1].candidate_mask
        if type(choice) is not int:
            raise AssertionError(f"act: expected a Python int, got {choice!r}")
        if not (0 <= choice < len(mask) and mask[choice]):
            possible = np.flatnonzero(mask).tolist()
            raise AssertionError(f"act: expected one of the sets {possible}, got {choice}")
        return choice

    def test_only_possible_sets_are_chosen(self) -> None:
        """Whichever sets are masked."""
        _, state = make_world()
        for seed in range(3):
            agent = self.make_agent(seed)
            for masked in ((), (0, 1, 2, 3, 5), (2, 4)):
                self._choose(agent, _take_out(state, masked))

    def test_choices_are_functions_of_observation_state_and_seed(self) -> None:
        """The same agent later, and another one with the same seed, choose the same."""
        agent = self.make_agent(3)
        first = self._choose(agent, make_world())
        self._choose(agent, make_world(steps=1))
        asked = (agent, agent, self.make_agent(3))
        again = [self._choose(one, make_world()) for one in asked]
        if again != [first] * 3:
            raise AssertionError(f"act: expected the choice {first} again, got {again}")

    def test_image_scores_are_functions_of_state_and_seed(self) -> None:
        """Of an agent that has `score_images`: a number an image, whichever sets there are."""
        agent, (_, state) = self.make_agent(3), make_world()
        if agent.score_images is None:
            return
        indices = state.pool.unlabelled[::2]
        first = np.asarray(agent.score_images(state, indices))
        if first.shape != indices.shape or np.isnan(first).any():
            raise AssertionError(
                f"score_images: expected {indices.shape} numbers, one an image, got {first!r}"
            )
        agent.score_images(make_world(steps=1)[1], indices)
        _, bare = _take_out(state, range(len(state.candidates)))
        for one in (agent, self.make_agent(3)):
            again = np.asarray(one.score_images(bare, indices))
            if not np.array_equal(again, first):
                raise AssertionError(f"score_images: expected {first!r} again, got {again!r}")

    def test_what_is_shown_is_left_as_it_was(self) -> None:
        """Observation, state and the model's variables."""
        observation, state = make_world(steps=1)
        before = [array.copy() for array in _arrays(observation, state)]
        self._choose(self.make_agent(0), (observation, state))
        after = _arrays(observation, state)
        for i, (old, new) in enumerate(zip(before, after, strict=True)):
            np.testing.assert_array_equal(old, new, f"act: array {i} of what is shown changed")

    def test_one_candidate_set(self) -> None:
        """M = 1."""
        self._choose(self.make_agent(0), make_world(num_candidate_sets=1))

    def test_one_image_a_set(self) -> None:
        """K = 1."""
        self._choose(self.make_agent(0), make_world(set_size=1))

    def test_one_known_class(self) -> None:
        """C = 1: all posteriors are 1."""
        self._choose(self.make_agent(0), make_world(known_classes=1))

    def test_nothing_to_choose(self) -> None:
        """All sets are masked."""
        try:
            choice = self.make_agent(0).act(*make_world(masked=tuple(range(6))))
        except ValueError:
            return
        raise AssertionError(f"act: expected ValueError without any set, got {choice!r}")


def _arrays(observation: dict[str, np.ndarray], state: ExplorationState) -> Sequence[np.ndarray]:
    return [
        *observation.values(),
        *(np.asarray(variable) for variable in state.model.variables),
        *(getattr(state.pool, name) for name in ("images", "labels")),
        *(getattr(state, n) for n in ("candidates", "candidate_mask", "probabilities", "features")),
    ]
