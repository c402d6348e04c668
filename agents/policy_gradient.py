"""How a query policy is learnt: imitation of a teacher, then reinforcement (policy gradient)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from emoc_tf.agents.learned import set_inputs

Observation = Mapping[str, np.ndarray]

# How far reinforcement moves the probability of a choice for its sake.
CLIP = 0.2


@dataclass(frozen=True, eq=False)
class Trajectory:
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
) -> Trajectory:
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
    return Trajectory(np.stack(inputs), np.stack(masks), np.array(choices), np.array(rewards), info)


def advantages(group: Sequence[Trajectory], discount: float = 1.0) -> list[np.ndarray]:
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
        inputs = tf.TensorSpec((None, None, network.inputs[0].shape[1]), tf.float32)
        masks = tf.TensorSpec((None, None), tf.bool)
        choices, numbers = (tf.TensorSpec((None,), dtype) for dtype in (tf.int64, tf.float32))

        def compiled(function: Callable, *signature: tf.TensorSpec) -> Callable:
            return tf.function(function, input_signature=signature, autograph=False)

        self._log_policy = compiled(self._trace_log_policy, inputs, masks)
        self._imitate = compiled(self._trace_imitation, inputs, masks, choices)
        self._reinforce = compiled(
            self._trace_reinforcement, inputs, masks, choices, numbers, numbers
        )

    def save(self) -> tuple[dict[str, np.ndarray], dict]:
        """Returns what `restore` takes: arrays by name, and the state of the choices' generator."""
        variables = [*self.network.variables, *self._optimizer.variables]
        arrays = {f"variable {i}": variable.numpy() for i, variable in enumerate(variables)}
        return arrays, self._rng.bit_generator.state

    def restore(self, arrays: Mapping[str, np.ndarray], choices: dict) -> None:
        """Takes over what `save` returned of a learner of the same network.

        Raises:
            KeyError: An array is missing.
            ValueError: An array has another shape, or the state is none.
        """
        for i, variable in enumerate([*self.network.variables, *self._optimizer.variables]):
            variable.assign(arrays[f"variable {i}"])
        self._rng.bit_generator.state = choices

    def sample(self, observation: Observation) -> int:
        """Returns a choice drawn from the policy."""
        inputs, mask = set_inputs(observation), observation["action_mask"].astype(bool)
        log_policy = self._log_policy(inputs[None], mask[None]).numpy()[0].astype(np.float64)
        policy = np.where(mask, np.exp(log_policy), 0)
        return int(self._rng.choice(len(policy), p=policy / policy.sum()))

    def imitate(self, episodes: Sequence[Trajectory], passes: int = 300) -> float:
        """Fits the policy to the choices of a teacher; returns the mean −log π(choice) at last.

        It ends early once that is half of a random policy's: one that is sure of all its choices
        would never try others and find out about them.
        """
        inputs, masks, choices = _together(episodes)
        enough = np.log(masks.sum(axis=1)).mean() / 2
        loss = np.inf
        for _ in range(passes):
            loss = float(self._imitate(inputs, masks, choices))
            if loss <= enough:
                break
        return loss

    def reinforce(
        self, groups: Sequence[Sequence[Trajectory]], discount: float = 1.0, passes: int = 4
    ) -> float:
        """Raises the probability of choices with an advantage; returns the last loss.

        The clipped objective of Schulman et al., "Proximal Policy Optimization Algorithms" (2017,
        Eq. 7): several passes over the same episodes, none of which moves a choice's probability
        further than by a fifth for its sake.

        Args:
            groups: Episodes that the policy as it is has acted in, in groups of one seed.
            discount: γ of the rewards to come.
            passes: Gradient steps, at least 1.
        """
        inputs, masks, choices = _together([episode for group in groups for episode in group])
        weights = np.concatenate([a for group in groups for a in advantages(group, discount)])
        weights = (weights / max(weights.std(), 1e-8)).astype(np.float32)
        log_policy = self._log_policy(inputs, masks).numpy()
        before = np.take_along_axis(log_policy, choices[:, None], axis=1)[:, 0]
        for _ in range(passes):
            loss = self._reinforce(inputs, masks, choices, weights, before)
        return float(loss)

    def _trace_log_policy(self, inputs: tf.Tensor, masks: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(inputs)
        rows = tf.reshape(inputs, [shape[0] * shape[1], inputs.shape[2]])
        scores = tf.reshape(self.network(rows, training=True), shape[:2])
        return tf.nn.log_softmax(tf.where(masks, scores, scores.dtype.min))

    def _trace_imitation(
        self, inputs: tf.Tensor, masks: tf.Tensor, choices: tf.Tensor
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            log_policy = self._trace_log_policy(inputs, masks)
            loss = -tf.reduce_mean(tf.gather(log_policy, choices, batch_dims=1))
        self._apply(tape, loss)
        return loss

    def _trace_reinforcement(
        self,
        inputs: tf.Tensor,
        masks: tf.Tensor,
        choices: tf.Tensor,
        weights: tf.Tensor,
        before: tf.Tensor,
    ) -> tf.Tensor:
        with tf.GradientTape() as tape:
            log_policy = self._trace_log_policy(inputs, masks)
            ratio = tf.exp(tf.gather(log_policy, choices, batch_dims=1) - before)
            clipped = tf.clip_by_value(ratio, 1 - CLIP, 1 + CLIP)
            gain = tf.minimum(ratio * weights, clipped * weights)
            shares = tf.where(masks, tf.exp(log_policy) * log_policy, 0.0)
            entropy = -tf.reduce_sum(shares, axis=1)
            loss = -tf.reduce_mean(gain + self._entropy_bonus * entropy)
        self._apply(tape, loss)
        return loss

    def _apply(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        variables = self.network.trainable_variables
        self._optimizer.apply(tape.gradient(loss, variables), variables)


def _together(episodes: Sequence[Trajectory]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.concatenate([episode.inputs for episode in episodes]),
        np.concatenate([episode.masks for episode in episodes]),
        np.concatenate([episode.choices for episode in episodes]),
    )
