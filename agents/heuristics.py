"""The baselines: random choice and the uncertainty heuristics, from posteriors alone."""

from collections.abc import Mapping

import numpy as np

from emoc_tf import uncertainty
from emoc_tf.agents.agent import Agent, ScoringAgent, check_choice
from emoc_tf.exploration.state import ExplorationState


class RandomAgent(Agent):
    """Chooses uniformly among the candidate sets."""

    def act(self, observation: Mapping[str, np.ndarray], state: ExplorationState) -> int:
        """Returns the index of a candidate set."""
        return int(self.rng(state).choice(np.flatnonzero(check_choice(state))))


class MinAgent(ScoringAgent):
    """Chooses the lowest mean maximum class score, the most uncertain."""

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns minus the mean maximum class score of each set, (M,)."""
        return -uncertainty.set_means(uncertainty.max_score(state.probabilities), state.candidates)


class MinLiteralAgent(ScoringAgent):
    """Chooses the lowest mean minimum class score, as the paper's method section words it."""

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns minus the mean minimum class score of each set, (M,)."""
        return -uncertainty.set_means(uncertainty.min_score(state.probabilities), state.candidates)


class MarginAgent(ScoringAgent):
    """Chooses the lowest mean difference of the two highest class scores."""

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns minus the mean margin of each set, (M,)."""
        return -uncertainty.set_means(uncertainty.margin(state.probabilities), state.candidates)


class MaxAgent(ScoringAgent):
    """Chooses the highest mean maximum class score, the most certain."""

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns the mean maximum class score of each set, (M,)."""
        return uncertainty.set_means(uncertainty.max_score(state.probabilities), state.candidates)
