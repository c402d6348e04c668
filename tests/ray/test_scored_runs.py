"""Runs whose scores and predictions are computed on a cluster: the records of one process."""

import dataclasses

import keras
import numpy as np
import pytest
from rich.console import Console

from emoc_tf import agents
from emoc_tf.annotation import exploring
from emoc_tf.annotation.settings import Settings
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.running.grid import run_grid
from emoc_tf.running.single_run import Grid
from emoc_tf.scoring import scoring_on
from tests.data import pictures
from tests.running.soak import records
from tests.running.test_grid import CONFIG, images

POLICIES = ["emoc", "emoc:confidence=none:references=7"]


def frozen_environment(config):
    """A model whose first layer is frozen: what it gives of the pool is computed once."""
    image = keras.Input((6, 6, 1))
    body = keras.layers.Conv2D(3, 3, kernel_initializer=keras.initializers.GlorotUniform(0))
    body.trainable = False
    dense = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(1))
    model = keras.Model(image, dense(keras.layers.Flatten()(body(image))))
    return ActiveExplorationEnv(config, data=images(), model=model)


@pytest.fixture(scope="module")
def address(cluster, connection):
    yield cluster.address
    scoring_on(cluster.address).close()


def test_runs_leave_what_those_of_one_process_leave(address, tmp_path):
    settings, found = CONFIG.replace(max_steps=2), []
    for name, where in (("here", None), ("there", address)):
        grid = Grid(settings, tmp_path / name, environment=frozen_environment, scoring_ray=where)
        assert not run_grid(grid, POLICIES, [0], Console(quiet=True))
        found.append(records(tmp_path / name))
    assert found[0] == found[1]
    assert len([name for name in found[0] if name.endswith("steps.csv")]) == 2


def test_an_environment_predicts_and_chooses_the_same(address):
    states, actions = [], []
    for where in (None, address):
        env = ActiveExplorationEnv(CONFIG, data=images(), scoring_ray=where)
        observation, _ = env.reset(seed=3)
        states.append(env.state)
        actions.append(agents.make("emoc-expected", seed=0).act(observation, env.state))
    assert states[1].scoring is not None
    assert states[0].features.tobytes() == states[1].features.tobytes()
    assert states[0].probabilities.tobytes() == states[1].probabilities.tobytes()
    assert actions[0] == actions[1]
    assert np.array_equal(states[0].candidates, states[1].candidates)


def test_the_page_predicts_and_chooses_the_same(address, tmp_path):
    for i in range(24):
        folder = ("cat", "dog", "unlabelled")[min(i // 4, 2)]
        pictures.write(tmp_path / "photos" / folder / f"{i}.png", i)
    settings = Settings(
        str(tmp_path / "photos"), str(tmp_path / "out"), image_size=8, agent="emoc",
        config={"set_size": 2, "num_candidate_sets": 5, "pretrain_iterations": 2},
    )  # fmt: skip
    found = []
    for where in (None, address):
        settings = dataclasses.replace(settings, scoring_ray=where)
        exploration, agent, _ = exploring.make(settings, lambda *_: None)
        exploration.reset(0)
        state = exploration.state
        assert (state.scoring is None) == (where is None)
        choice = agent.act({}, state)
        found.append((state.features.tobytes(), state.probabilities.tobytes(), choice))
    assert found[0] == found[1]


def test_runs_side_by_side_are_refused(tmp_path):
    grid = Grid(CONFIG, tmp_path, environment=frozen_environment, scoring_ray="local")
    with pytest.raises(ValueError, match="scoring_ray: expected runs one after the other"):
        run_grid(grid, POLICIES, [0], Console(quiet=True), num_workers=2)
