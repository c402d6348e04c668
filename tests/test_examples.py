"""Every example runs; those of reinforcement-learning libraries do in tests/rl."""

import warnings

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import registry
from tests import ROOT, example
from tests.envs.test_active_exploration import SHRUNK

RL = {"sb3_ppo", "sb3_maskable_ppo", "ppo_single_file"}


def test_each_example_is_run():
    names = {file.stem for file in (ROOT / "examples").glob("*.py")}
    tested = {"step_with_agent", "own_policy", "own_images", "vector_environments"}
    assert names == tested | {"record_video", "train_policy", "go_on_later"} | RL


def test_step_with_agent(capsys):
    accuracy = example("step_with_agent").main(policy="min", **SHRUNK)
    assert 0 <= accuracy <= 1
    assert "step 3 of 3" in capsys.readouterr().out


def test_own_images(capsys):
    settings = {"pool_per_class": 10, "update_iterations": 5, "max_steps": 2}
    assert 0 <= example("own_images").main(**settings) <= 1
    assert "10 images asked for" in capsys.readouterr().out


def test_vector_environments():
    gained = example("vector_environments").main(num_steps=5, **SHRUNK)
    assert gained.shape == (2,)
    assert np.isfinite(gained).all()


def test_go_on_later(tmp_path, capsys):
    example("go_on_later").main(tmp_path / "episode.npz", **SHRUNK | {"max_steps": 4})
    assert "equal bit for bit: [0." in capsys.readouterr().out


def test_record_video(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example("record_video").main(str(tmp_path), policy="random", **SHRUNK)
    assert list(tmp_path.glob("*.mp4"))


def test_train_policy():
    assert 0 <= example("train_policy").main(updates=1, episodes=2, **SHRUNK) <= 1


def test_own_policy(monkeypatch, tmp_path):
    monkeypatch.setattr(registry, "AGENTS", dict(registry.AGENTS))
    own_policy = example("own_policy")
    assert 0 <= own_policy.main(**SHRUNK) <= 1
    own_policy.compare_with_random(tmp_path, **SHRUNK)
    assert len(list(tmp_path.glob("core-set/*/steps.csv"))) == 3
    assert "core-set" in (tmp_path / "report.html").read_text()
    assert "core-set" in agents.names()


class TestOwnPolicy(example("own_policy").TestCoreSetAgent):
    """The contract, as the example shows it."""


@pytest.mark.parametrize("name", sorted(RL))
def test_examples_of_clients_have_a_test(name):
    assert f'"{name}"' in (ROOT / "tests" / "rl" / "test_clients.py").read_text()
