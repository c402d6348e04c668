"""Runs one query policy with one seed and writes its records.

Example: python -m emoc_tf.experiments.explore --agent=emoc --seed=0 --output_dir=out
"""

from absl import flags
from rich.console import Console

from emoc_tf import agents
from emoc_tf.experiments import runner, settings

AGENT = flags.DEFINE_string(
    "agent", "emoc", f"Query policy: {', '.join(agents.names())}; variants as name:key=value."
)
SEED = flags.DEFINE_integer("seed", 0, "Everything random in the run descends from it.", 0)
flags.adopt_module_key_flags(settings)
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Records go to OUTPUT_DIR/AGENT/SEED.", required=True
)


def main(argv: list[str]) -> None:
    """Runs the policy."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
    config = settings.config_from_flags()
    runner.run_grid(config, [AGENT.value], [SEED.value], OUTPUT_DIR.value, Console())


if __name__ == "__main__":
    runner.run_binary(main)
