"""What a run is measured by, and what the runs of a policy come to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import integrate, stats

from emoc_tf.records.run_record import RunRecord


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
        """Returns `mean±error`, or the mean alone where there is no error or none is wanted.

        A mean that is NaN becomes `–`.
        """
        text = "–" if np.isnan(self.mean) else f"{self.mean:.{digits}f}"
        if with_error and not np.isnan(self.standard_error):
            text += f"±{self.standard_error:.{digits}f}"
        return text


def normalised_area(labelled: np.ndarray, values: np.ndarray) -> float:
    """Returns the area under a curve (trapezoids) divided by the range of `labelled`.

    Rows before the first value do not count. Where no image was labelled, it is the mean; NaN
    without any value.

    Args:
        labelled: (rows,) ascending.
        values: (rows,).
    """
    there = np.isfinite(values)
    if not there.any():
        return float("nan")
    labelled, values = labelled[there], values[there]
    if labelled[0] == labelled[-1]:
        return float(values.mean())
    return float(integrate.trapezoid(values, labelled) / (labelled[-1] - labelled[0]))


def _area(column: str) -> Callable[[RunRecord], float]:
    return lambda run: normalised_area(run.steps["labelled"], run.steps[column])


def _final(column: str) -> Callable[[RunRecord], float]:
    return lambda run: float(run.steps[column][-1])


def _seconds(column: str) -> Callable[[RunRecord], float]:
    # Row 0 is the reset: no selection, and the pretraining. The median: a machine that slept for
    # a while, or the first call of a function, is not what a step takes.
    def seconds(run: RunRecord) -> float:
        found = run.timings[column][1:]
        return float(np.median(found[np.isfinite(found)])) if np.isfinite(found).any() else np.nan

    return seconds


@dataclass(frozen=True)
class Measure:
    """One number that a run is measured by.

    Attributes:
        of: Computes it from a finished run.
        label: What tables and figures call it.
        digits: Decimals to show.
    """

    of: Callable[[RunRecord], float]
    label: str
    digits: int


# Areas are means along the way.
MEASURES = {
    "accuracy_area": Measure(_area("test_accuracy"), "mean accuracy", 3),
    "final_accuracy": Measure(_final("test_accuracy"), "final accuracy", 3),
    "discovery_area": Measure(_area("discovered_classes"), "mean classes", 2),
    "final_discovered": Measure(_final("discovered_classes"), "classes found", 1),
}
# The main measure of every report, whatever the runs say; the others describe.
PRIMARY = "accuracy_area"
# Columns of `steps.csv` that curves are drawn of, and what figures call them.
CURVES = {"test_accuracy": "test accuracy", "discovered_classes": "classes found"}

# Blocks of policies and seeds that `comparable` looks at.
_MOST_BLOCKS = 1000


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
        selection_seconds: Wall-clock seconds of a choice, the median of each run's.
        update_seconds: Wall-clock seconds of training in an update step, likewise.
    """

    agent: str
    runs: int
    final_accuracy: Estimate
    accuracy_area: Estimate
    discovery_area: Estimate
    final_discovered: Estimate
    selection_seconds: Estimate
    update_seconds: Estimate


def by_agent(runs: Sequence[RunRecord]) -> dict[str, list[RunRecord]]:
    """Returns the runs of each policy, ordered by seed, in the order in which policies come."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(run.agent, []).append(run)
    return {agent: sorted(group, key=lambda run: run.seed) for agent, group in groups.items()}


def summarise(runs: Sequence[RunRecord]) -> list[PolicySummary]:
    """Returns a summary a policy, by descending area under the accuracy curve.

    Args:
        runs: Finished runs of one configuration.
    """
    measures = {name: measure.of for name, measure in MEASURES.items()} | {
        "selection_seconds": _seconds("selection_seconds"),
        "update_seconds": _seconds("training_seconds"),
    }
    summaries = [
        PolicySummary(
            agent=agent,
            runs=len(group),
            **{
                name: Estimate.of([measure(run) for run in group])
                for name, measure in measures.items()
            },
        )
        for agent, group in by_agent(runs).items()
    ]
    return sorted(summaries, key=lambda row: -row.accuracy_area.mean)


def comparable(runs: Sequence[RunRecord]) -> list[RunRecord]:
    """Returns the runs whose means can be compared: of policies that all have the same seeds.

    Some initialisations are harder than others, so that means over other seeds say little about
    the policies. Of a half-finished grid this is the largest full block of policies and seeds;
    among blocks of one size, the one with most policies. (Where runs are missing all over a large
    grid there may be larger ones than the one found.)

    Args:
        runs: At least one.
    """
    seeds = {agent: frozenset(run.seed for run in group) for agent, group in by_agent(runs).items()}
    blocks: set[frozenset[int]] = set()  # of every group of policies, the seeds that all of it have

    def size(block: frozenset[int]) -> tuple[int, int]:
        policies = sum(block <= own for own in seeds.values())
        return policies * len(block), policies

    def largest(of: set[frozenset[int]]) -> list[frozenset[int]]:
        return sorted(sorted(of, key=sorted), key=size, reverse=True)

    for own in seeds.values():
        blocks |= {own} | {own & block for block in blocks}
        blocks.discard(frozenset())
        # Of policies that each lack another seed all intersections would be millions.
        if len(blocks) > _MOST_BLOCKS:
            blocks = set(largest(blocks)[:_MOST_BLOCKS])

    best = largest(blocks)[0]
    return [run for run in runs if run.seed in best and best <= seeds[run.agent]]


def steps_ahead(runs: Sequence[RunRecord], column: str) -> dict[str, int]:
    """Returns at how many update steps each policy has the highest mean; ties count for all.

    Args:
        runs: Comparable ones, see `comparable`.
        column: Of `steps.csv`.
    """
    groups = by_agent(runs)
    means = np.stack(
        [np.mean([run.steps[column][1:] for run in group], axis=0) for group in groups.values()]
    )
    ahead = means >= means.max(axis=0) - 1e-12
    return dict(zip(groups, ahead.sum(axis=1).tolist(), strict=True))


def labels_to_reach(run: RunRecord, column: str, target: float) -> float:
    """Returns how many images were labelled when a curve first reached a target; ∞ if never.

    Args:
        run: A finished run.
        column: Of `steps.csv`.
        target: The least value wanted.
    """
    reached = np.flatnonzero(run.steps[column] >= target)
    return float(run.steps["labelled"][reached[0]]) if len(reached) else float("inf")
