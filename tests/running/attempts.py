"""Attempts at a run that may fail, and what they leave."""

from emoc_tf.running.attempts import attempt_run
from emoc_tf.running.single_run import Grid
from tests.running.soak import RECORDS


def attempt(world, folder, agent="1-vs-2", seed=3, **settings):
    config, env = world
    grid = Grid(config, folder, **settings)
    return attempt_run(grid, env, lambda *_: None, (agent, seed))


def assert_tidy(folder):
    """Nothing is left but records."""
    left = {file.name for file in folder.iterdir()}
    assert left == {*RECORDS, "timings.csv", "tensorboard"}
