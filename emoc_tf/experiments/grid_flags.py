"""Flags of the binaries that run grids of policies and seeds."""

from absl import flags

from emoc_tf import agents
from emoc_tf.experiments.settings import config_from_flags
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
OUTPUT_DIR = flags.DEFINE_string(
    "output_dir", None, "Records go to OUTPUT_DIR/AGENT/SEED, the report beside.", required=True
)


def grid_from_flags() -> Grid:
    """Returns settings and output folder; raises `ValueError` if a setting is out of range."""
    return Grid(config_from_flags(), OUTPUT_DIR.value, ALLOW_MIXED.value)


def seeds_from_flags() -> list[int]:
    """Returns the seeds; raises `ValueError` unless all are integers of at least 0."""
    if not all(seed.strip().isdecimal() for seed in SEEDS.value):
        raise ValueError(f"seeds: expected integers of at least 0, got {SEEDS.value}")
    return [int(seed) for seed in SEEDS.value]


def check_no_arguments(argv: list[str]) -> None:
    """Raises `ValueError` if anything but flags was given."""
    if argv[1:]:
        raise ValueError(f"arguments: expected flags only, got {argv[1:]}")
