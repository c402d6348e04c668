"""What runs without test data are compared by, and over which steps."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from emoc_tf.records.run_record import RunRecord

# Columns of `steps.csv` that tell an accuracy, the best one first, and what they are called.
ACCURACIES = {
    "test_accuracy": "test accuracy",
    "audit_accuracy": "audit accuracy",
    "answer_accuracy": "accuracy on answers",
}
_MOST_TOLD = 12


def best_accuracy(runs: Sequence[RunRecord]) -> str:
    """Returns the first column of `ACCURACIES` that a run has; the first of all if none has any."""
    for column in ACCURACIES:
        if any(np.isfinite(run.steps.get(column, np.nan)).any() for run in runs):
            return column
    return "test_accuracy"


def measured_by(runs: Sequence[RunRecord], column: str) -> list[RunRecord]:
    """Returns runs with another accuracy in the place of the one on test data.

    Where a step brought none, such as a set of which nothing got a class, the last one stands.

    Args:
        runs: Some.
        column: One of `ACCURACIES`.
    """
    if column == "test_accuracy":
        return list(runs)
    return [
        replace(run, steps={**run.steps, "test_accuracy": _carried(run.steps.get(column), run)})
        for run in runs
    ]


def _carried(values: np.ndarray | None, run: RunRecord) -> np.ndarray:
    if values is None:
        return np.full(len(run.steps["step"]), np.nan)
    last = np.maximum.accumulate(np.where(np.isfinite(values), np.arange(len(values)), 0))
    return values[last]


def told(runs: Sequence[RunRecord], column: str) -> list[str]:
    """Returns in sentences what an accuracy that is not on test data is worth."""
    if column == "audit_accuracy":
        ends = [_interval(run) for run in runs]
        more = f"; and {len(ends) - _MOST_TOLD} more" if len(ends) > _MOST_TOLD else ""
        return [
            f"Without test data, accuracy is that on the audit images, which were drawn uniformly; "
            f"at the end, with 95% intervals: {'; '.join(ends[:_MOST_TOLD])}{more}"
        ]
    if column == "answer_accuracy":
        return [
            "Without test data and audit, accuracy is that on the images just answered, which each "
            "policy chose itself: compare policies by classes found"
        ]
    if not any(np.isfinite(run.steps["test_accuracy"]).any() for run in runs):
        return ["Without test data, audit and answers there is no accuracy"]
    return []


def _interval(run: RunRecord) -> str:
    names = ("audit_accuracy", "audit_low", "audit_high")
    found = [run.steps[name] for name in names] if set(names) <= set(run.steps) else [np.array([])]
    if not len(found[0]) or np.isnan(found[0][-1]):
        return f"{run.agent}/{run.seed} –"
    value, low, high = (column[-1] for column in found)
    return f"{run.agent}/{run.seed} {value:.3f} [{low:.3f}, {high:.3f}]"


def of_one_length(runs: Sequence[RunRecord]) -> tuple[list[RunRecord], list[str]]:
    """Returns runs as far as all of them went, and in sentences what was left out.

    Args:
        runs: Finished ones, at least one. People stop when they like.
    """
    steps = [len(run.steps["step"]) - 1 for run in runs]
    notes = []
    idle = [f"{run.agent}/{run.seed}" for run, count in zip(runs, steps, strict=True) if not count]
    if idle and any(steps):
        notes.append(f"Left out, since nothing was answered: {', '.join(idle[:_MOST_TOLD])}")
        runs = [run for run, count in zip(runs, steps, strict=True) if count]
        steps = [count for count in steps if count]
    least, most = min(steps), max(steps)
    if least < most:
        notes.append(
            f"The runs have {least} to {most} steps: all are shown as far as the shortest, "
            f"{least} steps"
        )
        runs = [_cut(run, least + 1) for run in runs]
    return list(runs), notes


def _cut(run: RunRecord, rows: int) -> RunRecord:
    return replace(
        run,
        steps={name: values[:rows] for name, values in run.steps.items()},
        timings={name: values[:rows] for name, values in run.timings.items()},
        recalls=run.recalls[:rows],
    )
