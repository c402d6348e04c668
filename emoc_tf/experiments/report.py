"""Draws the figure and prints the table of a comparison, from its run folders alone.

Takes one argument, the output folder, and writes curves.png, curves.svg and table.csv into it.

Example: python -m emoc_tf.experiments.report out
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from emoc_tf import checkpoint, plots
from emoc_tf.experiments.binary import run_binary
from emoc_tf.results import RunRecord, read_run, run_folders
from emoc_tf.statistics import PolicySummary, summarise

# Attribute of `PolicySummary`, heading, digits, whether its standard error is printed too.
_COLUMNS = (
    ("final_accuracy", "final\naccuracy", 3, True),
    ("accuracy_area", "accuracy\narea", 3, True),
    ("final_discovered", "classes\nfound", 1, True),
    ("discovery_area", "classes\narea", 2, True),
    ("selection_seconds", "s per\nchoice", 2, False),
    ("update_seconds", "s per\nupdate", 2, False),
)


def write_report(output_dir: str | Path, console: Console) -> None:
    """Writes figure and table of the finished runs in a folder, and prints the table.

    Raises:
        ValueError: There is no finished run, or the runs have different configurations.
    """
    runs, broken = _readable(Path(output_dir))
    finished = [run for run in runs if run.finished]
    for sentence in broken:
        console.print(f"Left out: {sentence}", highlight=False, markup=False, soft_wrap=True)
    if not finished:
        raise ValueError(f"output_dir: expected a finished run in {output_dir}, got none")
    if len(finished) < len(runs):
        console.print(f"{len(runs) - len(finished)} of {len(runs)} runs are unfinished: left out")
    for run in runs:
        if run.failure is not None and not run.finished:
            failed = f"{run.agent}/{run.seed} failed: {run.failure}"
            console.print(failed, highlight=False, markup=False, soft_wrap=True)
    _check_comparable(finished, console)
    summaries = summarise(finished)
    folder = Path(output_dir)
    paths = plots.save(plots.learning_curves(finished), folder / "curves")
    checkpoint.write_text(folder / "table.csv", _csv(summaries))
    console.print(_table(summaries))
    console.print("Mean ± standard error over runs; areas are means along the curve.")
    written = ", ".join(map(str, [*paths, folder / "table.csv"]))
    console.print(f"Written: {written}", soft_wrap=True)


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
    return sorted(runs, key=lambda run: (run.agent, run.seed)), broken


def _check_comparable(runs: Sequence[RunRecord], console: Console) -> None:
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
    for run in runs:
        if run.environment.get("mixed"):
            console.print(
                f"Note: {run.agent}/{run.seed} is mixed: a part of it was made in another place"
            )
    for name in ("versions", "commit", "source", "cpu", "gpus", "intra_op_threads", "variables"):
        values = {str(run.environment.get(name)) for run in runs}
        if len(values) > 1:
            console.print(f"Note: the runs differ in {name}: {'; '.join(sorted(values))}")


def _table(summaries: Sequence[PolicySummary]) -> Table:
    """Returns the table to print; it fits 80 characters where the policies' names are short."""
    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("\npolicy", overflow="fold", min_width=13)
    table.add_column("\nruns", justify="right")
    for _, heading, _, _ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in summaries:
        cells = [getattr(row, name).text(digits, error) for name, _, digits, error in _COLUMNS]
        table.add_row(row.agent, str(row.runs), *cells)
    return table


def _csv(summaries: Sequence[PolicySummary]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name, *_ in _COLUMNS]
    writer.writerow(["agent", "runs", *(f"{n}{s}" for n in names for s in ("", "_standard_error"))])
    for row in summaries:
        estimates = [getattr(row, name) for name in names]
        values = [value for e in estimates for value in (e.mean, e.standard_error)]
        writer.writerow([row.agent, row.runs, *values])
    return text.getvalue()


def main(argv: list[str]) -> None:
    """Reports on the folder given."""
    if len(argv) != 2:
        raise ValueError(f"arguments: expected one output folder, got {argv[1:]}")
    write_report(argv[1], Console())


if __name__ == "__main__":
    run_binary(main)
