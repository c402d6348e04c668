"""Prints what RESULTS.md holds against the paper's sentences and the report's page lacks.

    python benchmarks/claims.py results/cifar100-paper [--agent=emoc]

Three tables and a line, from the finished runs alone, over the initialisations that all policies
have, as far as the shortest run went:

1. step by step: in how many initialisations each policy has the highest accuracy (least and most
   over the steps; a tie counts for all), and at how many steps the policy asked about is above and
   below it in a paired t-test at 0.05, not corrected;
2. the shares of queries that go to classes known at the start, to novel ones not found yet and
   to novel ones found already; only where candidate sets are of one class;
3. accuracy on the classes known at the start, at first and at the end, and what that is against
   `random`'s;
4. of the variance of a policy's runs in each measure, the share that is the initialisation's,
   alike for all policies (two-way analysis of variance without interaction).
"""

import warnings
from collections.abc import Sequence

import numpy as np
from absl import app, flags
from rich import box
from rich.console import Console
from rich.table import Table
from scipy import stats

from emoc_tf.analysis.measures import MEASURES, Measure, by_agent, comparable
from emoc_tf.analysis.statistics import LEVEL, interval
from emoc_tf.analysis.untested import of_one_length
from emoc_tf.records.run_record import RunRecord, read_runs
from emoc_tf.report.tables import number, with_interval

AGENT = flags.DEFINE_string("agent", "emoc", "The policy that step by step is about.")
Groups = dict[str, list[RunRecord]]


def step_by_step(groups: Groups, agent: str) -> dict[str, tuple[int, int, int, int]]:
    """Returns of each policy least and most first places, and tests won and lost against `agent`.

    Raises:
        ValueError: There is no such policy.
    """
    if agent not in groups:
        raise ValueError(f"agent: expected one of {list(groups)}, got {agent!r}")
    accuracy = {
        name: np.stack([run.steps["test_accuracy"][1:] for run in group])  # [seeds, steps]
        for name, group in groups.items()
    }
    highest = np.max(list(accuracy.values()), axis=0)
    found = {}
    for name, values in accuracy.items():
        first = (values == highest).sum(axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the policy itself: all differences are 0
            test = stats.ttest_rel(accuracy[agent], values)
        above, below = (
            int(((test.pvalue < LEVEL) & (sign * test.statistic > 0)).sum()) for sign in (1, -1)
        )
        found[name] = (int(first.min()), int(first.max()), above, below)
    return found


def query_shares(runs: Sequence[RunRecord]) -> tuple[float, float, float]:
    """Returns the shares of queries to first classes, to new ones and to ones found already."""
    counts = np.zeros(3)
    for run in runs:
        seen = set(run.classes[: run.configuration["known_classes"]])
        start = frozenset(seen)
        for queried in run.steps["queried_class"][1:].astype(int):
            counts[0 if queried in start else 2 if queried in seen else 1] += 1
            seen.add(queried)
    return tuple(counts / counts.sum())


def retention(
    runs: Sequence[RunRecord], baseline: Sequence[RunRecord]
) -> tuple[float, float, float, float, tuple[float, float]]:
    """Returns accuracy on the first classes: at first, mean and least change, against a baseline.

    The last two are the mean paired difference of the last accuracies and its 95% interval.
    """
    known = np.array([run.steps["known_accuracy"][[0, -1]] for run in runs])  # [seeds, 2]
    change = known[:, 1] - known[:, 0]
    difference = known[:, 1] - [run.steps["known_accuracy"][-1] for run in baseline]
    return (
        float(known[:, 0].mean()), float(change.mean()), float(change.min()),
        float(difference.mean()), interval(difference),
    )  # fmt: skip


def shared_variance(groups: Groups, measure: Measure) -> float:
    """Returns the initialisations' share of the variance within a policy, below 0 by chance only.

    With k policies and mean squares MS it is v/(v + MS_error) for v = (MS_seeds − MS_error)/k, the
    intraclass correlation of Shrout and Fleiss ("Intraclass correlations: uses in assessing rater
    reliability", Psychological Bulletin 86, 1979), their ICC(3,1).
    """
    values = np.array([[measure.of(run) for run in group] for group in groups.values()])
    policies, seeds = values.shape
    of_seeds = values.mean(axis=0) - values.mean()
    error = values - values.mean(axis=1, keepdims=True) - of_seeds
    mean_square = policies * (of_seeds**2).sum() / (seeds - 1)
    error_square = (error**2).sum() / ((policies - 1) * (seeds - 1))
    variance = (mean_square - error_square) / policies
    total = variance + error_square
    return float(variance / total) if total else float("nan")


def show(groups: Groups, agent: str) -> None:
    """Prints the three tables."""
    console = Console()
    runs = next(iter(groups.values()))
    console.print(
        f"{len(runs)} initialisations of {len(groups)} policies, {len(runs[0].steps['step']) - 1} "
        f"steps"
    )
    table = _table("first in initialisations", f"{agent} above at steps", f"{agent} below at steps")
    for name, (least, most, above, below) in step_by_step(groups, agent).items():
        table.add_row(name, f"{least} to {most}", str(above), str(below))
    console.print(table)
    if runs[0].configuration["sampler"] == "single_class":
        table = _table("queries: first classes", "novel, new", "novel, found")
        for name, group in groups.items():
            table.add_row(name, *(number(share, 3) for share in query_shares(group)))
        console.print(table)
    else:
        console.print("Shares of queries: none, since candidate sets are of several classes")
    table = _table("first classes, at first", "change", "in the worst run", "minus random's")
    for name, group in groups.items():
        start, change, least, mean, ends = retention(group, groups.get("random", group))
        first, worst = (number(value, 3, signed=True) for value in (change, least))
        against = with_interval(mean, *ends, 3) if "random" in groups else "–"
        table.add_row(name, number(start, 3), first, worst, against)
    console.print(table)
    if len(groups) > 1 and len(runs) > 1:
        shares = ", ".join(
            f"{measure.label} {number(shared_variance(groups, measure), 2)}"
            for measure in MEASURES.values()
        )
        console.print(f"The initialisations' share of the variance within a policy: {shares}")


def _table(*headings: str) -> Table:
    table = Table("policy", box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def main(argv: list[str]) -> None:
    """Looks at the folder given."""
    if len(argv) != 2:
        raise app.UsageError(f"expected one output folder, got {argv[1:]}")
    finished = [run for run in read_runs(argv[1]) if run.finished]
    if not finished:
        raise app.UsageError(f"expected a finished run in {argv[1]}, got none")
    try:
        show(by_agent(comparable(of_one_length(finished)[0])), AGENT.value)
    except ValueError as error:
        raise app.UsageError(str(error)) from None


if __name__ == "__main__":
    app.run(main)
