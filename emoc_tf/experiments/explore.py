"""Runs one query policy with one seed: a comparison of one run, without a report.

Records go to OUTPUT_DIR/AGENT/SEED.

Example: python -m emoc_tf.experiments.explore --agent=emoc --seed=0 --output_dir=out
"""

import sys

from rich.console import Console

from emoc_tf.experiments import flags
from emoc_tf.experiments.binary import run_binary
from emoc_tf.running.grid import failure_summary, run_grid

GRID, AGENT, SEED = flags.grid(), flags.agent(), flags.seed()


def main(argv: list[str]) -> None:
    """Runs the policy."""
    flags.check_no_arguments(argv)
    grid = GRID()
    failures = run_grid(grid, [AGENT.value], [SEED.value], Console())
    if failures:
        sys.exit(failure_summary(grid, failures))


if __name__ == "__main__":
    run_binary(main)
