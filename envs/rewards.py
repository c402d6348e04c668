"""Rewards: functions of the outcomes before and after a step."""

from collections.abc import Callable

from emoc_tf.evaluation import StepOutcome

Reward = Callable[[StepOutcome, StepOutcome], float]


def accuracy_gain(before: StepOutcome, after: StepOutcome) -> float:
    """Returns the gain in test accuracy, in [−1, 1]."""
    return after.test_accuracy - before.test_accuracy


def discovery(before: StepOutcome, after: StepOutcome) -> float:
    """Returns the number of classes that the step discovered, at least 0."""
    return float(after.discovered_classes - before.discovered_classes)


REWARDS: dict[str, Reward] = {"accuracy_gain": accuracy_gain, "discovery": discovery}
