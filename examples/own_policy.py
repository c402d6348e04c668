"""A query policy of your own, in the way of core-sets, and the contract test it has to pass.

The set is chosen whose images are farthest from the labelled ones in the space of the network's
features (Sener and Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set
Approach", 2018, there for single images).

Run: python examples/own_policy.py; test: pytest examples/own_policy.py (pip install pytest)
"""

import gymnasium as gym
import numpy as np
from rich.console import Console

from emoc_tf import ExplorationConfig, agents, uncertainty
from emoc_tf.experiments.comparison import compare
from emoc_tf.experiments.single_run import Grid
from emoc_tf.testing import AgentContract


class FarAgent(agents.ScoringAgent):
    """Chooses the set with the greatest mean distance to the nearest labelled image."""

    def score(self, state):
        """Returns the mean distance of each set, (M,)."""
        features = state.features.astype(np.float64)
        labelled = features[state.pool.labels >= 0]
        squares = (features**2).sum(axis=1)[:, None] + (labelled**2).sum(axis=1)
        nearest = (squares - 2 * features @ labelled.T).min(axis=1)
        return uncertainty.set_means(np.sqrt(np.maximum(nearest, 0)), state.candidates)


class TestFarAgent(AgentContract):
    """Legal choices under masks, determinism, the state left alone, small worlds."""

    def make_agent(self, seed):
        """Returns the agent to test."""
        return FarAgent(seed)


def register() -> None:
    """Makes the policy known by a name, as the library's own are."""
    if "far" not in agents.names():
        agents.register("far", FarAgent)


def compare_with_random(output_dir="own_policy", **settings) -> None:
    """Compares it with `random` over three initialisations: records and report.html."""
    register()
    grid = Grid(ExplorationConfig(**settings), output_dir)
    findings, failed = compare(grid, ["far", "random"], [0, 1, 2], Console())
    if findings is None:
        raise SystemExit(failed)


def main(**settings) -> float:
    """Runs one episode on digits and returns the final test accuracy."""
    register()
    env = gym.make("emoc_tf/Digits-v0", **settings)
    agent = agents.make("far", seed=0)
    observation, info = env.reset(seed=0)
    over = False
    while not over:
        action = agent.act(observation, env.unwrapped.state)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        print(f"labelled {info['labelled']}  accuracy {info['test_accuracy']:.3f}")
    return info["test_accuracy"]


if __name__ == "__main__":
    main()
    compare_with_random()
