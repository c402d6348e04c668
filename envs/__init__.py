"""The Gymnasium environment of active exploration, imported as `emoc_tf.envs`."""

from emoc_tf.envs.active_exploration import ActiveExplorationEnv
from emoc_tf.envs.observation import FEATURES, PROGRESS
from emoc_tf.registries import REWARDS

__all__ = ["FEATURES", "PROGRESS", "REWARDS", "ActiveExplorationEnv"]
