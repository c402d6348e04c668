"""Sets whose label the model would get wrong, since it takes them for others or does not know them.

P(wrong) is from Haines, Xiang: Active learning using Dirichlet processes for rare class discovery
and classification, BMVC 2011; they draw images in proportion to it, here the highest is chosen.
"""

import numpy as np
from scipy.special import logsumexp

from emoc_tf.agents.agent import SetScoringAgent
from emoc_tf.agents.set_evidence import (
    TEMPERATURE,
    checked_settings,
    most_likely_columns,
    set_evidence,
)
from emoc_tf.exploration.state import ExplorationState


class NovelAgent(SetScoringAgent):
    """Chooses the set that is most likely of a class not known yet, by its mean feature.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.NovelAgent().act(observation, env.state)
        79
    """

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the log odds of a new class, (M,), which do not saturate as probabilities do."""
        return set_evidence(state, sets).log_odds


class PWrongAgent(SetScoringAgent):
    """Chooses the set whose most likely label is most likely wrong, by its mean feature.

    The label is the model's, as EMOC's: argmax_c Σ log p(c|x') over the set. It is wrong where the
    set is of another known class or of a new one.

    Args:
        seed: Breaks ties.
        prior_new: P(new) of a set before its features are looked at, in (0, 1).
        tau: Temperature of the likelihoods, above 0, see `set_evidence`.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.PWrongAgent().act(observation, env.state)
        3
    """

    def __init__(self, seed: int = 0, *, prior_new: float = 0.5, tau: float = TEMPERATURE) -> None:
        super().__init__(seed)
        self._settings = checked_settings(prior_new, tau)

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns log P(wrong) − log P(right), (M,), which does not saturate."""
        evidence = set_evidence(state, sets, **self._settings)
        known = evidence.known
        if not known.shape[1]:
            return np.zeros(len(sets))
        column = most_likely_columns(state, sets)[:, None]
        others = known.copy()
        np.put_along_axis(others, column, -np.inf, axis=1)
        wrong = logsumexp(np.concatenate([others, evidence.new[:, None]], axis=1), axis=1)
        return wrong - np.take_along_axis(known, column, axis=1)[:, 0]
