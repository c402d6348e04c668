"""How a policy is learnt: advantages, updates, imitation, samples."""

import dataclasses

import numpy as np
import pytest

from emoc_tf.agents import learned
from emoc_tf.agents.policy_gradient import PolicyLearner, Trajectory, advantages, run_episode
from tests.agents.test_learned import WIDTH, make_network, make_observation
from tests.envs.test_active_exploration import make


def make_episode(rewards, seed=0, masked=()):
    observations = [make_observation(masked=masked, seed=seed + t) for t in range(len(rewards))]
    return Trajectory(
        inputs=np.stack([learned.set_inputs(o) for o in observations]),
        masks=np.stack([o["action_mask"].astype(bool) for o in observations]),
        choices=np.arange(len(rewards)),
        rewards=np.array(rewards, float),
        info={},
    )


def test_advantages_by_hand():
    group = [make_episode([1, 2, 3]), make_episode([0, 4]), make_episode([2, 0, 0])]
    first, second, third = advantages(group, discount=0.5)
    returns = [[1 + 1 + 0.75, 2 + 1.5, 3], [2, 4, 0], [2, 0, 0]]
    for advantage, own, others in (
        (first, returns[0], (returns[1], returns[2])),
        (second, returns[1][:2], (returns[0], returns[2])),
        (third, returns[2], (returns[0], returns[1])),
    ):
        mean = np.mean(others, axis=0)[: len(own)]
        np.testing.assert_allclose(advantage, np.array(own) - mean)


def log_policies(network, episode):
    """Of the possible sets of each step, with the position of the choice among them."""
    for inputs, mask, choice in zip(episode.inputs, episode.masks, episode.choices, strict=True):
        scores = network(inputs).numpy().astype(np.float64)[mask]
        log_policy = scores - scores.max()
        yield (
            log_policy - np.log(np.exp(log_policy).sum()),
            np.flatnonzero(mask).tolist().index(choice),
        )


def objective(network, episode, weights, before):
    """The clipped objective with an entropy bonus of 0.1, written out."""
    total = 0.0
    for (log_policy, chosen), weight, old in zip(
        log_policies(network, episode), weights, before, strict=True
    ):
        ratio = np.exp(log_policy[chosen] - old)
        total += min(ratio * weight, np.clip(ratio, 0.8, 1.2) * weight)
        total -= 0.1 * (np.exp(log_policy) * log_policy).sum()
    return total / len(weights)


def test_an_update_follows_the_policy_gradient():
    """Against finite differences of the objective in the weights that moved most."""
    network, episode = make_network(3), make_episode([0.3, -1, 2], masked=(5,))
    weights = np.array([0.5, -1.0, 2.0], np.float32)
    # A ratio within the clip range, one above it and one below.
    before = np.array([lp[c] for lp, c in log_policies(network, episode)]) - [0.0, 0.5, -0.5]
    learner = PolicyLearner(network, learning_rate=1e-4, entropy_bonus=0.1)
    expected = objective(network, episode, weights, before)
    start = [w.numpy() for w in network.trainable_variables]
    loss = learner._reinforce(
        episode.inputs, episode.masks, episode.choices, weights, before.astype(np.float32)
    )
    assert float(loss) == pytest.approx(-expected, rel=1e-4)
    assert objective(network, episode, weights, before) > expected
    steps = [w.numpy() - old for w, old in zip(network.trainable_variables, start, strict=True)]
    # Adam's first step is the learning rate times the gradient's sign. The last bias adds the same
    # to all scores and has no gradient.
    for i, step in enumerate(steps[:-1]):
        where = np.unravel_index(np.abs(step).argmax(), step.shape)
        slopes = []
        for sign in (1, -1):
            values = [array.copy() for array in start]
            values[i][where] += sign * 1e-2
            network.set_weights(values)
            slopes.append(sign * objective(network, episode, weights, before))
        assert np.sign(sum(slopes)) == np.sign(step[where])


def test_what_is_clipped_does_not_move():
    """Choices whose probability has risen enough for their advantage, or fallen for its lack."""
    network, episode = make_network(3), make_episode([0, 0])
    old = np.array([lp[c] for lp, c in log_policies(network, episode)])
    learner, start = PolicyLearner(network, entropy_bonus=0.0), network.get_weights()
    learner._reinforce(
        episode.inputs, episode.masks, episode.choices, np.float32([1, -1]),
        (old + np.array([-0.5, 0.5])).astype(np.float32),
    )  # fmt: skip
    for one, other in zip(start, network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_imitation_learns_the_teacher_and_leaves_doubt():
    rng = np.random.default_rng(0)
    episodes = []
    for seed in range(30):
        episode = make_episode([0] * 10, seed=100 * seed)
        best = episode.inputs[:, :, 1].argmax(axis=1)  # the greatest margin
        episodes.append(dataclasses.replace(episode, choices=best))
    learner = PolicyLearner(learned.build_network(WIDTH), learning_rate=1e-2)
    loss = learner.imitate(episodes)
    assert 0.5 * np.log(7) * 0.8 < loss <= np.log(7) / 2
    fresh = make_episode([0] * 50, seed=int(rng.integers(1000, 2000)))
    scores = learner.network(fresh.inputs.reshape(-1, WIDTH)).numpy().reshape(50, 7)
    assert (scores.argmax(axis=1) == fresh.inputs[:, :, 1].argmax(axis=1)).mean() > 0.6


class Bandit:
    """The reward is the chosen set's first feature."""

    def __init__(self):
        self.seed, self.step_number = 0, 0

    def reset(self, seed, options):
        self.seed, self.step_number = seed, 0
        return self._observation(), {}

    def _observation(self):
        return make_observation(masked=(1,), seed=1000 * self.seed + self.step_number)

    def step(self, action):
        observation = self._observation()
        assert observation["action_mask"][action]
        self.step_number += 1
        reward = float(observation["set_features"][action, 0])
        return self._observation(), reward, False, self.step_number == 4, {}


def test_reinforcement_learns_what_pays():
    env, network = Bandit(), learned.build_network(WIDTH)
    learner = PolicyLearner(network, learning_rate=2e-2, seed=1)
    for seed in range(60):
        group = [run_episode(env, learner.sample, seed) for _ in range(8)]
        learner.reinforce([group], discount=0.0)
    gained = [run_episode(env, learner.sample, seed).rewards.mean() for seed in range(100, 120)]
    assert np.mean(gained) > 0.75  # a random policy gets 0.5, the best one 6 / 7


def test_samples_are_seeded_and_keep_to_the_mask():
    observation = make_observation(masked=(0, 4))
    draws = [
        [PolicyLearner(make_network(), seed=seed).sample(observation) for _ in range(3)]
        for seed in (0, 0, 1, 2, 3, 4)
    ]
    assert draws[0] == draws[1]
    assert not {0, 4} & {choice for row in draws for choice in row}
    learner = PolicyLearner(learned.build_network(WIDTH))
    assert len({learner.sample(observation) for _ in range(100)}) == 5


def test_episodes_are_recorded():
    env = make()
    episode = run_episode(env, lambda observation: 1, seed=2)
    env.reset(seed=2)
    rewards = [env.step(1)[1] for _ in range(3)]
    np.testing.assert_array_equal(episode.rewards, rewards)
    assert episode.inputs.shape == (3, 5, WIDTH)
    assert list(episode.choices) == [1, 1, 1]
    assert episode.info["step"] == 3
