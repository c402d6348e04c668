"""Runs of tasks, and of episodes that end before the last step of the settings."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from emoc_tf.data.images import ImageData
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.models.episode_model import EpisodeModel
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.records.run_record import read_run
from emoc_tf.running.attempts import attempt_run
from emoc_tf.running.grid import run_grid
from emoc_tf.running.single_run import Grid
from tests.records import tasks


class Person:
    """Names every third image with a new class, and skips one."""

    def __init__(self):
        self.asked = 0

    def label(self, indices, images):
        self.asked += 1
        return ["bird" if i % 3 == 0 else int(i % 2) for i in indices]


def run(folder, config, make):
    """Runs a grid of one; returns what was printed and the run's record."""
    text = io.StringIO()
    grid = Grid(config, folder, environment=make)
    failures = run_grid(grid, ["random"], [0], Console(file=text, width=200))
    assert not failures, failures
    return text.getvalue(), read_run(folder / "random" / "0")


@pytest.mark.parametrize("audit", [0, 2])
def test_a_run_of_a_task_without_test_data(tmp_path, audit):
    config = tasks.CONFIG.replace(audit=audit)
    task = tasks.array_task(12)

    def make(config):
        return ActiveExplorationEnv(config, task=task, model=tasks.model(2), oracle=Person())

    shown, record = run(tmp_path, config, make)
    steps = (8 - audit) // 2
    assert record.finished and record.ended["step"] == steps
    assert record.ended["reason"] == "no candidate set can be formed any more"
    assert record.task["shape"] == [12, 8, 8, 3]
    header = (tmp_path / "random/0/steps.csv").read_text().splitlines()[0]
    further = ["answer_accuracy"] + ["audit_accuracy", "audit_low", "audit_high"] * (audit > 0)
    assert header.split(",")[9:] == further
    assert np.isnan(record.steps["test_accuracy"]).all()
    assert np.isfinite(record.steps["answer_accuracy"][1:]).all()
    if audit:
        assert np.isfinite(record.steps["audit_low"]).all()
    assert not (tmp_path / "random/0/recalls.csv").exists()
    assert f"step {steps}/30  accuracy on answers" in shown and "classes found 1  " in shown
    rows = read_texts(tmp_path / "random/0/queried.csv", QUERIED_COLUMNS)
    assert len(rows) == 8
    again, _ = run(tmp_path, config, make)
    assert "1 finished, 0 to do" in again


def test_a_run_of_a_task_with_test_data_has_the_columns_of_simulations(tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(256, size=(6, 8, 8, 3), dtype=np.uint8)
    test = ImageData(pixels, np.arange(6) % 2, ("dog", "zebra"))
    task = tasks.array_task(10, test)

    def make(config):
        return ActiveExplorationEnv(config, task=task, model=tasks.model(2), oracle=Person())

    _, record = run(tmp_path, tasks.CONFIG.replace(max_steps=None), make)
    assert record.finished and record.ended["step"] == 3
    assert "answer_accuracy" not in record.steps
    assert np.isfinite(record.steps["test_accuracy"]).all()
    text = (tmp_path / "random/0/recalls.csv").read_text()
    assert text.splitlines()[0] == "step,0,1" and "nan" not in text
    assert np.isnan(record.recalls[:, 0]).all()  # of the cats there are no test images


@pytest.mark.filterwarnings("ignore:data")
@pytest.mark.parametrize(
    ("changes", "steps", "reason"),
    [
        ({"pool_per_class": None}, 8, "no candidate set"),
        ({"stop_when": "no_new=1"}, None, "no new class in 1 sets in a row"),
        ({"pool_per_class": None, "max_steps": 2}, 2, None),
        ({"pool_per_class": 100}, 8, "no candidate set"),  # rare classes
    ],
)
def test_episodes_may_end_before_the_settings_say(tmp_path, changes, steps, reason):
    rng = np.random.default_rng(1)
    pixels = rng.integers(256, size=(24, 8, 8, 3), dtype=np.uint8)
    data = ImageData(pixels, np.arange(24) % 3, ("a", "b", "c"))
    config = tasks.CONFIG.replace(
        known_classes=2, novel_classes=1, initial_per_class=4, sampler="single_class"
    ).replace(**changes)

    def make(config):
        return ActiveExplorationEnv(config, data=(data, data), model=tasks.model(2))

    shown, record = run(tmp_path, config, make)
    assert record.finished
    if reason is None:
        assert record.ended is None and "ended" not in shown
    else:
        assert record.ended["reason"].startswith(reason)
        last = record.ended["step"]
        assert f"random  seed 0  ended at step {last}: {record.ended['reason']}\n" in shown
        assert record.ended["step"] == len(record.steps["step"]) - 1
    if steps is not None:
        assert len(record.steps["step"]) == steps + 1
    assert "1 finished, 0 to do" in run(tmp_path, config, make)[0]
    file = tmp_path / "random/0/steps.csv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1]))
    assert not read_run(tmp_path / "random" / "0").finished


def test_a_task_that_goes_on_is_not_finished_however_many_steps_it_had(tmp_path):
    """What the settings say of a drawn pool does not count for it."""
    task = tasks.array_task()
    config = tasks.CONFIG.replace(
        max_steps=None, known_classes=1, novel_classes=0, pool_per_class=2
    )
    assert config.num_steps == 1
    env = ActiveExplorationEnv(config, task=task, model=tasks.model(2), oracle=Person())
    env.reset(seed=0)
    folder = RunFolder(tmp_path, "random", 0, config)
    folder.claim(task=task)
    folder.start(env.exploration.episode.classes, tested=False)
    folder.write_step(env.outcome, None, {})
    env.step(int(np.flatnonzero(env.action_masks())[0]))
    folder.write_step(env.outcome, 0.0, {})
    assert not read_run(folder.path).finished
    folder.finish("enough")
    assert read_run(folder.path).finished
    assert json.loads((folder.path / "config.json").read_text())["ended"] == {
        "step": 1, "reason": "enough",
    }  # fmt: skip
    folder.close()


@pytest.mark.parametrize("kind", ["arrays", "data"])
def test_nobody_is_asked_again_what_was_answered_before_a_kill(tmp_path, monkeypatch, kind):
    """Also where the choice took no time."""
    asked, hooked = [], []
    rng = np.random.default_rng(1)
    pixels = rng.integers(256, size=(24, 8, 8, 3), dtype=np.uint8)
    data = ImageData(pixels, np.arange(24) % 3, ("a", "b", "c"))
    config = tasks.CONFIG.replace(
        max_steps=3, known_classes=2, novel_classes=1, initial_per_class=4, pool_per_class=None
    )

    class Recorder(Person):
        def label(self, indices, images):
            asked.append(indices.tolist())
            return super().label(indices, images) if kind == "arrays" else indices % 3

    def make(config):
        of = {"task": tasks.array_task(12)} if kind == "arrays" else {"data": (data, data)}
        env = ActiveExplorationEnv(config, **of, model=tasks.model(2), oracle=Recorder())
        env.exploration.on_query = lambda: hooked.append(env.query)
        return env

    grid = Grid(config, tmp_path / "run", environment=make)
    original, calls = EpisodeModel.update, []

    def killed(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(*arguments)

    env = grid.make_environment()
    own = env.exploration.on_query
    with monkeypatch.context() as patch:
        patch.setattr(EpisodeModel, "update", killed)
        with pytest.raises(KeyboardInterrupt):
            attempt_run(grid, env, lambda *_: None, ("random", 0))
    assert len(asked) == 2 and len(hooked) == 4
    assert env.exploration.on_query is own
    result = attempt_run(grid, grid.make_environment(), lambda *_: None, ("random", 0))
    assert result.error is None and len(asked) == 3
    _, record = run(tmp_path / "whole", config, make)
    left = [(tmp_path / name / "random/0/steps.csv").read_text() for name in ("run", "whole")]
    assert record.finished and left[0] == left[1]
