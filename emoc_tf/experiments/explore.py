"""Runs one query policy with one seed and writes its records.

Example: python -m emoc_tf.experiments.explore --agent=emoc --seed=0 --output_dir=out
"""

import sys

from absl import flags
from rich.console import Console

from emoc_tf import agents
from emoc_tf.experiments import settings
from emoc_tf.experiments.binary import run_binary
from emoc_tf.running.grid import describe, run_grid
from emoc_tf.running.single_run import Grid

AGENT = flags.DEFINE_string(
    "agent", "emoc", f"Query policy: {', '.join(agents.names())}; variants as name:key=value."
)
SEED = flags.DEFINE_integer("seed", 0, "Everything random in the run descends from it.", 0)
ALLOW_MIXED = flags.DEFINE_bool(
    "allow_mixed",
    False,
    "Go on with an unfinished run of another version, processor or thread count, whose results "
    "differ in the last bits, and mark it as mixed.",
)
flags.adopt_module_key_flags(settings)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Records go to OUTPUT_DIR/AGENT/SEED.", required=True
)


def main(argv: list[str]) -> None:
    """Runs the policy."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
    config = settings.config_from_flags()
    grid = Grid(config, OUTPUT_DIR.value, ALLOW_MIXED.value)
    failures = run_grid(grid, [AGENT.value], [SEED.value], Console())
    if failures:
        sys.exit(describe(grid, failures))


if __name__ == "__main__":
    run_binary(main)
