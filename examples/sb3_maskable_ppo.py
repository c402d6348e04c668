"""Trains sb3-contrib's MaskablePPO, which never chooses a masked set. Needs the extra `rl`.

It asks `env.unwrapped.action_masks()` at each step, so that episodes may go on until the pool is
empty.

Run: python examples/sb3_maskable_ppo.py
"""

import gymnasium as gym
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy

import emoc_tf  # noqa: F401, registers the environments


def main(total_timesteps: int = 240, **settings) -> float:
    """Returns the mean reward of an episode after training.

    Args:
        total_timesteps: Steps of the environment.
        **settings: Fields of `ExplorationConfig`.
    """
    settings = {
        "num_candidate_sets": 20, "update_iterations": 20, "pool_per_class": 6,
        "reward": "accuracy_gain+0.1*discovery", "max_steps": None, **settings,
    }  # fmt: skip
    env = gym.make("emoc_tf/Digits-v0", **settings)
    model = MaskablePPO(
        "MultiInputPolicy", env, n_steps=24, batch_size=24, seed=0, device="cpu", verbose=1
    )
    model.learn(total_timesteps)
    reward, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=1)
    return reward


if __name__ == "__main__":
    print(f"reward of an episode: {main():.3f}")
