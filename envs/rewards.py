"""Rewards: functions of the outcomes before and after a step, and weighted sums of them."""

import re
from collections.abc import Callable

import numpy as np

from emoc_tf.exploration.outcome import StepOutcome

Reward = Callable[[StepOutcome, StepOutcome], float]


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


REWARDS: dict[str, Reward] = {
    "accuracy_gain": accuracy_gain,
    "discovery": discovery,
    "area": area,
}

_TERM = r"(?:([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)\s*\*\s*)?([a-z_]+)"
_SUM = re.compile(rf"\s*{_TERM}\s*(?:\+\s*{_TERM}\s*)*")


def parse(text: str) -> Reward:
    """Returns the reward that `text` names: a name in `REWARDS` or a weighted sum of some.

    Args:
        text: Terms `name` or `weight*name` with `+` between them, such as
            `"accuracy_gain + 0.1*discovery"`.

    Raises:
        ValueError: A term is something else.
    """
    found = re.findall(_TERM, text) if _SUM.fullmatch(text) else []
    weights = [float(weight or 1) for weight, _ in found]
    if not found or not all(name in REWARDS for _, name in found) or not np.isfinite(weights).all():
        raise ValueError(
            f"reward: expected one of {sorted(REWARDS)} or a weighted sum of them such as "
            f"'accuracy_gain+0.1*discovery', got {text!r}"
        )
    terms = [REWARDS[name] for _, name in found]
    if weights == [1]:
        return terms[0]
    return lambda before, after: float(np.dot(weights, [term(before, after) for term in terms]))
