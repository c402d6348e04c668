"""Compares query policies: runs each with each seed, then makes figures, tables and a page.

The runs of a seed are paired: all policies share classes, images and pretrained weights. The same
command resumes where it was stopped, however it was stopped; several may share a folder.

Records go to OUTPUT_DIR/AGENT/SEED, the report beside.

Example: python -m emoc_tf.experiments.compare --agents=random,emoc --seeds=0,1 --output_dir=out
"""

import sys

from rich.console import Console

from emoc_tf.experiments import flags
from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.comparison import compare

GRID, AGENTS, SEEDS = flags.grid(), flags.policies(), flags.seeds()
POOL = flags.pool()


def main(argv: list[str]) -> None:
    """Runs the grid and reports."""
    flags.check_no_arguments(argv)
    with POOL() as pool:
        _, failed = compare(GRID(), AGENTS.value, SEEDS(), Console(), pool=pool)
    if failed:
        sys.exit(failed)


if __name__ == "__main__":
    run_binary(main)
