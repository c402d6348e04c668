"""Runs several episodes side by side in processes, with random choices among the possible sets.

Processes are spawned: TensorFlow does not survive a fork.

Run: python examples/vector_environments.py
"""

import gymnasium as gym
import numpy as np

import emoc_tf  # noqa: F401, registers the environments


def main(num_envs: int = 2, num_steps: int = 12, seed: int = 0, **settings) -> np.ndarray:
    """Returns the sum of the rewards of each environment, (num_envs,).

    Args:
        num_envs: Environments, a process each.
        num_steps: Steps of each; an episode that ends is followed by the next.
        seed: Of the first environment; the others have the numbers that follow.
        **settings: Fields of `ExplorationConfig`.
    """
    envs = gym.make_vec(
        "emoc_tf/Digits-v0",
        num_envs=num_envs,
        vectorization_mode="async",
        vector_kwargs={"context": "spawn"},
        **settings,
    )
    rng, gained = np.random.default_rng(seed), np.zeros(num_envs)
    observations, _ = envs.reset(seed=seed)
    for _ in range(num_steps):
        masks = observations["action_mask"]
        # Where the pool ran out no set is left; whatever is chosen then starts the next episode.
        actions = [rng.choice(np.flatnonzero(mask)) if mask.any() else 0 for mask in masks]
        observations, rewards, _, _, infos = envs.step(np.array(actions))
        gained += rewards
        print("test accuracy", infos["test_accuracy"].round(3))
    envs.close()
    return gained


if __name__ == "__main__":
    main()
