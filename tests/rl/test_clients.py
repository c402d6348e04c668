"""Reinforcement-learning libraries as users of the environment. They come with the extra `rl`."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.env_util import make_vec_env

from emoc_tf import agents
from tests import example
from tests.envs.test_active_exploration import SHRUNK

ID = "emoc_tf/Digits-v0"
ACTIONS = (1, 0, 3)


@pytest.fixture(autouse=True)
def _one_thread():
    """PyTorch's threads and TensorFlow's would wait for each other's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# A row of features a set is meant; policies of your own can share weights between the rows.
@pytest.mark.filterwarnings(
    "error::UserWarning", "ignore:Your observation set_features has an unconventional shape"
)
def test_the_checker_of_stable_baselines_is_content():
    check_env(gym.make(ID, **SHRUNK).unwrapped)


def by_steps():
    """As in the README."""
    env = gym.make(ID, **SHRUNK)
    steps = [(env.reset(seed=7)[0], 0.0, False)]
    for action in ACTIONS:
        observation, reward, terminated, truncated, _ = env.step(action)
        steps.append((observation, reward, terminated or truncated))
    return steps


def by_vector():
    envs = gym.make_vec(ID, num_envs=1, vectorization_mode="sync", **SHRUNK)
    steps = [(envs.reset(seed=7)[0], 0.0, False)]
    for action in ACTIONS:
        observation, reward, terminated, truncated, _ = envs.step(np.array([action]))
        steps.append((observation, reward[0], (terminated | truncated)[0]))
    return [({key: value[0] for key, value in o.items()}, r, over) for o, r, over in steps]


def by_stable_baselines():
    envs = make_vec_env(ID, n_envs=1, seed=7, env_kwargs=SHRUNK)
    steps = [(envs.reset(), 0.0, False)]
    for action in ACTIONS:
        observation, reward, over, infos = envs.step(np.array([action]))
        if over[0]:  # the observation is the next episode's first already
            last = infos[0]["terminal_observation"]
            observation = {key: value[None] for key, value in last.items()}
        steps.append((observation, reward[0], over[0]))
    return [({key: value[0] for key, value in o.items()}, r, over) for o, r, over in steps]


@pytest.mark.parametrize("loop", [by_vector, by_stable_baselines])
def test_all_loops_give_the_same_trajectory(loop):
    for (seen, reward, over), (others, other_reward, other_over) in zip(
        by_steps(), loop(), strict=True
    ):
        for key, value in seen.items():
            np.testing.assert_array_equal(value, others[key])
        assert np.float32(reward) == np.float32(other_reward)  # SB3 keeps them in float32
        assert over == other_over


def test_ppo_trains():
    env = gym.make(ID, **SHRUNK)
    model = PPO("MultiInputPolicy", env, n_steps=32, batch_size=16, seed=0, device="cpu")
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(192)
    assert model.num_timesteps == 192
    assert any(
        not torch.equal(old, new)
        for old, new in zip(before, model.policy.parameters(), strict=True)
    )
    assert len(model.ep_info_buffer) == 64
    observation, _ = env.reset(seed=1)
    action, _ = model.predict(observation, deterministic=True)
    env.step(action)


def test_maskable_ppo_trains_to_the_end_of_the_pool():
    """Six images a class and three a set: eight steps, with ever fewer sets to choose from."""
    settings = {**SHRUNK, "max_steps": None, "num_candidate_sets": 30}
    env = gym.make(ID, **settings)
    model = MaskablePPO("MultiInputPolicy", env, n_steps=32, batch_size=16, seed=0, device="cpu")
    model.learn(192)
    assert {episode["l"] for episode in model.ep_info_buffer} == {8}
    observation, info = env.reset(seed=1)
    masked, over = 0, False
    while not over:
        mask = get_action_masks(env)
        np.testing.assert_array_equal(mask, info["action_mask"])
        masked += not mask.all()
        action, _ = model.predict(observation, action_masks=mask)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    assert masked > 0


def test_the_single_file_trains():
    module = example("ppo_single_file")
    settings = module.Settings(total_timesteps=240, num_steps=10)
    rewards = module.main(settings, **{**SHRUNK, "max_steps": None, "num_candidate_sets": 8})
    assert len(rewards) >= 20
    assert np.isfinite(rewards).all()


def test_advantages_of_the_single_file_by_hand():
    module = example("ppo_single_file")
    settings = module.Settings(discount=0.5, gae_lambda=0.8)
    rewards, overs = [[1.0], [2.0], [4.0]], [[False], [True], [False]]
    values = [torch.tensor([value]) for value in (0.1, 0.2, 0.3)]
    advantages = module.estimate_advantages(
        [np.array(r) for r in rewards], values, [np.array(o) for o in overs],
        torch.tensor([10.0]), settings,
    )  # fmt: skip
    last = 4 + 0.5 * 10 - 0.3
    ending = 2 - 0.2
    first = 1 + 0.5 * 0.2 - 0.1 + 0.5 * 0.8 * ending
    np.testing.assert_allclose(torch.cat(advantages), [first, ending, last], rtol=1e-6)


def test_the_single_file_learns_from_single_rows():
    module = example("ppo_single_file")
    settings = module.Settings(total_timesteps=16, num_envs=1, num_steps=4, minibatches=2)
    assert np.isfinite(module.main(settings, **SHRUNK)).all()


def test_examples_train():
    for name in ("sb3_ppo", "sb3_maskable_ppo"):
        assert np.isfinite(example(name).main(total_timesteps=24, **SHRUNK)), name


def test_an_agent_beside_a_client():
    """The environment that a client has trained in is as good as new after reset."""
    env = gym.make(ID, **SHRUNK)
    PPO("MultiInputPolicy", env, n_steps=8, batch_size=8, device="cpu").learn(8)
    agent = agents.make("1-vs-2", seed=0)
    for _ in range(2):
        observation, _ = env.reset(seed=3)
        first = agent.act(observation, env.unwrapped.state)
    fresh = gym.make(ID, **SHRUNK)
    observation, _ = fresh.reset(seed=3)
    assert agent.act(observation, fresh.unwrapped.state) == first
