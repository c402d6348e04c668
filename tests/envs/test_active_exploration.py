import copy
import dataclasses
import pickle
import types

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

import emoc_tf
from emoc_tf.envs import FEATURES, ActiveExplorationEnv

SHRUNK = {
    "known_classes": 2, "novel_classes": 2, "initial_per_class": 4, "pool_per_class": 6,
    "num_candidate_sets": 5, "set_size": 3, "pretrain_iterations": 3, "update_iterations": 2,
    "batch_size": 4, "max_steps": 3,
}  # fmt: skip
IDS = ["emoc_tf/Digits-v0", "emoc_tf/CIFAR100-v0", "emoc_tf/ActiveExploration-v0"]


def shrunk(env_id, cifar_dir):
    return {**SHRUNK, **({"data_dir": cifar_dir} if "CIFAR" in env_id else {})}


@pytest.mark.parametrize("env_id", IDS)
def test_ids_fill_in_their_presets(env_id, cifar_dir):
    env = gym.make(env_id, data_dir=cifar_dir)
    expected = "cifar100" if "CIFAR" in env_id else "digits"
    assert env.unwrapped.config.dataset == expected
    assert env.action_space.n == (1000 if "CIFAR" in env_id else 100)


@pytest.mark.parametrize("env_id", IDS)
def test_a_mapping_changes_the_preset_of_the_id(env_id, cifar_dir):
    preset = "paper" if "CIFAR" in env_id else "demo"
    for mapping in ({}, {"max_steps": 3}, types.MappingProxyType({"set_size": 2, "max_steps": 1})):
        env = gym.make(env_id, config=mapping, data_dir=cifar_dir).unwrapped
        expected = emoc_tf.ExplorationConfig.preset(preset, data_dir=cifar_dir, **mapping)
        assert env.config == expected
        assert pickle.loads(pickle.dumps(env)).config == expected
    whole = emoc_tf.ExplorationConfig(**SHRUNK)
    assert gym.make(env_id, config=whole).unwrapped.config == whole
    assert gym.make(env_id, config=whole.to_dict()).unwrapped.config == whole


def test_a_mapping_that_changes_later_does_not_reach_a_copy():
    mapping = dict(SHRUNK)
    env = ActiveExplorationEnv(mapping)
    mapping["set_size"] = 1
    assert copy.deepcopy(env).config == env.config == emoc_tf.ExplorationConfig(**SHRUNK)


def make(**changes):
    return ActiveExplorationEnv(**{**SHRUNK, **changes})


def test_an_episode():
    env = make()
    observation, info = env.reset(seed=0)
    assert info["step"] == 0
    assert "chosen_set" not in info
    before, over, steps = info["test_accuracy"], False, 0
    while not over:
        assert observation in env.observation_space
        assert observation["set_features"].shape == (5, len(FEATURES))
        np.testing.assert_array_equal(info["action_mask"], env.action_masks())
        action = steps
        observation, reward, terminated, truncated, info = env.step(action)
        steps += 1
        assert reward == info["test_accuracy"] - before
        assert info["chosen_set"] == action
        before, over = info["test_accuracy"], terminated or truncated
    assert (steps, terminated, truncated) == (3, False, True)
    assert observation["progress"][0] == 1


def test_episodes_terminate_when_the_pool_runs_out():
    env = make(max_steps=None, known_classes=1, novel_classes=1, num_candidate_sets=30)
    env.reset(seed=0)
    for step in range(1, 5):
        action = int(np.flatnonzero(env.action_masks())[0])
        observation, _, terminated, truncated, info = env.step(action)
        assert (terminated, truncated) == (step == 4, False)
    assert not info["action_mask"].any()
    assert observation in env.observation_space


def test_equal_seeds_give_equal_runs_and_later_resets_go_on():
    first, second, runs = make(), make(), []
    for env in (first, second):
        results = [env.reset(seed=5), env.step(1), env.step(0), env.reset(), env.step(2)]
        runs.append(results)
    assert data_equivalence(*runs, exact=True)
    assert not data_equivalence(runs[0][0], runs[0][3])


def test_discoveries_as_reward():
    env = make(reward="discovery")
    env.reset(seed=0)
    found = 0
    for _ in range(3):
        _, reward, _, _, info = env.step(0)
        assert reward == info["discovered_classes"] - found
        found = info["discovered_classes"]


def test_a_reward_of_ones_own():
    env = ActiveExplorationEnv(
        emoc_tf.ExplorationConfig(**SHRUNK), reward=lambda before, after: after.step + before.step
    )
    env.reset(seed=0)
    assert [env.step(0)[1] for _ in range(3)] == [1, 3, 5]


@pytest.mark.parametrize("action", [-1, 5, 1.0, "1", None, np.array([1, 2])])
def test_impossible_actions_change_nothing(action):
    env = make()
    env.reset(seed=0)
    state = env.state
    with pytest.raises(gym.error.InvalidAction, match="action: expected "):
        env.step(action)
    assert env.state is state
    env.step(np.int64(1))


def test_masked_actions_are_refused():
    env = make()
    env.reset(seed=0)
    state = env.exploration.state
    mask = np.array([True, False, True, True, False])
    env.exploration.state = dataclasses.replace(state, candidate_mask=mask)
    assert list(env.action_masks()) == list(mask)
    with pytest.raises(gym.error.InvalidAction, match="one of the 3 candidate sets, got 4"):
        env.step(4)
    env.step(3)


def test_fewer_sets_than_m_at_the_end_of_the_pool():
    """Six images a class and three a set: in the end one set a class is left, then none."""
    env = make(max_steps=None, num_candidate_sets=30)
    observation, _ = env.reset(seed=0)
    counts, over = [], False
    while not over:
        mask, state = env.action_masks(), env.state
        counts.append(mask.sum())
        assert (observation["set_features"][~mask] == 0).all()
        assert (observation["set_features"][mask] != 0).any(axis=1).all()
        if not mask.all():
            with pytest.raises(gym.error.InvalidAction, match=f"one of the {counts[-1]} candidate"):
                env.step(int(np.flatnonzero(~mask)[0]))
            assert env.state is state
        observation, _, over, _, info = env.step(int(np.flatnonzero(mask)[-1]))
        np.testing.assert_array_equal(info["action_mask"], env.action_masks())
    assert len(counts) == 8
    assert counts[0] == 30
    assert list(counts[-1:]) == [1]
    assert any(1 < count < 30 for count in counts)
    mask = env.action_masks()
    mask[:] = True  # a copy of its own
    assert not env.action_masks().any()


def test_steps_outside_an_episode_are_refused():
    env = make(max_steps=1)
    with pytest.raises(gym.error.ResetNeeded, match="step: expected a call of reset first"):
        env.step(0)
    for early in (lambda: env.state, env.action_masks, lambda: env.outcome):
        with pytest.raises(gym.error.ResetNeeded, match="expected a call of reset"):
            early()
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(gym.error.ResetNeeded, match="after the episode's end"):
        env.step(0)


def test_an_episode_that_broke_off_wants_a_reset(monkeypatch):
    env = make()
    env.reset(seed=0)

    def diverge(*arguments):
        raise FloatingPointError("training diverged")

    with monkeypatch.context() as patch:
        patch.setattr(env.exploration._network._learner, "train", diverge)
        with pytest.raises(FloatingPointError):
            env.step(0)
    for call in (lambda: env.step(0), lambda: env.state, env.action_masks, lambda: env.outcome):
        with pytest.raises(gym.error.ResetNeeded, match="first, since a step was broken off"):
            call()
    env.reset(seed=0)
    env.step(0)


def test_a_reward_that_fails_leaves_the_step_made():
    calls = []

    class Reward:
        def __len__(self):  # false in a condition, and still a reward
            return 0

        def __call__(self, before, after):
            calls.append((before.step, after.step))
            return 1 / (after.step - 1)

    env = ActiveExplorationEnv(emoc_tf.ExplorationConfig(**SHRUNK), reward=Reward())
    env.reset(seed=0)
    with pytest.raises(ZeroDivisionError):
        env.step(0)
    assert env.step(0)[1] == 1
    assert calls == [(0, 1), (1, 2)]


def test_bad_settings_get_one_sentence():
    with pytest.raises(ValueError, match=r"reward: expected one of .*'accuracy_gain'.*got 'fame'"):
        make(reward="fame")
    with pytest.raises(ValueError, match="colour: expected a field"):
        make(colour=1)
    with pytest.raises(ValueError, match=r"config: expected an ExplorationConfig, .*, got 3"):
        ActiveExplorationEnv(3)
    with pytest.raises(ValueError, match="reward: expected a name or a function, got 5"):
        make(reward=5)
    with pytest.raises(ValueError, match="preset: expected one of"):
        ActiveExplorationEnv(preset="x")
    with pytest.raises(ValueError, match=r"config: expected names of settings, got \[1\]"):
        ActiveExplorationEnv({1: 2})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"x": 1}, ValueError, r"options: expected only \['checkpoint', .*, got \['x'\]"),
        ({1: 1, "x": 1}, ValueError, r"options: expected only \['checkpoint', .*, got \[1, 'x'\]"),
        (["x"], ValueError, r"options: expected a mapping or None, got \['x'\]"),
        ({"allow_mixed": "no"}, ValueError, "allow_mixed: expected True or False, got 'no'"),
        ({"pretrained": 5}, ValueError, r"pretrained: expected a path or an object with get\("),
        ({"checkpoint": 5}, ValueError, "checkpoint: expected what save returned or a path, got 5"),
        ({"checkpoint": "no/such.npz"}, FileNotFoundError, "no/such.npz"),
        (
            {"checkpoint": "no/such.npz", "pretrained": "no/such.npz"},
            ValueError,
            "pretrained: expected none beside a checkpoint, .*; leave one of the two out",
        ),
        ({"checkpoint": __file__}, ValueError, "expected a whole .npz file"),
    ],
)
def test_a_reset_that_is_refused_changes_nothing(options, error, message):
    env, other = make(), make()
    for same in (env, other):
        same.reset(seed=3)
    before = env.state
    with pytest.raises(error, match=message):
        env.reset(seed=5, options=options)
    assert env.state is before
    assert env.np_random_seed == 3
    assert data_equivalence(env.reset(), other.reset(), exact=True)
