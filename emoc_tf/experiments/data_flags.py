"""The flag that tells where data sets lie."""

from absl import flags

from emoc_tf.config import ExplorationConfig

_HELP = ExplorationConfig.__dataclass_fields__["data_dir"].metadata["help"]
DATA_DIR = flags.DEFINE_string("data_dir", None, f"{_HELP.capitalize()}.")
