"""What `info` is to loggers, to samplers of actions and to other processes."""

import copy
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from tests.envs.test_active_exploration import SHRUNK, make

DIGITS = "emoc_tf/Digits-v0"


@pytest.fixture(scope="module")
def info():
    """Of a step after which some of the sets are masked."""
    env = make(max_steps=None, known_classes=1, novel_classes=1, num_candidate_sets=30)
    env.reset(seed=0)
    told = env.step(0)[-1]
    assert 0 < told["action_mask"].sum() < 30
    return told


@pytest.mark.parametrize(
    "changes", [{}, {"novel_classes": 0, "known_classes": 3}, {"sampler": "uniform"}]
)
def test_infos_are_written_as_json(changes):
    env = gym.make(DIGITS, **{**SHRUNK, **changes})
    infos = [env.reset(seed=0)[1], *(env.step(0)[-1] for _ in range(3))]
    infos.append(env.unwrapped.restore(env.unwrapped.save())[1])
    for info in infos:
        mask = info["action_mask"]
        assert (type(mask), mask.dtype, mask.shape) == (np.ndarray, np.int8, (5,))
        assert env.action_space.sample(mask) in np.flatnonzero(mask)
        plain = {**info, "action_mask": mask.tolist()}
        assert all(type(value) in (int, float, list) for value in plain.values())
        assert {type(recall) for recall in info["class_recall"]} == {float}
        for settings in ({}, {"indent": 2}, {"sort_keys": True}):
            assert json.loads(json.dumps(info, **settings)) == plain
        assert json.loads(json.dumps([{"step": info}])) == [{"step": plain}]
        assert "".join(json.JSONEncoder().iterencode(info)) == json.dumps(info)


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy, copy.deepcopy, lambda info: info.copy(), lambda info: info | {},
        *(lambda info, n=n: pickle.loads(pickle.dumps(info, n)) for n in (0, 2, 5)),
    ],
)  # fmt: skip
def test_copies_write_json_too_and_hold_arrays(info, copied):
    other = copied(info)
    assert type(other) is type(info)
    assert data_equivalence(dict(other), dict(info), exact=True)
    assert json.dumps(other) == json.dumps(info)
    other["step"] = -1
    assert info["step"] == 1


def test_a_deep_copy_has_a_mask_of_its_own(info):
    mask = info["action_mask"].copy()
    copy.deepcopy(info)["action_mask"][:] = 7
    np.testing.assert_array_equal(info["action_mask"], mask)


def test_plain_dicts_of_it_hold_arrays(info):
    for other in (dict(info), {**info}, {"reward": 1.0} | info):
        assert type(other) is dict
        assert other["action_mask"] is info["action_mask"]
    assert dict(info.items()) == {**info, "action_mask": info["action_mask"].tolist()}
    assert pickle.loads(pickle.dumps(info.items().mapping["action_mask"])) == list(
        info["action_mask"]
    )


def test_wrappers_may_add_to_it():
    env = gym.wrappers.RecordEpisodeStatistics(gym.make(DIGITS, **{**SHRUNK, "max_steps": 1}))
    env.reset(seed=0)
    written = json.loads(json.dumps(env.step(0)[-1]))
    assert written["episode"]["l"] == 1
    assert written["action_mask"] == [1] * 5
