"""What the run folders of a comparison say, before it is shown in any form."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoc_tf import drawing
from emoc_tf.results import RunRecord, read_run, run_folders
from emoc_tf.statistics import (
    MEASURES,
    PairedDifference,
    PolicySummary,
    by_agent,
    labels_to_reach,
    paired_differences,
    summarise,
)

# Columns of `steps.csv` that curves are drawn of.
CURVES = ("test_accuracy", "discovered_classes")


@dataclass(frozen=True)
class Reach:
    """How many labels a policy needed to reach a target.

    Attributes:
        agent: The policy.
        column: Of `steps.csv`.
        target: The least value wanted.
        runs: Finished runs.
        reached: How many of them reached it.
        median: Labelled images at that point, the median of all runs; ∞ if most never did.
    """

    agent: str
    column: str
    target: float
    runs: int
    reached: int
    median: float


@dataclass(frozen=True, eq=False)
class Findings:
    """A comparison as far as it has come.

    Attributes:
        output_dir: Where it lies.
        finished: The runs that statistics are made of, by policy in the order of figures.
        unfinished: Runs that were begun.
        missing: Runs `agent/seed` that others of the grid lead to expect and nobody has begun.
        notes: What a reader must know of the runs, in sentences.
        summaries: A row a policy, best mean accuracy first.
        baselines: The policies that others are compared with.
        differences: Of each baseline and measure, a row a policy.
        reach: Labels to reach the target accuracy and all classes, a row a policy each.
    """

    output_dir: Path
    finished: list[RunRecord]
    unfinished: list[RunRecord]
    missing: list[str]
    notes: list[str]
    summaries: list[PolicySummary]
    baselines: tuple[str, ...]
    differences: dict[tuple[str, str], list[PairedDifference]]
    reach: list[Reach]

    @property
    def agents(self) -> list[str]:
        """The policies with a finished run, in the order of figures."""
        return drawing.ordered([run.agent for run in self.finished])

    @property
    def common_seeds(self) -> list[int]:
        """The seeds that every policy has finished."""
        seeds = [{run.seed for run in group} for group in by_agent(self.finished).values()]
        return sorted(set.intersection(*seeds))


def gather(
    output_dir: str | Path, baselines: Sequence[str] = (), accuracy: float | None = None
) -> Findings:
    """Reads the run folders and computes what reports show.

    Args:
        output_dir: The folder of a comparison.
        baselines: Policies to compare the others with; if none are given, `random` and `emoc` as
            far as they are there, or else the policy with the lowest mean accuracy.
        accuracy: The target of "labels to reach"; if not given, what the first baseline ends with.

    Raises:
        ValueError: There is no finished run, the runs have different configurations, or there is
            no such baseline.
    """
    folder = Path(output_dir)
    runs, broken = _readable(folder)
    finished = [run for run in runs if run.finished]
    unfinished = [run for run in runs if not run.finished]
    notes = [f"Left out: {sentence}" for sentence in broken]
    if not finished:
        told = f" ({'; '.join([*notes, *_failures(unfinished)])})" if notes or unfinished else ""
        raise ValueError(f"output_dir: expected a finished run in {output_dir}, got none{told}")
    if unfinished:
        notes.append(f"{len(unfinished)} of {len(runs)} runs are unfinished: left out")
    _check_one_configuration(finished)
    missing = _missing(runs)
    if missing:
        notes.append(f"Not begun, though others with these names and seeds are: {_list(missing)}")
    notes += _failures(unfinished) + _mixtures(finished)
    summaries = summarise(finished)
    names = [row.agent for row in summaries]
    for name in baselines:
        if name not in names:
            raise ValueError(f"baselines: expected some of {names}, got {name!r}")
    chosen = tuple(baselines) or tuple(n for n in ("random", "emoc") if n in names)
    chosen = chosen or (names[-1],)
    if accuracy is None:
        first = next(row for row in summaries if row.agent == chosen[0])
        accuracy = first.final_accuracy.mean
    return Findings(
        output_dir=folder,
        finished=finished,
        unfinished=unfinished,
        missing=missing,
        notes=notes,
        summaries=summaries,
        baselines=chosen,
        differences={
            (name, measure): paired_differences(finished, name, measure)
            for name in chosen
            for measure in MEASURES
        },
        reach=_reach(finished, accuracy),
    )


def _readable(output_dir: Path) -> tuple[list[RunRecord], list[str]]:
    """Returns the runs in a folder, and what is wrong with those that cannot be read."""
    runs, broken = [], []
    for folder in run_folders(output_dir):
        try:
            runs.append(read_run(folder))
        except ValueError as error:
            broken.append(str(error))
    if not runs and not broken:
        raise ValueError(f"output_dir: expected run folders <agent>/<seed>/ in {output_dir}")
    place = {agent: i for i, agent in enumerate(drawing.ordered([run.agent for run in runs]))}
    return sorted(runs, key=lambda run: (place[run.agent], run.seed)), broken


def _failures(runs: Sequence[RunRecord]) -> list[str]:
    return [f"{run.agent}/{run.seed} failed: {run.failure}" for run in runs if run.failure]


def _missing(runs: Sequence[RunRecord]) -> list[str]:
    there = {(run.agent, run.seed) for run in runs}
    seeds = sorted({seed for _, seed in there})
    agents = dict.fromkeys(run.agent for run in runs)
    return [f"{agent}/{seed}" for agent in agents for seed in seeds if (agent, seed) not in there]


def _list(names: Sequence[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _check_one_configuration(runs: Sequence[RunRecord]) -> None:
    for run in runs[1:]:
        if run.configuration != runs[0].configuration:
            differing = [
                name
                for name in runs[0].configuration
                if run.configuration.get(name) != runs[0].configuration[name]
            ]
            raise ValueError(
                f"output_dir: expected runs of one configuration, got {runs[0].agent}/"
                f"{runs[0].seed} and {run.agent}/{run.seed} that differ in {differing}"
            )


def _mixtures(runs: Sequence[RunRecord]) -> list[str]:
    """Returns in sentences where the runs were not made in one place."""
    notes = [
        f"Note: {run.agent}/{run.seed} is mixed: a part of it was made in another place"
        for run in runs
        if run.environment.get("mixed")
    ]
    for name in ("versions", "commit", "source", "cpu", "gpus", "intra_op_threads", "variables"):
        values = {str(run.environment.get(name)) for run in runs}
        if len(values) > 1:
            notes.append(f"Note: the runs differ in {name}: {'; '.join(sorted(values))}")
    return notes


def _reach(runs: Sequence[RunRecord], accuracy: float) -> list[Reach]:
    targets = {
        "test_accuracy": accuracy,
        "discovered_classes": float(runs[0].configuration["novel_classes"]),
    }
    rows = []
    for column, target in targets.items():
        for agent, group in by_agent(runs).items():
            labels = [labels_to_reach(run, column, target) for run in group]
            reached = int(np.isfinite(labels).sum())
            rows.append(Reach(agent, column, target, len(group), reached, float(np.median(labels))))
    return rows
