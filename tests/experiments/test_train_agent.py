import csv
import json
import shutil

import keras
import numpy as np
import pytest
from rich.console import Console

from emoc_tf.agents import learned
from emoc_tf.experiments.single_run import Grid
from emoc_tf.running.grid import run_grid
from emoc_tf.running.training import SOURCE
from emoc_tf.storage.provenance import environment
from tests.experiments.test_binaries import CONFIG, TINY, run, run_from_nothing

TRAINING = [*TINY, "--reward=area", "--imitation_episodes=1", "--updates=2", "--episodes=2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training") / "out"
    # Its seed of hashes is another one than that of the other processes here.
    result = run_from_nothing("train_agent", *TRAINING, f"--output_dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder, result


def test_what_a_training_leaves(trained):
    folder, result = trained
    names = {file.name for file in folder.iterdir()}
    assert names == {"policy.keras", "training.csv", "config.json", "tensorboard"}
    rows = list(csv.DictReader((folder / "training.csv").read_text().splitlines()))
    assert [row["update"] for row in rows] == ["0", "1", "2"]
    for row in rows:
        assert 0 <= float(row["mean_reward"]) <= 1
        assert np.isfinite(float(row["loss"]))
    content = json.loads((folder / "config.json").read_text())
    assert content["configuration"]["reward"] == "area"
    assert content["training"]["teacher"] == "1-vs-2"
    assert content["source"] == environment(*SOURCE)["source"] != environment()["source"]
    assert "update 2/2  mean reward 0." in result.stdout
    assert "imitation of 1-vs-2" in result.stdout
    assert result.stderr == ""
    assert list((folder / "tensorboard").glob("events.*"))


def test_equal_seeds_train_equal_policies(trained, tmp_path):
    result = run("train_agent", *TRAINING, f"--output_dir={tmp_path / 'again'}")
    assert result.returncode == 0, result.stderr
    first, second = (
        keras.models.load_model(folder / "policy.keras").get_weights()
        for folder in (trained[0], tmp_path / "again")
    )
    untrained = learned.build_network(first[0].shape[0], 0).get_weights()
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(a, b) for a, b in zip(first, untrained, strict=True))


def test_a_stopped_training_is_resumed_bit_for_bit(trained, fork, tmp_path):
    """Killed after the imitation, and again in the middle of an update."""
    whole, _ = trained
    folder = tmp_path / "out"
    for wanted in ("imitation of", "update 1/2"):
        arguments = [*TRAINING, f"--output_dir={folder}"]
        process = fork("-m", "emoc_tf.experiments.train_agent", *arguments)
        while wanted not in process.stdout.readline():
            assert process.poll() is None
        process.kill()
        process.communicate()
    told = json.loads((folder / "config.json").read_text())
    del told["configuration"]["optimizer"]  # written before there was this setting
    (folder / "config.json").write_text(json.dumps(told))
    other = run("train_agent", *TRAINING, "--discount=0.5", f"--output_dir={folder}")
    assert other.returncode == 1
    assert "unfinished training of other settings" in other.stderr
    assert "discount=0.9 there, 0.5 here" in other.stderr
    result = run("train_agent", *TRAINING, f"--output_dir={folder}")
    assert result.returncode == 0, result.stderr
    assert "update 1/2" not in result.stdout
    assert {file.name for file in folder.iterdir()} == {file.name for file in whole.iterdir()}
    first, second = (
        [line.rpartition(",")[0] for line in (place / "training.csv").read_text().splitlines()]
        for place in (whole, folder)
    )
    assert first == second
    for one, two in zip(*(weights(place) for place in (whole, folder)), strict=True):
        np.testing.assert_array_equal(one, two)


def weights(folder):
    return keras.models.load_model(folder / "policy.keras").get_weights()


def test_a_trained_policy_enters_a_comparison(trained, tmp_path):
    path = tmp_path / "policy.keras"
    shutil.copy(trained[0] / "policy.keras", path)
    grid, names = Grid(CONFIG, tmp_path / "out"), [f"learned:path={path}"]
    console = Console(record=True, width=300)
    for _ in range(2):  # a finished run is found again
        assert not run_grid(grid, names, [0], console)
    assert "1 finished, 0 to do" in console.export_text()
    assert len(list((tmp_path / "out").glob("learned__path=*policy.keras/0/steps.csv"))) == 1
    # Another policy in the same file is another policy: records under its name are the old one's.
    learned.build_network(keras.models.load_model(path).inputs[0].shape[1], seed=9).save(path)
    with pytest.raises(ValueError, match="whose policy was made from another file"):
        run_grid(grid, names, [0], console)


def test_a_training_is_not_overwritten(trained):
    result = run("train_agent", *TRAINING, f"--output_dir={trained[0]}")
    assert result.returncode == 1
    assert "error: output_dir: expected a new folder, got" in result.stderr


def test_bad_settings_get_one_sentence(tmp_path):
    result = run("train_agent", *TINY, "--teacher=best", f"--output_dir={tmp_path / 'x'}")
    assert result.returncode == 1
    assert "error: agent: expected one of" in result.stderr
    assert not (tmp_path / "x").exists()
