import re

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.testing import AgentContract


class TestRegisteredAgents(AgentContract):
    @pytest.fixture(params=agents.names(), autouse=True)
    def _name(self, request):
        self.name = request.param

    def make_agent(self, seed):
        return agents.make(self.name, seed=seed)


class Broken(agents.Agent):
    """Keeps to the contract but for one point."""

    def __init__(self, seed, point):
        super().__init__(seed)
        self.point, self.calls = point, 0

    def score_images(self, state, indices):
        self.calls += 1
        if self.point == "shape":
            return 1.0
        if self.point == "nan":
            return np.where(indices == indices[0], np.nan, 1.0)
        if self.point == "sets":
            return indices * state.candidates.max()
        return indices + (self.calls if self.point == "forgets" else 0)

    def act(self, observation, state):
        self.calls += 1
        possible = np.flatnonzero(state.candidate_mask)
        if not len(possible):
            if self.point == "silent":
                return 0
            raise ValueError("state: expected a set")
        if self.point == "masked":
            return 0
        if self.point == "numpy":
            return possible[0]
        if self.point == "memory":
            return int(possible[self.calls % 2 if len(possible) > 1 else 0])
        if self.point == "trains":
            state.model.set_weights([weight + 1 for weight in state.model.get_weights()])
        if self.point == "writes":
            observation["set_features"][0] = 0
        return int(possible[0])


@pytest.mark.parametrize(
    ("point", "test"),
    [
        ("masked", "test_only_possible_sets_are_chosen"),
        ("numpy", "test_one_candidate_set"),
        ("memory", "test_choices_are_functions_of_observation_state_and_seed"),
        ("trains", "test_what_is_shown_is_left_as_it_was"),
        ("writes", "test_what_is_shown_is_left_as_it_was"),
        ("silent", "test_nothing_to_choose"),
        ("shape", "test_image_scores_are_functions_of_state_and_seed"),
        ("nan", "test_image_scores_are_functions_of_state_and_seed"),
        ("sets", "test_image_scores_are_functions_of_state_and_seed"),
        ("forgets", "test_image_scores_are_functions_of_state_and_seed"),
    ],
)
def test_the_contract_finds_what_is_broken(point, test):
    """In the order that pytest runs the tests in, with a sound agent before and behind."""

    class Contract(AgentContract):
        point = None

        def make_agent(self, seed):
            return Broken(seed, self.point)

    def failing():
        failed = []
        for name in [name for name in vars(AgentContract) if name.startswith("test_")]:
            try:
                getattr(Contract(), name)()
            except AssertionError as error:
                assert re.search("act: |score_images: ", str(error))
                failed.append(name)
        return failed

    assert failing() == []
    Contract.point = point
    assert test in failing()
    Contract.point = None
    assert failing() == []
