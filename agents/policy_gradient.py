"""How a query policy is learnt: imitation of a teacher, then reinforcement (policy gradient)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from emoc_tf.agents.learned import set_inputs

Observation = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Episode:
    """What was seen, done and gained in one episode of T steps.

    Attributes:
        inputs: (T, M, inputs) float32; see `set_inputs`.
        masks: (T, M) bool, which sets could be chosen.
        choices: (T,) int64.
        rewards: (T,) float64.
        info: The last step's.
    """

    inputs: np.ndarray
    masks: np.ndarray
    choices: np.ndarray
    rewards: np.ndarray
    info: dict


def run_episode(
    env: gym.Env, choose: Callable[[Observation], int], seed: int, **options: str
) -> Episode:
    """Runs an episode and returns its record.

    Args:
        env: An environment of this library, whose `reset` gives at least one set to choose.
        choose: Returns the action for an observation.
        seed: Of the environment.
        **options: Of `reset`.
    """
    observation, info = env.reset(seed=seed, options=options)
    inputs, masks, choices, rewards, over = [], [], [], [], False
    while not over:
        inputs.append(set_inputs(observation))
        masks.append(observation["action_mask"].astype(bool))
        choices.append(choose(observation))
        observation, reward, terminated, truncated, info = env.step(choices[-1])
        rewards.append(reward)
        over = terminated or truncated
    return Episode(np.stack(inputs), np.stack(masks), np.array(choices), np.array(rewards), info)


def advantages(group: Sequence[Episode], discount: float = 1.0) -> list[np.ndarray]:
    """Returns the advantage of each step of episodes that began alike.

    The rewards to come, Σ_k γ^k r_{t+k}, less the mean of the other episodes' at the same step.
    Episodes of one seed share classes, images and first model, whose luck drops out in the
    difference.

    Args:
        group: At least two episodes of one seed.
        discount: γ, in [0, 1].
    """
    longest = max(len(episode.rewards) for episode in group)
    returns = np.zeros((len(group), longest + 1))
    for row, episode in zip(returns, group, strict=True):
        row[: len(episode.rewards)] = episode.rewards
    for t in reversed(range(longest)):
        returns[:, t] += discount * returns[:, t + 1]
    others = (returns.sum(axis=0) - returns) / (len(group) - 1)
    return [
        (row - other)[: len(episode.rewards)]
        for row, other, episode in zip(returns, others, group, strict=True)
    ]


class PolicyLearner:
    """Trains a network of `build_network`; the policy is the softmax of its scores over the sets.

    Args:
        network: Trained in place.
        learning_rate: Of Adam.
        entropy_bonus: Weight of the policy's entropy in reinforcement, which keeps it exploring.
        seed: Of the choices that `sample` draws.
    """

    def __init__(
        self,
        network: keras.Model,
        learning_rate: float = 3e-3,
        entropy_bonus: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.network = network
        self._entropy_bonus = entropy_bonus
        self._optimizer = keras.optimizers.Adam(learning_rate)
        self._optimizer.build(network.trainable_variables)
        self._rng = np.random.default_rng(seed)
        width = network.inputs[0].shape[1]
        self._log_policy = tf.function(
            self._log_policy,
            input_signature=[
                tf.TensorSpec((None, None, width), tf.float32),
                tf.TensorSpec((None, None), tf.bool),
            ],
        )
        self._update = tf.function(
            self._update,
            input_signature=[
                tf.TensorSpec((None, None, width), tf.float32),
                tf.TensorSpec((None, None), tf.bool),
                tf.TensorSpec((None,), tf.int64),
                tf.TensorSpec((None,), tf.float32),
                tf.TensorSpec((), tf.float32),
            ],
        )

    def sample(self, observation: Observation) -> int:
        """Returns a choice drawn from the policy."""
        inputs, mask = set_inputs(observation), observation["action_mask"].astype(bool)
        log_policy = self._log_policy(inputs[None], mask[None]).numpy()[0].astype(np.float64)
        policy = np.where(mask, np.exp(log_policy), 0)
        return int(self._rng.choice(len(policy), p=policy / policy.sum()))

    def imitate(self, episodes: Sequence[Episode], iterations: int = 300) -> float:
        """Fits the policy to the choices of a teacher; returns the mean −log π(choice) at last.

        It ends early once that is half of a random policy's: one that is sure of all its choices
        would never try others and find out about them.
        """
        weights = [np.ones(len(episode.choices)) for episode in episodes]
        masks = np.concatenate([episode.masks for episode in episodes])
        enough = np.log(masks.sum(axis=1)).mean() / 2
        loss = np.inf
        for _ in range(iterations):
            loss = self._fit(episodes, weights, 0.0)
            if loss <= enough:
                break
        return loss

    def reinforce(self, groups: Sequence[Sequence[Episode]], discount: float = 1.0) -> float:
        """Makes one step along Σ A_t ∇log π(choice_t); returns the loss.

        Args:
            groups: Episodes that the policy as it is has acted in, in groups of one seed.
            discount: γ of the rewards to come.
        """
        episodes = [episode for group in groups for episode in group]
        weights = [advantage for group in groups for advantage in advantages(group, discount)]
        scale = max(np.concatenate(weights).std(), 1e-8)
        return self._fit(episodes, [weight / scale for weight in weights], self._entropy_bonus)

    def _fit(
        self, episodes: Sequence[Episode], weights: Sequence[np.ndarray], entropy_bonus: float
    ) -> float:
        loss = self._update(
            np.concatenate([episode.inputs for episode in episodes]),
            np.concatenate([episode.masks for episode in episodes]),
            np.concatenate([episode.choices for episode in episodes]),
            np.concatenate(weights).astype(np.float32),
            np.float32(entropy_bonus),
        )
        return float(loss)

    def _log_policy(self, inputs: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(inputs)
        rows = tf.reshape(inputs, [shape[0] * shape[1], inputs.shape[2]])
        scores = tf.reshape(self.network(rows, training=True), shape[:2])
        return tf.nn.log_softmax(tf.where(masks, scores, scores.dtype.min))

    def _update(
        self,
        inputs: tf.Tensor,
        masks: tf.Tensor,
        choices: tf.Tensor,
        weights: tf.Tensor,
        entropy_bonus: tf.Tensor,
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            log_policy = self._log_policy(inputs, masks)
            chosen = tf.gather(log_policy, choices, batch_dims=1)
            entropy = -tf.reduce_sum(tf.where(masks, tf.exp(log_policy) * log_policy, 0.0), axis=1)
            loss = -tf.reduce_mean(weights * chosen + entropy_bonus * entropy)
        variables = self.network.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)
        return loss
