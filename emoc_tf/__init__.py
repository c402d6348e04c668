"""Active exploration with deep networks by expected model output change (EMOC).

Importing this package registers the environments `emoc_tf/Digits-v0`, `emoc_tf/CIFAR100-v0` and
`emoc_tf/ActiveExploration-v0` with Gymnasium. The policies are in `emoc_tf.agents`, the
environment class in `emoc_tf.envs`, the scores in `emoc_tf.scoring`, the loop without Gymnasium in
`emoc_tf.exploration`. TensorFlow is loaded with those, not with this module.

Loggers are called `emoc_tf` and `emoc_tf.…`. They are silent until a program shows them, as with
`logging.basicConfig()`; the commands do.
"""

import logging
from importlib import metadata
from pathlib import Path

import gymnasium as gym

from emoc_tf.config import PRESETS, ExplorationConfig
from emoc_tf.data.figures import import_matplotlib
from emoc_tf.data.images import ImageData
from emoc_tf.data.named import load
from emoc_tf.exploration.answers import REJECT, SKIP, Answer
from emoc_tf.exploration.oracle import Oracle
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.exploration.pool import Pool
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.exploration.task import Task

__all__ = [
    "PRESETS",
    "REJECT",
    "SKIP",
    "Answer",
    "ExplorationConfig",
    "ExplorationState",
    "ImageData",
    "Oracle",
    "Pool",
    "StepOutcome",
    "Task",
    "load",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())

# In a copy of the repository `agents/` and `envs/` lie beside this folder (see setup.py). Python
# started there finds this folder before the package that was installed.
_HERE = Path(__file__).parent
if not (_HERE / "agents").exists():
    __path__.append(str(_HERE.parent))

try:
    # What setup.py says, once installed.
    __version__ = metadata.version(__name__)
except metadata.PackageNotFoundError:
    __version__ = "0+not.installed"

# Before any module of the library asks for it.
import_matplotlib()

_ENTRY_POINT = "emoc_tf.envs:ActiveExplorationEnv"
gym.register("emoc_tf/Digits-v0", _ENTRY_POINT, kwargs={"preset": "demo"})
gym.register("emoc_tf/CIFAR100-v0", _ENTRY_POINT, kwargs={"preset": "paper"})
gym.register("emoc_tf/ActiveExploration-v0", _ENTRY_POINT)
