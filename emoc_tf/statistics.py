"""Summaries of finished runs, one row a policy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import integrate, stats

from emoc_tf.results import RunRecord


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and its standard error (NaN for one seed)."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """Returns mean and standard error of at least one value."""
        error = float(stats.sem(values)) if len(values) > 1 else float("nan")
        return cls(float(np.mean(values)), error)

    def text(self, digits: int, with_error: bool = True) -> str:
        """Returns `mean±error`, or the mean alone where there is no error or none is wanted."""
        text = f"{self.mean:.{digits}f}"
        if with_error and not np.isnan(self.standard_error):
            text += f"±{self.standard_error:.{digits}f}"
        return text


@dataclass(frozen=True)
class PolicySummary:
    """One policy over its seeds.

    Attributes:
        agent: The policy's name.
        runs: Number of finished runs.
        final_accuracy: Test accuracy after the last step, in [0, 1].
        accuracy_area: Area under the accuracy curve over labelled images, divided by their range:
            the mean accuracy along the way, in [0, 1].
        discovery_area: The same for discovered classes, in classes.
        final_discovered: Classes discovered after the last step.
        selection_seconds: Wall-clock seconds per choice.
        update_seconds: Wall-clock seconds of training per update step.
    """

    agent: str
    runs: int
    final_accuracy: Estimate
    accuracy_area: Estimate
    discovery_area: Estimate
    final_discovered: Estimate
    selection_seconds: Estimate
    update_seconds: Estimate


def normalised_area(labelled: np.ndarray, values: np.ndarray) -> float:
    """Returns the area under a curve (trapezoids) divided by the range of `labelled`.

    Args:
        labelled: (rows,) ascending, at least two.
        values: (rows,).
    """
    return float(integrate.trapezoid(values, labelled) / (labelled[-1] - labelled[0]))


def summarise(runs: Sequence[RunRecord]) -> list[PolicySummary]:
    """Returns a summary a policy, by descending area under the accuracy curve.

    Args:
        runs: Finished runs of one configuration.
    """
    by_agent: dict[str, list[RunRecord]] = {}
    for run in runs:
        by_agent.setdefault(run.agent, []).append(run)
    summaries = [_summarise(agent, group) for agent, group in by_agent.items()]
    return sorted(summaries, key=lambda row: -row.accuracy_area.mean)


def _summarise(agent: str, runs: list[RunRecord]) -> PolicySummary:
    def area(column: str) -> Estimate:
        return Estimate.of(
            [normalised_area(run.steps["labelled"], run.steps[column]) for run in runs]
        )

    def final(column: str) -> Estimate:
        return Estimate.of([run.steps[column][-1] for run in runs])

    def seconds(column: str) -> Estimate:
        # Row 0 is the reset: no selection, and the pretraining.
        return Estimate.of([run.timings[column][1:].mean() for run in runs])

    return PolicySummary(
        agent=agent,
        runs=len(runs),
        final_accuracy=final("test_accuracy"),
        accuracy_area=area("test_accuracy"),
        discovery_area=area("discovered_classes"),
        final_discovered=final("discovered_classes"),
        selection_seconds=seconds("selection_seconds"),
        update_seconds=seconds("training_seconds"),
    )
