"""Trains Stable-Baselines3's PPO in the environment. Needs the extra `rl`.

PPO knows no action masks: the pool has to be large enough that M different sets can be formed at
every step, which `max_steps` sees to here. Otherwise take MaskablePPO.

Run: python examples/sb3_ppo.py
"""

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy

import emoc_tf  # noqa: F401, registers the environments


def main(total_timesteps: int = 240, **settings) -> float:
    """Returns the mean reward of an episode after training.

    Args:
        total_timesteps: Steps of the environment.
        **settings: Fields of `ExplorationConfig`.
    """
    settings = {"num_candidate_sets": 20, "update_iterations": 20, "reward": "area", **settings}
    env = gym.make("emoc_tf/Digits-v0", **settings)
    model = PPO("MultiInputPolicy", env, n_steps=24, batch_size=24, seed=0, device="cpu", verbose=1)
    model.learn(total_timesteps)
    reward, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=1)
    return reward


if __name__ == "__main__":
    print(f"reward of an episode: {main():.3f}")
