"""Rewards: functions of the outcomes before and after a step, and weighted sums of them."""

from collections.abc import Callable

import numpy as np

from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.registries import REWARDS, reward_terms

Reward = Callable[[StepOutcome, StepOutcome], float]
# Those that are made of test accuracies.
NEED_TEST = ("accuracy_gain", "area")


def accuracy_gain(before: StepOutcome, after: StepOutcome) -> float:
    """Returns the gain in test accuracy, in [−1, 1]."""
    return after.test_accuracy - before.test_accuracy


def discovery(before: StepOutcome, after: StepOutcome) -> float:
    """Returns the number of classes that the step discovered, at least 0."""
    return float(after.discovered_classes - before.discovered_classes)


def area(before: StepOutcome, after: StepOutcome) -> float:
    """Returns what the step adds to the area under the accuracy curve, in [0, 1].

    It is the mean of the accuracies before and after (a trapezoid of width 1), so the mean
    reward of an episode is the normalised area under its curve.
    """
    return (before.test_accuracy + after.test_accuracy) / 2


def register_reward(name: str, function: Reward) -> None:
    """Adds a reward, for `ExplorationConfig(reward=name)` and as a term of sums.

    Args:
        name: A new name of letters, digits, `.`, `_` and `-`.
        function: Of the outcomes before and after a step; it returns a number.

    Raises:
        ValueError: The name is taken or no such name, or `function` is none.

    Example:
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> from emoc_tf.exploration import register_reward
        >>> def loss(before, after):
        ...     return min(0.0, after.known_accuracy - before.known_accuracy)
        >>> register_reward("loss", loss)
        >>> env = ActiveExplorationEnv(reward="accuracy_gain+0.5*loss")
        >>> env.config.reward
        'accuracy_gain+0.5*loss'
    """
    REWARDS.register(name, function)


def parse(text: str) -> Reward:
    """Returns the reward that `text` names; raises `ValueError` as `reward_terms` does."""
    weights, names = zip(*reward_terms(text), strict=True)
    terms = [REWARDS[name] for name in names]
    if weights == (1,):
        return terms[0]
    return lambda before, after: float(np.dot(weights, [term(before, after) for term in terms]))
