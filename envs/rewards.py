"""Rewards: functions of the outcomes before and after a step, and weighted sums of them."""

import re
from collections.abc import Callable

from emoc_tf.evaluation import StepOutcome

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

_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"
_TERM = re.compile(rf"(?:({_NUMBER})\*)?([a-z_]+)")


def parse(text: str) -> Reward:
    """Returns the reward that `text` names: a name in `REWARDS` or a weighted sum of some.

    Args:
        text: Terms `name` or `weight*name` with `+` between them, such as
            `"accuracy_gain + 0.1*discovery"`.

    Raises:
        ValueError: A term is something else.
    """
    terms = []
    # A plus or minus behind `*` or an exponent's `e` belongs to the number.
    for term in re.split(r"(?<!\*)(?<!\d[eE])\+", re.sub(r"\s", "", text)):
        match = _TERM.fullmatch(term)
        if not match or match[2] not in REWARDS:
            raise ValueError(
                f"reward: expected one of {sorted(REWARDS)} or a weighted sum of them such as "
                f"'accuracy_gain+0.1*discovery', got {text!r}"
            )
        terms.append((float(match[1] or 1), REWARDS[match[2]]))
    if len(terms) == 1 and terms[0][0] == 1:
        return terms[0][1]
    return lambda before, after: sum(weight * reward(before, after) for weight, reward in terms)
