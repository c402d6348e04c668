"""What the run folders of a comparison say, before it is shown in any form."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoc_tf.analysis import families, notes, untested
from emoc_tf.analysis.measures import (
    CURVES,
    MEASURES,
    PolicySummary,
    by_agent,
    comparable,
    labels_to_reach,
    summarise,
)
from emoc_tf.analysis.savings import Saving, labels_saved
from emoc_tf.analysis.statistics import PairedDifference, paired_differences, penalties
from emoc_tf.records.run_record import RunRecord, file_name, read_run, run_folders, run_path


@dataclass(frozen=True)
class Reach:
    """How many labels a policy needed to reach a target.

    Attributes:
        agent: The policy.
        target: What was to be reached, in words.
        runs: Finished runs that have a target.
        reached: How many of them reached it.
        median: Labelled images at that point, the median of all runs; ∞ if half or more never did.
        most: Labelled images that all runs that never did had at the end; NaN if all did.
    """

    agent: str
    target: str
    runs: int
    reached: int
    median: float
    most: float


@dataclass(frozen=True, eq=False)
class Findings:
    """A comparison as far as it has come.

    Attributes:
        output_dir: Where it lies.
        finished: The runs that paired differences are made of, by policy in the order of figures.
        compared: Those of them that means and curves are made of, see `measures.comparable`.
        unfinished: Runs that were begun.
        missing: Runs `agent/seed` that others of the grid lead to expect and nobody has begun.
        notes: What a reader must know of the runs, in sentences.
        summaries: A row a policy, best mean accuracy first: of `compared`, and behind them of
            the policies that are not in it, from runs of their own.
        baselines: The policies that others are compared with.
        differences: Of each baseline and measure, a row a policy.
        saved: Of each baseline, the labels that policies save, see `savings.labels_saved`.
        penalties: Of each curve, see `statistics.penalties`; empty if no two policies are tested.
        reach: Labels to reach the target accuracy, and all classes if there are novel ones, a row
            a policy each.
        accuracy: The column of `steps.csv` that stands in the place of `test_accuracy` in all runs
            here; another one where no run has test data.
    """

    output_dir: Path
    finished: list[RunRecord]
    compared: list[RunRecord]
    unfinished: list[RunRecord]
    missing: list[str]
    notes: list[str]
    summaries: list[PolicySummary]
    baselines: tuple[str, ...]
    differences: dict[tuple[str, str], list[PairedDifference]]
    saved: dict[str, list[Saving]]
    penalties: dict[str, tuple[list[str], np.ndarray]]
    reach: list[Reach]
    accuracy: str = "test_accuracy"

    @property
    def curves(self) -> dict[str, str]:
        """`CURVES`, with the accuracy by its true name, and without it where there is none."""
        called = {**CURVES, "test_accuracy": untested.ACCURACIES[self.accuracy]}
        return {column: called[column] for column in _shown(self.finished)}

    @property
    def accuracy_name(self) -> str:
        """What tables call the accuracy; without more words that on test data."""
        return untested.ACCURACIES[self.accuracy].removeprefix("test ")

    def label(self, measure: str) -> str:
        """Returns what tables call a measure, with the accuracy by its true name."""
        return MEASURES[measure].label.replace("accuracy", self.accuracy_name)

    def name(self, measure: str) -> str:
        """Returns what files call a measure, with the accuracy by its true name."""
        return measure.replace("accuracy", self.accuracy.removeprefix("test_"))

    @property
    def agents(self) -> list[str]:
        """The policies with a finished run, in the order of figures."""
        return families.ordered([run.agent for run in self.finished])

    def is_compared(self, agent: str) -> bool:
        """Whether a policy's means can be compared with those of the others."""
        return any(run.agent == agent for run in self.compared)

    def starred(self, agent: str) -> str:
        """Returns a policy's name, with a star if its means compare with nothing."""
        return agent if self.is_compared(agent) else f"{agent}*"

    @property
    def fullest_seed(self) -> int:
        """The first of the initialisations that most policies have finished."""
        seeds = [run.seed for run in self.finished]
        return min(set(seeds), key=lambda seed: (-seeds.count(seed), seed))


def gather(
    output_dir: str | Path,
    baselines: Sequence[str] = (),
    accuracy: float | None = None,
    *,
    only_agents: Sequence[str] = (),
    only_seeds: Sequence[int] = (),
) -> Findings:
    """Reads the run folders and computes what reports show.

    Args:
        output_dir: The folder of a comparison.
        baselines: Policies to compare the others with; if none are given, `random` and `emoc` as
            far as they are there, or else the policy with the lowest mean accuracy.
        accuracy: The target of "labels to reach"; if not given, each seed has its own: what the
            first baseline ends with.
        only_agents: The policies to read; all that are there if none are given.
        only_seeds: The initialisations to read; likewise.

    Raises:
        ValueError: There is no finished run, the runs have different configurations, or there is
            no such policy, initialisation, baseline or accuracy.
    """
    folder = Path(output_dir)
    runs, broken = _readable(folder)
    runs, broken, only = _asked_for(runs, broken, only_agents, only_seeds)
    finished = [run for run in runs if run.finished]
    unfinished = [run for run in runs if not run.finished]
    told = only + [f"Left out: {sentence}" for sentence in broken.values()]
    if unfinished:
        told.append(f"{len(unfinished)} of {len(runs)} runs are unfinished: left out")
    if not finished:
        why = "; ".join([*told, *notes.failures(unfinished)])
        raise ValueError(f"output_dir: expected a finished run in {output_dir}, got none ({why})")
    _check_one_configuration(finished)
    missing = _missing(runs, broken)
    if missing:
        names = notes.listed(missing)
        told.append(f"Not begun, though others with these names and seeds are: {names}")
    told += notes.failures(unfinished) + notes.mixtures(finished)
    finished, shortened = untested.of_one_length(finished)
    accuracy_column = untested.best_accuracy(finished)
    told += [*shortened, *untested.told(finished, accuracy_column), *notes.of_answers(finished)]
    finished = untested.measured_by(finished, accuracy_column)
    compared = comparable(finished)
    told += notes.not_compared(finished, compared)
    inside = {run.agent for run in compared}
    summaries = summarise(compared)
    usual: tuple[str, ...] = tuple(n for n in ("random", "emoc") if n in inside)
    usual = usual or (summaries[-1].agent,)
    summaries += summarise([run for run in finished if run.agent not in inside])
    names = [row.agent for row in summaries]
    for name in baselines:
        if name not in names:
            raise ValueError(f"baselines: expected some of {names}, got {name!r}")
    if accuracy is not None and not 0 <= accuracy <= 1:
        raise ValueError(f"accuracy: expected a number in [0, 1], got {accuracy}")
    chosen = tuple(dict.fromkeys(baselines)) or usual
    matrices = {column: penalties(finished, column) for column in _shown(finished)}
    any_tested = any(np.isfinite(matrix).any() for _, matrix in matrices.values())
    return Findings(
        output_dir=folder,
        finished=finished,
        compared=compared,
        unfinished=unfinished,
        missing=missing,
        notes=told,
        summaries=summaries,
        baselines=chosen,
        differences={
            (name, measure): paired_differences(finished, name, measure)
            for name in chosen
            for measure in MEASURES
        },
        saved={name: labels_saved(finished, name) for name in chosen},
        penalties=matrices if any_tested else {},
        reach=_reach(compared, chosen[0], accuracy, untested.ACCURACIES[accuracy_column]),
        accuracy=accuracy_column,
    )


def _shown(runs: Sequence[RunRecord]) -> list[str]:
    """Returns the columns of `CURVES` in which there is a value at all."""
    return [c for c in CURVES if any(np.isfinite(run.steps[c]).any() for run in runs)]


def _readable(output_dir: Path) -> tuple[list[RunRecord], dict[str, str]]:
    """Returns the runs in a folder, and of those that cannot be read `agent/seed` and the error."""
    runs, broken = [], {}
    for folder in run_folders(output_dir):
        try:
            runs.append(read_run(folder))
            run = runs[-1]
            if folder != run_path(output_dir, run.agent, run.seed):
                raise ValueError(f"{folder} is a copy of {runs.pop().agent}/{run.seed}")
        except (ValueError, OSError) as error:
            broken[f"{folder.parent.name}/{folder.name}"] = str(error)
    if not runs and not broken:
        raise ValueError(f"output_dir: expected run folders <agent>/<seed>/ in {output_dir}")
    place = {agent: i for i, agent in enumerate(families.ordered([run.agent for run in runs]))}
    return sorted(runs, key=lambda run: (place[run.agent], run.seed)), broken


def _asked_for(
    runs: Sequence[RunRecord],
    broken: Mapping[str, str],
    only_agents: Sequence[str],
    only_seeds: Sequence[int],
) -> tuple[list[RunRecord], dict[str, str], list[str]]:
    """Returns the runs of some policies and initialisations, and in a sentence what is left out."""
    names = families.ordered([run.agent for run in runs])
    there = sorted({run.seed for run in runs} | {int(place.split("/")[1]) for place in broken})
    unreadable = {place.split("/")[0] for place in broken}  # whose errors are told
    for agent in only_agents:
        if agent not in names and file_name(agent) not in unreadable:
            raise ValueError(f"only_agents: expected some of {names}, got {agent!r}")
    for seed in only_seeds:
        if seed not in there:
            raise ValueError(f"only_seeds: expected some of {there}, got {seed}")

    def wanted(agent: str, seed: str) -> bool:
        """Takes both as folders have them."""
        return (not only_agents or agent in map(file_name, only_agents)) and (
            not only_seeds or seed in map(str, only_seeds)
        )

    kept = [run for run in runs if wanted(file_name(run.agent), str(run.seed))]
    note = f"Left out, as asked: {len(runs) - len(kept)} runs of other policies or initialisations"
    if others := [name for name in names if only_agents and name not in only_agents]:
        note += f"; p is not corrected for comparisons with {notes.listed(others)}"
    told = [note] if len(kept) < len(runs) else []
    return kept, {place: why for place, why in broken.items() if wanted(*place.split("/"))}, told


def _missing(runs: Sequence[RunRecord], broken: Mapping[str, str]) -> list[str]:
    there = {(run.agent, run.seed) for run in runs}
    seeds = sorted({seed for _, seed in there})
    agents = dict.fromkeys(run.agent for run in runs)
    return [
        f"{agent}/{seed}"
        for agent in agents
        for seed in seeds
        if (agent, seed) not in there and "/".join(run_path("", agent, seed).parts) not in broken
    ]


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


def _reach(
    runs: Sequence[RunRecord], baseline: str, accuracy: float | None, name: str
) -> list[Reach]:
    own = {run.seed: run.steps["test_accuracy"][-1] for run in runs if run.agent == baseline}
    if accuracy is not None:
        own = {run.seed: accuracy for run in runs}
        to_accuracy = f"{name.removeprefix('test ')} {accuracy:.3f}"
    else:
        to_accuracy = f"{baseline}'s final {name.removeprefix('test ')}"
    novel = runs[0].configuration["novel_classes"]
    targets = [(to_accuracy, "test_accuracy", own)]
    if novel and runs[0].task is None:  # of a task nobody knows how many there are
        targets.append(("all classes", "discovered_classes", {run.seed: novel for run in runs}))
    rows = []
    for text, column, target in targets:
        for agent, group in by_agent(runs).items():
            asked = [run for run in group if run.seed in target]
            labels = np.array([labels_to_reach(run, column, target[run.seed]) for run in asked])
            reached = np.isfinite(labels)
            median = float(np.median(labels)) if asked else float("nan")
            # Where images are rejected or skipped, runs end at different counts.
            ends = np.array([run.steps["labelled"][-1] for run in asked])[~reached]
            most = float(min(ends, default=np.nan))
            rows.append(Reach(agent, text, len(asked), int(reached.sum()), median, most))
    return rows
