"""Attempts at a run that may fail, and what they leave."""

from emoc_tf.running import single_run
from tests.running.soak import RECORDS


def attempt(world, folder, agent="1-vs-2", seed=3, **settings):
    config, env = world
    grid = single_run.Grid(config, folder, **settings)
    return single_run.attempt_run(grid, env, lambda *_: None, (agent, seed))


def assert_tidy(folder):
    """Nothing is left but records."""
    left = {file.name for file in folder.iterdir()}
    assert left == {*RECORDS, "timings.csv", "tensorboard"}
