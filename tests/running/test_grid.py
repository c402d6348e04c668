"""Grids of your own: data, model, oracle and policies handed in, in one process or several."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
from rich.console import Console

from emoc_tf import ExplorationConfig, ImageData
from emoc_tf.envs import ActiveExplorationEnv, fingerprint
from emoc_tf.exploration import sources
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.running import others, patience
from emoc_tf.running.attempts import Result, Shared, serve
from emoc_tf.running.grid import run_grid
from emoc_tf.running.single_run import Grid
from emoc_tf.storage.locks import FolderLock

CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=1, initial_per_class=4, pool_per_class=6, num_candidate_sets=4,
    set_size=3, pretrain_iterations=5, update_iterations=5, batch_size=4, max_steps=1,
)  # fmt: skip


def images(seed=0):
    rng = np.random.default_rng(seed)
    names = ("a", "b", "c")
    pixels = rng.integers(256, size=(60, 6, 6, 1), dtype=np.uint8)
    labels = np.arange(60) % 3
    return tuple(ImageData(pixels[part::2], labels[part::2], names) for part in range(2))


def own_environment(config):
    return ActiveExplorationEnv(config, data=images())


def other_environment(config):
    return ActiveExplorationEnv(config, data=images(1))


def test_your_own_data_can_be_compared(tmp_path):
    console = Console(record=True, width=200)
    grid = Grid(CONFIG, tmp_path, environment=own_environment)
    assert not run_grid(grid, ["random", "min"], [0], console)
    config = json.loads((tmp_path / "min/0/config.json").read_text())
    assert config["environment"] == own_environment(CONFIG).fingerprint
    assert "computing on " in console.export_text(clear=False)
    run_grid(grid, ["random", "min"], [0], console)
    assert "2 finished, 0 to do" in console.export_text()
    for factory in (other_environment, ActiveExplorationEnv):
        with pytest.raises(ValueError, match="whose data, model, oracle or reward were others"):
            run_grid(Grid(CONFIG, tmp_path, environment=factory), ["random"], [0], console)


@pytest.mark.parametrize("far", [False, True])
def test_a_process_whose_environment_is_another_one_works_on_no_run(tmp_path, far):
    grid = Grid(CONFIG, tmp_path, environment=own_environment)
    shared = Shared.by(grid, ["random"], grid.make_environment(), far)
    assert serve(grid, shared)(("random", 0)) == Result()
    with pytest.raises(ValueError, match=r"environment: expected the data, .* got others on "):
        serve(replace(grid, environment=other_environment), shared)


def test_another_data_set_of_the_same_name_is_told_on_other_machines_alone(tmp_path, monkeypatch):
    grid = Grid(CONFIG, tmp_path)
    near, far = (Shared.by(grid, ["random"], grid.make_environment(), far) for far in (False, True))
    for module in (fingerprint, sources):
        monkeypatch.setattr(module, "load", lambda *_: images())
    assert serve(grid, near)  # on the same machine it lies in the same place
    with pytest.raises(ValueError, match="make the data set there the same"):
        serve(grid, far)


def test_an_environment_of_other_settings_is_refused(tmp_path):
    grid = Grid(CONFIG, tmp_path, environment=lambda config: ActiveExplorationEnv())
    with pytest.raises(ValueError, match="environment: expected a function that returns an Active"):
        run_grid(grid, ["random"], [0], Console())


SCRIPT = """
import sys
from rich.console import Console
from emoc_tf import agents
from emoc_tf.experiments.comparison import compare
from emoc_tf.experiments.single_run import Grid
from tests.running.test_grid import CONFIG, own_environment

class First(agents.Agent):
    def act(self, observation, state):
        return int(state.candidate_mask.argmax())

def length(before, after):
    return float(after.step)

if __name__ == "__main__":
    from emoc_tf.exploration import register_reward
    agents.register("first", First)
    register_reward("length", length)
    for name in ("unused", "also"):  # nobody asks for these, which could not be sent
        register_reward(name, lambda before, after: 0.0)
        agents.register(name, type("Local", (First,), {}))
    config = CONFIG.replace(reward="0.5*length + 0.5*length")
    grid = Grid(config, sys.argv[1], environment=own_environment)
    findings, failed = compare(grid, ["first", "random"], [0], Console(), num_workers=2)
    sys.exit(failed or 0)
"""


def test_what_a_script_registers_works_in_worker_processes_too(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    result = subprocess.run(
        [sys.executable, script, tmp_path / "out"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr + result.stdout
    rows = (tmp_path / "out/first/0/steps.csv").read_text().splitlines()
    assert rows[-1].endswith(",1.0")


def test_a_process_that_writes_nothing_is_not_waited_for_without_end(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path, "random", 0, CONFIG)
    holder = RunFolder(tmp_path, "random", 0, CONFIG)
    assert holder.lock.acquire()
    said = []
    waiting = others.OtherProcesses({("random", 0): folder}, lambda *line: said.append(line))
    monkeypatch.setattr(patience, "LIMIT", 0.3)
    monkeypatch.setattr(patience, "PAUSE", 0.1)
    begun = time.monotonic()
    free, stuck = waiting.wait_for_one([("random", 0)])
    assert 0.2 < time.monotonic() - begun < 5
    assert free == []
    assert "has written nothing into it" in stuck["random", 0]
    assert len(said) == 1
    holder.lock.release()
    assert waiting.wait_for_one([("random", 0)]) == ([("random", 0)], {})


def test_pretraining_elsewhere_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(patience, "LIMIT", 0.3)
    console = Console(record=True, width=200)
    with FolderLock(tmp_path / "shared" / "0"):
        failures = run_grid(Grid(CONFIG, tmp_path), ["random"], [0], console)
    assert "has written nothing into it for" in failures["random", 0]
    assert not run_grid(Grid(CONFIG, tmp_path), ["random"], [0], console)


def test_fingerprints_tell_models_apart_and_not_their_names():
    layers = keras.layers

    def fingerprint(scale=1 / 255, activation="relu"):
        model = keras.Sequential([
            keras.Input((6, 6, 1)), layers.Rescaling(scale), layers.Flatten(),
            layers.Dense(4, activation, kernel_initializer="ones"),
            layers.Dense(2, kernel_initializer="ones"),
        ])  # fmt: skip
        return ActiveExplorationEnv(CONFIG, data=images(), model=model).fingerprint

    assert fingerprint() == fingerprint()  # layers are named dense_1, dense_2, ... in turn
    assert len({fingerprint(), fingerprint(1 / 16), fingerprint(activation="tanh")}) == 3
