import pytest

from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from tests.running.attempts import attempt
from tests.running.soak import records


@pytest.fixture(scope="session")
def world():
    """A configuration and its environment."""
    config = ExplorationConfig(
        known_classes=2, novel_classes=3, initial_per_class=4, pool_per_class=6,
        num_candidate_sets=8, set_size=3, pretrain_iterations=30, update_iterations=20,
        batch_size=8, max_steps=3,
    )  # fmt: skip
    return config, ActiveExplorationEnv(config)


@pytest.fixture(scope="session")
def whole(world, tmp_path_factory):
    """The records that a run in it leaves if nobody stops it."""
    folder = tmp_path_factory.mktemp("whole")
    assert attempt(world, folder).error is None
    return records(folder)
