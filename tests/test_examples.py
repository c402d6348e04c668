"""Every example runs; those of reinforcement-learning libraries do in tests/rl."""

import importlib.machinery
import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest
from PIL import Image

from emoc_tf import Task, agents, load
from emoc_tf.agents import registry
from emoc_tf.records.exports import export
from tests import ROOT, example
from tests.envs.test_active_exploration import SHRUNK

RL = {"sb3_ppo", "sb3_maskable_ppo", "ppo_single_file"}


def test_each_example_is_run():
    names = {file.stem for file in (ROOT / "examples").glob("*.py")}
    tested = {"step_with_agent", "own_policy", "own_images", "own_learner", "vector_environments"}
    tested |= {"record_video", "train_policy", "resume_later", "observer"}
    tested |= {"label_a_folder", "unlabelled_arrays", "memory_map", "saved_model"}
    assert names == tested | RL


def test_step_with_agent(capsys):
    accuracy = example("step_with_agent").main(policy="min", **SHRUNK)
    assert 0 <= accuracy <= 1
    assert "step 3 of 3" in capsys.readouterr().out


def test_own_images(capsys):
    settings = {"pool_per_class": 10, "update_iterations": 5, "max_steps": 2}
    assert 0 <= example("own_images").main(**settings) <= 1
    assert "10 images asked for" in capsys.readouterr().out


def test_label_a_folder(tmp_path, capsys):
    train, _ = load("digits")
    folder = tmp_path / "my pictures"
    for i in range(30):
        place = folder / ("two" if train.labels[i] == 2 else "unlabelled")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(train.images[i, ..., 0]).save(place / f"{i}.png")
    settings = {"image_size": 8, "pretrain_iterations": 2, "update_iterations": 2}
    other = folder.with_suffix(".csv")
    other.write_text("somebody else's")

    def label(*typed):
        texts = iter(typed)
        return example("label_a_folder").main(str(folder), lambda _: next(texts), **settings)

    exploration = label("undo", "nine", "undo", "nine,,-,one", "seven", "too,few", "stop")
    kinds = [entry.kind for entry in exploration.journal]
    assert kinds.count("answer") == 3
    assert kinds.count("undo") == 1
    shown = capsys.readouterr().out
    assert "oracle: expected (4,)" in shown and "undo: expected an answer" in shown
    counts = {"nine": 1, "one": 1, "seven": 4, "two": int((train.labels[:30] == 2).sum())}
    run = tmp_path / "my pictures-labels" / "person" / "0"
    file, _ = export(run, "csv", tmp_path / "first.csv")
    assert named(Task.from_folder(file, image_size=8)) == counts
    resumed = label("stop")  # the next day
    assert f"{sum(counts.values())} images are labelled already" in capsys.readouterr().out
    assert resumed.journal == exploration.journal
    assert [q.indices.tolist() for q in resumed.queries] == [
        q.indices.tolist() for q in exploration.queries
    ]
    label("eight", "stop")
    file, _ = export(run, "csv", tmp_path / "second.csv")
    assert named(Task.from_folder(file, image_size=8)) == {**counts, "eight": 4}
    assert other.read_text() == "somebody else's"


def named(task):
    return dict(zip(task.class_names, np.bincount(task.labels).tolist(), strict=True))


def test_unlabelled_arrays(capsys):
    info = example("unlabelled_arrays").main(
        audit=10, max_steps=3, pretrain_iterations=20, update_iterations=5
    )
    assert 0 <= info["audit_low"] <= info["audit_accuracy"] <= info["audit_high"] <= 1
    assert "classes, audit" in capsys.readouterr().out


def test_memory_map():
    info = example("memory_map").main(
        count=400, max_steps=2, pretrain_iterations=10, update_iterations=5
    )
    assert info["labelled"] == 60


def test_saved_model():
    names = example("saved_model").main(epochs=5, steps=3, update_iterations=5)
    assert set(names) >= {"0", "1", "2", "3", "4"}


def test_own_learner(capsys):
    own_learner = example("own_learner")
    for learner in (None, own_learner.HeadLearner):
        assert 0 <= own_learner.main(learner, **SHRUNK | {"max_steps": 2}) <= 1
    assert len(capsys.readouterr().out.splitlines()) == 4


class TestOwnLearner(example("own_learner").TestHeadLearner):
    """The contract, as the example shows it."""


def test_vector_environments():
    gained = example("vector_environments").main(num_steps=5, **SHRUNK)
    assert gained.shape == (2,)
    assert np.isfinite(gained).all()


def test_resume_later(tmp_path, capsys):
    example("resume_later").main(tmp_path / "episode.npz", **SHRUNK | {"max_steps": 4})
    assert "equal bit for bit: [0." in capsys.readouterr().out


def test_record_video(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example("record_video").main(str(tmp_path), policy="random", **SHRUNK)
    assert list(tmp_path.glob("*.mp4"))


def test_train_policy():
    assert 0 <= example("train_policy").main(updates=1, episodes=2, **SHRUNK) <= 1


class FakeRun:
    """What `wandb.init` gives, as far as the example uses it."""

    def __init__(self):
        self.logged, self.ended = [], False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended = True

    def log(self, numbers, step):
        self.logged.append((step, numbers))


def test_observer(monkeypatch, capsys):
    """With a stand-in for the tracker, and without one."""
    run, told = FakeRun(), {}
    wandb = types.ModuleType("wandb")
    wandb.__spec__ = importlib.machinery.ModuleSpec("wandb", None)
    wandb.init = lambda **settings: told.update(settings) or run
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    accuracy = example("observer").main(policy="random", **SHRUNK)
    assert told["config"] == {"policy": "random", "seed": 0, **SHRUNK}
    assert [step for step, _ in run.logged] == [0, 1, 2, 3] and run.ended
    assert run.logged[-1][1]["test_accuracy"] == accuracy
    assert "reward" in run.logged[1][1] and "reward" not in run.logged[0][1]
    assert all(isinstance(n, float) for _, numbers in run.logged for n in numbers.values())
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert example("observer").main(**SHRUNK) is None
    assert capsys.readouterr().out == "this example needs wandb: pip install wandb\n"


def test_own_policy(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "AGENTS", dict(registry.AGENTS))
    own_policy = example("own_policy")
    assert 0 <= own_policy.main(**SHRUNK) <= 1
    own_policy.compare_with_random(tmp_path, **SHRUNK)
    assert len(list(tmp_path.glob("far/*/steps.csv"))) == 3
    assert "far" in (tmp_path / "report.html").read_text()
    assert "far" in agents.names()


class TestOwnPolicy(example("own_policy").TestFarAgent):
    """The contract, as the example shows it."""


@pytest.mark.parametrize("name", sorted(RL))
def test_examples_of_clients_have_a_test(name):
    assert f'"{name}"' in (ROOT / "tests" / "rl" / "test_clients.py").read_text()
