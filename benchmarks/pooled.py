r"""Paired differences over the runs of several folders, made by one protocol at several times.

    python benchmarks/pooled.py results/cifar100-paper results/cifar100-confirm \
        [--baselines=emoc,random]

Of the policies that all folders have, over all initialisations: a table for each baseline, with
p-values corrected by Holm for the policies of it; in how many initialisations each policy is ahead
of the baseline; the labels that each saves; and how far each is ahead step by step. One folder
alone may be given too. Settings that both have must be equal: older records lack some that came
since.
"""

import sys
from collections.abc import Iterator, Sequence

import numpy as np
from absl import app, flags
from rich import box
from rich.console import Console
from rich.table import Table

from emoc_tf.analysis.measures import MEASURES, PRIMARY, by_agent
from emoc_tf.analysis.savings import labels_saved
from emoc_tf.analysis.statistics import interval, paired_differences
from emoc_tf.analysis.untested import of_one_length
from emoc_tf.records.run_record import RunRecord, read_runs
from emoc_tf.report import tables

_ACROSS = 7  # policies side by side
BASELINES = flags.DEFINE_list("baselines", ["emoc", "random"], "Policies to compare with.")


def pooled(folders: Sequence[str]) -> list[RunRecord]:
    """Returns the finished runs of the policies that all folders have, as far as the shortest went.

    Raises:
        ValueError: No policy has finished runs in all of them, or two folders have a run in common
            or settings that differ.
    """
    groups = [[run for run in read_runs(folder) if run.finished] for folder in folders]
    shared = set.intersection(*({run.agent for run in group} for group in groups))
    if not shared:
        raise ValueError("folders: expected a policy with finished runs in each, got none")
    runs = [run for group in groups for run in group if run.agent in shared]
    names = [(run.agent, run.seed) for run in runs]
    if len(set(names)) < len(names):
        raise ValueError("folders: expected runs of different initialisations, got some twice")
    first = runs[0].configuration
    for run in runs:
        both = first.keys() & run.configuration.keys()
        differing = sorted(name for name in both if first[name] != run.configuration[name])
        if differing:
            raise ValueError(
                f"folders: expected runs of one protocol, got {run.agent}/{run.seed} that differs "
                f"from {runs[0].agent}/{runs[0].seed} in {differing}"
            )
    return of_one_length(runs)[0]


def _differences(runs: Sequence[RunRecord], baseline: str) -> Table:
    table = Table(f"minus {baseline}", "pairs", "ahead", box=box.SIMPLE_HEAD)
    for measure in MEASURES.values():
        for heading in (measure.label, "p", "Holm"):
            table.add_column(heading, justify="right")
    table.add_column("labels saved", justify="right")
    columns = {
        name: {row.agent: row for row in paired_differences(runs, baseline, name)}
        for name in MEASURES
    }
    saved = {row.agent: row for row in labels_saved(runs, baseline)}
    values = {
        agent: {run.seed: MEASURES[PRIMARY].of(run) for run in group}
        for agent, group in by_agent(runs).items()
    }
    for agent, row in columns[PRIMARY].items():
        ahead = sum(
            values[agent][seed] > value
            for seed, value in values[baseline].items()
            if seed in values[agent]
        )
        cells = []
        for found in (columns[name][agent] for name in MEASURES):
            ps = (tables.p_value(p) for p in (found.p, found.p_corrected))
            cells += [tables.difference(found), *ps]
        labels = "–"
        if (saving := saved.get(agent)) is not None:
            labels = tables.with_interval(saving.labels, saving.low, saving.high, 0)
        table.add_row(agent, str(row.pairs), str(ahead), *cells, labels)
    return table


def _steps(runs: Sequence[RunRecord], baseline: str) -> Iterator[Table]:
    """Yields how far each policy is ahead of a baseline in accuracy, a row a step."""
    groups = by_agent(runs)
    own = {run.seed: run.steps["test_accuracy"] for run in groups.pop(baseline)}
    rows = {
        agent: np.array(
            [run.steps["test_accuracy"] - own[run.seed] for run in group if run.seed in own]
        )
        for agent, group in groups.items()
        if any(run.seed in own for run in group)
    }
    columns = {
        agent: [tables.with_interval(step.mean(), *interval(step), 3) for step in differences.T]
        for agent, differences in rows.items()
    }
    names = list(columns)
    for agents in (names[i : i + _ACROSS] for i in range(0, len(names), _ACROSS)):
        table = Table(f"step, minus {baseline}", box=box.SIMPLE_HEAD)
        for agent in agents:
            table.add_column(agent, justify="right", overflow="fold")
        for step, cells in enumerate(zip(*(columns[agent] for agent in agents), strict=True)):
            table.add_row(str(step), *cells)
        yield table


def main(argv: list[str]) -> None:
    """Looks at the folders given."""
    if len(argv) < 2:
        sys.exit("usage: python benchmarks/pooled.py OUTPUT_DIR [OUTPUT_DIR ...]")
    try:
        runs = pooled(argv[1:])
        for name in BASELINES.value:
            if name not in by_agent(runs):
                raise ValueError(f"baselines: expected some of {[*by_agent(runs)]}, got {name!r}")
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    console = Console(width=220)
    console.print(f"{len(runs[0].steps['step']) - 1} steps")
    for name, group in by_agent(runs).items():
        means = ", ".join(
            f"{measure.label} {np.mean([measure.of(run) for run in group]):.{measure.digits}f}"
            for measure in MEASURES.values()
        )
        console.print(f"{name}: {len(group)} initialisations, {means}")
    for baseline in BASELINES.value:
        console.print(_differences(runs, baseline))
        for table in _steps(runs, baseline):
            console.print(table)


if __name__ == "__main__":
    app.run(main)
