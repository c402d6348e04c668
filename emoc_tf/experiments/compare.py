"""Compares query policies: runs each with each seed, then makes figures, tables and a page.

The runs of a seed are paired: all policies share classes, images and pretrained weights. The same
command goes on where it was stopped, however it was stopped; several may share a folder.

Example: python -m emoc_tf.experiments.compare --agents=random,emoc --seeds=0,1 --output_dir=out
"""

import sys

from absl import flags
from rich.console import Console

from emoc_tf.experiments import grid_flags, runner, settings
from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.grid_flags import AGENTS, WORKERS
from emoc_tf.experiments.reporting import write_report

flags.adopt_module_key_flags(settings)
flags.adopt_module_key_flags(grid_flags)


def main(argv: list[str]) -> None:
    """Runs the grid and reports."""
    grid_flags.check_no_arguments(argv)
    grid, seeds = grid_flags.grid_from_flags(), grid_flags.seeds_from_flags()
    console = Console()
    failures = runner.run_grid(grid, AGENTS.value, seeds, console, WORKERS.value)
    if len(failures) < len(AGENTS.value) * len(seeds):
        try:
            write_report(grid.output_dir, console, data_dir=grid.config.data_dir)
        except (ValueError, OSError) as error:
            if not failures:
                raise
            console.print(f"no report: {error}", markup=False, soft_wrap=True)
    if failures:
        sys.exit(runner.describe(grid, failures))


if __name__ == "__main__":
    run_binary(main)
