"""Flags of the binaries that run grids of policies and seeds."""

from absl import flags

from emoc_tf import agents
from emoc_tf.experiments import run_flags
from emoc_tf.experiments.settings import config_from_flags
from emoc_tf.running.single_run import Grid

AGENTS = flags.DEFINE_list(
    "agents",
    agents.names(),
    "Query policies; variants as name:key=value, such as emoc:output=softmax, get a folder each.",
)
WORKERS = flags.DEFINE_integer(
    "workers", 1, "Runs side by side, in processes of their own if more than 1.", 1
)
ALLOW_MIXED = flags.DEFINE_bool(
    "allow_mixed",
    False,
    "Go on with an unfinished run of another version, processor or thread count, whose results "
    "differ in the last bits, and mark it as mixed.",
)
flags.adopt_module_key_flags(run_flags)


def grid_from_flags() -> Grid:
    """Returns settings and output folder; raises `ValueError` if a setting is out of range."""
    return Grid(config_from_flags(), run_flags.OUTPUT_DIR.value, ALLOW_MIXED.value)
