"""Sends the numbers of each step to Weights & Biases, MLflow or another tracker.

`Observed` goes around the environment, whatever acts in it. With MLflow, `log` is
`lambda numbers, step: mlflow.log_metrics(numbers, step=step)`.

Run: pip install wandb, then WANDB_MODE=offline python examples/observer.py
"""

import importlib
import importlib.util
from collections.abc import Callable

import gymnasium as gym

import emoc_tf  # noqa: F401, registers the environments
from emoc_tf import agents

NUMBERS = ("labelled", "test_accuracy", "discovered_classes")


class Observed(gym.Wrapper):
    """Calls `log(numbers, step)` after the reset and after each step."""

    def __init__(self, env: gym.Env, log: Callable[[dict[str, float], int], None]) -> None:
        super().__init__(env)
        self._log = log

    def reset(self, **options):
        """Begins an episode and tells of it."""
        observation, info = self.env.reset(**options)
        self._log({name: float(info[name]) for name in NUMBERS}, 0)
        return observation, info

    def step(self, action):
        """Makes a step and tells of it."""
        observation, reward, *ended, info = self.env.step(action)
        numbers = {name: float(info[name]) for name in NUMBERS} | {"reward": float(reward)}
        self._log(numbers, info["step"])
        return observation, reward, *ended, info


def main(policy: str = "1-vs-2", seed: int = 0, **settings) -> float | None:
    """Runs one episode on digits and returns the final test accuracy; None without wandb.

    Args:
        policy: One of `agents.names()`, with variants.
        seed: Of environment and policy.
        **settings: Fields of `ExplorationConfig`.
    """
    if importlib.util.find_spec("wandb") is None:
        print("this example needs wandb: pip install wandb")
        return None
    wandb = importlib.import_module("wandb")
    env = gym.make("emoc_tf/Digits-v0", **settings)
    with wandb.init(project="emoc_tf", config={"policy": policy, "seed": seed, **settings}) as run:
        env, agent = Observed(env, run.log), agents.make(policy, seed=seed)
        observation, info = env.reset(seed=seed)
        over = False
        while not over:
            action = agent.act(observation, env.unwrapped.state)
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
    env.close()
    return info["test_accuracy"]


if __name__ == "__main__":
    main()
