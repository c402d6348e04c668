"""Compares query policies: runs each with each seed, then draws the figure and the table.

The runs of a seed are paired: all policies share classes, images and pretrained weights. Finished
runs are kept, so the same command goes on where it was stopped.

Example: python -m emoc_tf.experiments.compare --agents=random,emoc --seeds=0,1 --output_dir=out
"""

from absl import flags
from rich.console import Console

from emoc_tf import agents
from emoc_tf.experiments import report, runner, settings

AGENTS = flags.DEFINE_list(
    "agents",
    agents.names(),
    "Query policies; variants as name:key=value, such as emoc:output=softmax, get a folder each.",
)
SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Initialisations.")
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
    runner.run_grid(config, AGENTS.value, seeds, OUTPUT_DIR.value, console)
    report.write_report(OUTPUT_DIR.value, console)


if __name__ == "__main__":
    runner.run_binary(main)
