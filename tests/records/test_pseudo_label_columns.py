"""Pseudo-labels in the records of runs, and in what steps tell."""

import io
import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from rich.console import Console

from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.experiments import flags as shared
from emoc_tf.records.run_record import STEP_COLUMNS, read_run
from emoc_tf.running.grid import run_grid
from emoc_tf.running.single_run import Grid
from tests.exploration import tasks

COLUMNS = ["pseudo_labels", "pseudo_labels_wrong"]


def run(folder, config, **given):
    """Runs a grid of one; returns the text of steps.csv and the record."""
    grid = Grid(config, folder, **given)
    failures = run_grid(grid, ["random"], [0], Console(file=io.StringIO()))
    assert not failures, failures
    path = folder / "random" / "0"
    return (path / "steps.csv").read_text(), read_run(path)


def test_columns_are_there_with_the_setting_only(tiny, tmp_path):
    plain, _ = run(tmp_path / "plain", tiny)
    never, record = run(tmp_path / "never", tiny.replace(pseudo_labels=1e-30))
    assert plain.splitlines()[0].split(",") == list(STEP_COLUMNS)
    assert never.splitlines()[0].split(",") == [*STEP_COLUMNS, *COLUMNS]
    assert [line.removesuffix(",0,0") for line in never.splitlines()[1:]] == plain.splitlines()[1:]
    for name in COLUMNS:
        assert record.steps[name].tolist() == [0] * 5
    assert record.finished
    assert record.configuration["pseudo_labels"] == 1e-30


def test_counts_are_recorded_and_told(tiny, tmp_path):
    config = tiny.replace(pseudo_labels=0.5)
    _, record = run(tmp_path, config)
    used, wrong = (record.steps[name] for name in COLUMNS)
    assert 0 < wrong.sum() < used.sum()
    assert used[0] == 0
    env = ActiveExplorationEnv(config)
    env.reset(seed=0)
    info = env.step(0)[4]
    told = json.loads(json.dumps(info))
    assert told["pseudo_labels"] == env.exploration.outcomes[-1].pseudo_labels > 0
    assert 0 <= told["pseudo_labels_wrong"] <= told["pseudo_labels"]


def test_of_a_task_nobody_knows_the_wrong_ones(tmp_path):
    def make(config):
        return ActiveExplorationEnv(
            config, task=tasks.task([0, 1] * 3 + [-1] * 8), model=tasks.model(2),
            oracle=tasks.Told(*[[0, 1]] * 9),
        )  # fmt: skip

    _, record = run(tmp_path, tasks.config(pseudo_labels=0.69), environment=make)
    assert record.steps["pseudo_labels"].max() > 0
    assert np.isnan(record.steps["pseudo_labels_wrong"]).all()


def test_a_flag_sets_it():
    config = shared.settings()
    for text, value in (("0.05", 0.05), ("none", None)):
        with flagsaver.as_parsed(pseudo_labels=text, preset="demo"):
            flags.FLAGS.mark_as_parsed()
            assert config().pseudo_labels == value
    with pytest.raises(flags.IllegalFlagValueError), flagsaver.as_parsed(pseudo_labels="few"):
        pass
