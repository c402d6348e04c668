"""Compares query policies: runs each with each seed, then makes figures, tables and a page.

The runs of a seed are paired: all policies share classes, images and pretrained weights. The same
command goes on where it was stopped, however it was stopped; several may share a folder.

Records go to OUTPUT_DIR/AGENT/SEED, the report beside.

Example: python -m emoc_tf.experiments.compare --agents=random,emoc --seeds=0,1 --output_dir=out
"""

import sys

from absl import flags
from rich.console import Console

from emoc_tf.experiments import grid_flags, run_flags, settings
from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.comparison import compare
from emoc_tf.experiments.grid_flags import AGENTS, WORKERS

flags.adopt_module_key_flags(settings)
flags.adopt_module_key_flags(grid_flags)


def main(argv: list[str]) -> None:
    """Runs the grid and reports."""
    run_flags.check_no_arguments(argv)
    grid, seeds = grid_flags.grid_from_flags(), run_flags.seeds_from_flags()
    _, failed = compare(grid, AGENTS.value, seeds, Console(), WORKERS.value)
    if failed:
        sys.exit(failed)


if __name__ == "__main__":
    run_binary(main)
