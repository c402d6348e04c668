"""Compares query policies: runs each with each seed, then makes figures, tables and a page.

The runs of a seed are paired: all policies share classes, images and pretrained weights. The same
command goes on where it was stopped, however it was stopped; several may share a folder.

Example: python -m emoc_tf.experiments.compare --agents=random,emoc --seeds=0,1 --output_dir=out
"""

import sys

from absl import flags
from rich.console import Console

from emoc_tf import agents
from emoc_tf.experiments import runner, settings
from emoc_tf.experiments.binary import run_binary
from emoc_tf.experiments.reporting import write_report
from emoc_tf.experiments.single_run import Grid

AGENTS = flags.DEFINE_list(
    "agents",
    agents.names(),
    "Query policies; variants as name:key=value, such as emoc:output=softmax, get a folder each.",
)
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Initialisations.")
WORKERS = flags.DEFINE_integer(
    "workers", 1, "Runs side by side, in processes of their own if more than 1.", 1
)
ALLOW_MIXED = flags.DEFINE_bool(
    "allow_mixed",
    False,
    "Go on with an unfinished run of another version, processor or thread count, whose results "
    "differ in the last bits, and mark it as mixed.",
)
flags.adopt_module_key_flags(settings)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Records go to OUTPUT_DIR/AGENT/SEED, the report beside.", required=True
)


def main(argv: list[str]) -> None:
    """Runs the grid and reports."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
    config = settings.config_from_flags()
    if not all(seed.strip().isdecimal() for seed in SEEDS.value):
        raise ValueError(f"seeds: expected integers of at least 0, got {SEEDS.value}")
    seeds = [int(seed) for seed in SEEDS.value]
    console = Console()
    grid = Grid(config, OUTPUT_DIR.value, ALLOW_MIXED.value)
    failures = runner.run_grid(grid, AGENTS.value, seeds, console, WORKERS.value)
    if len(failures) < len(AGENTS.value) * len(seeds):
        try:
            write_report(OUTPUT_DIR.value, console, data_dir=config.data_dir)
        except (ValueError, OSError) as error:
            if not failures:
                raise
            console.print(f"no report: {error}", markup=False, soft_wrap=True)
    if failures:
        sys.exit(runner.describe(grid, failures))


if __name__ == "__main__":
    run_binary(main)
