"""A grid of runs and the report on it, as the binaries make them."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from emoc_tf.agents.registry import chosen
from emoc_tf.analysis.findings import Findings
from emoc_tf.analysis.measures import PRIMARY
from emoc_tf.report import tables
from emoc_tf.report.write import write_report
from emoc_tf.running.console import say
from emoc_tf.running.grid import failure_summary, run_grid
from emoc_tf.running.pools.pool import Pool
from emoc_tf.running.single_run import Grid


def compare(
    grid: Grid,
    names: Sequence[str],
    seeds: Sequence[int],
    console: Console,
    num_workers: int = 1,
    pool: Pool | None = None,
) -> tuple[Findings | None, str]:
    """Runs a grid, see `grid.run_grid`, and writes the report of what has finished.

    Args:
        grid: Settings and output folder.
        names: Policies, with variants; `all` stands for every registered one.
        seeds: At least 0.
        console: Where progress and tables are shown.
        num_workers: How many runs are worked on side by side.
        pool: Where they are worked on otherwise.

    Returns:
        What was found, None if there is nothing to report, and what failed, in sentences that end
        a binary; empty if nothing did.

    Raises:
        ValueError: See `grid.run_grid`, or a policy is named beside `all`; before any run.
    """
    names = chosen(names)
    failures = run_grid(grid, names, seeds, console, num_workers, pool)
    failed = failure_summary(grid, failures) if failures else ""
    if len(failures) == len(names) * len(seeds):
        return None, failed
    try:
        return report(grid.output_dir, console, data_dir=grid.config.data_dir), failed
    except (ValueError, OSError) as error:
        return None, f"{failed}\nerror: no report of {grid.output_dir}: {error}".strip()


def report(
    output_dir: str | Path,
    console: Console,
    *,
    data_dir: str | None = None,
    baselines: Sequence[str] = (),
    accuracy: float | None = None,
    latex: bool = False,
    only_agents: Sequence[str] = (),
    only_seeds: Sequence[int] = (),
    report_dir: str | Path | None = None,
) -> Findings:
    """Writes the report of a folder, see `write.write_report`, and prints its tables and notes.

    Raises:
        ValueError: See `write.write_report`.
    """
    findings, written = write_report(
        output_dir,
        data_dir=data_dir,
        baselines=baselines,
        accuracy=accuracy,
        latex=latex,
        only_agents=only_agents,
        only_seeds=only_seeds,
        report_dir=report_dir,
    )
    for note in findings.notes:
        say(console, note)
    console.print(tables.summary_table(findings))
    for baseline in findings.baselines:
        if findings.differences[baseline, PRIMARY]:
            console.print(tables.difference_table(findings, baseline))
    console.print(tables.legend(findings))
    names = ", ".join(path.name for path in written)
    say(console, f"Written into {written[0].parent}: {names}")
    return findings
