"""The baselines: random choice and the uncertainty heuristics, from posteriors alone."""

import abc
from collections.abc import Mapping

import numpy as np

from emoc_tf import uncertainty
from emoc_tf.agents.agent import Agent, ScoringAgent, check_choice
from emoc_tf.exploration.state import ExplorationState


class RandomAgent(Agent):
    """Chooses uniformly among the candidate sets.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.RandomAgent(seed=3).act(observation, env.state)
        39
    """

    def act(self, observation: Mapping[str, np.ndarray], state: ExplorationState) -> int:
        """Returns the index of a candidate set."""
        return int(self.rng(state).choice(np.flatnonzero(check_choice(state))))


class PosteriorAgent(ScoringAgent):
    """Chooses the highest mean of a measure of single images' posteriors."""

    @staticmethod
    @abc.abstractmethod
    def measure(posterior: np.ndarray) -> np.ndarray:
        """Returns how much each image is wanted, (n,), by its posterior, (n, C) with C > 0."""

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns the mean measure of each set, (M,)."""
        return uncertainty.set_means(self._measured(state.probabilities), state.candidates)

    def score_images(self, state: ExplorationState, indices: np.ndarray) -> np.ndarray:
        """Returns the measure of some pool images, (k,)."""
        return self._measured(state.probabilities[indices])

    def _measured(self, posterior: np.ndarray) -> np.ndarray:
        # Where no class is known yet, all images are alike.
        return self.measure(posterior) if posterior.shape[1] else np.zeros(len(posterior))


class MinAgent(PosteriorAgent):
    """Chooses the lowest mean maximum class score, the most uncertain.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.MinAgent().act(observation, env.state)
        5
    """

    @staticmethod
    def measure(posterior: np.ndarray) -> np.ndarray:
        """Returns minus the maximum class score."""
        return -uncertainty.max_score(posterior)


class MinLiteralAgent(PosteriorAgent):
    """Chooses the lowest mean minimum class score, as the paper's method section words it.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.MinLiteralAgent().act(observation, env.state)
        17
    """

    @staticmethod
    def measure(posterior: np.ndarray) -> np.ndarray:
        """Returns minus the minimum class score."""
        return -uncertainty.min_score(posterior)


class MarginAgent(PosteriorAgent):
    """Chooses the lowest mean difference of the two highest class scores.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.MarginAgent().act(observation, env.state)
        5
    """

    @staticmethod
    def measure(posterior: np.ndarray) -> np.ndarray:
        """Returns minus the margin."""
        return -uncertainty.margin(posterior)


class MaxAgent(PosteriorAgent):
    """Chooses the highest mean maximum class score, the most certain.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.MaxAgent().act(observation, env.state)
        92
    """

    @staticmethod
    def measure(posterior: np.ndarray) -> np.ndarray:
        """Returns the maximum class score."""
        return uncertainty.max_score(posterior)


class EntropyAgent(PosteriorAgent):
    """Chooses the highest mean entropy of the images' posteriors.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.EntropyAgent().act(observation, env.state)
        5
    """

    @staticmethod
    def measure(posterior: np.ndarray) -> np.ndarray:
        """Returns the entropy divided by log C, which leaves the order as it is."""
        return uncertainty.entropy(posterior)


class SetEntropyAgent(EntropyAgent):
    """Chooses the highest entropy of the set's mean posterior.

    That is the mean entropy of its images and how far their posteriors differ from each other
    (their Jensen-Shannon divergence). Images of one class that the model knows agree; those of a
    class that it does not know are taken for one class or another.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.SetEntropyAgent().act(observation, env.state)
        39
    """

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns the entropy of each set's mean posterior divided by log C, (M,)."""
        means = uncertainty.set_mean_rows(state.probabilities, state.candidates)
        return self._measured(means)
