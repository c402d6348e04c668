"""A grid of runs and the report on it, as the binaries make them."""

from collections.abc import Sequence

from rich.console import Console

from emoc_tf.experiments import runner
from emoc_tf.experiments.findings import Findings
from emoc_tf.experiments.reporting import write_report
from emoc_tf.experiments.single_run import Grid


def compare(
    grid: Grid,
    names: Sequence[str],
    seeds: Sequence[int],
    console: Console,
    num_workers: int = 1,
) -> tuple[Findings | None, str]:
    """Runs a grid, see `runner.run_grid`, and writes the report of what has finished.

    Returns:
        What was found, None if there is nothing to report, and what failed, in sentences that end
        a binary; empty if nothing did.

    Raises:
        ValueError: See `runner.run_grid`; before any run.
    """
    failures = runner.run_grid(grid, names, seeds, console, num_workers)
    failed = runner.describe(grid, failures) if failures else ""
    if len(failures) == len(names) * len(seeds):
        return None, failed
    try:
        return write_report(grid.output_dir, console, data_dir=grid.config.data_dir), failed
    except (ValueError, OSError) as error:
        return None, f"{failed}\nerror: no report of {grid.output_dir}: {error}".strip()
