"""Learns a query policy by acting on some classes and tries it on others.

The binary `train_agent` does the same with flags, progress and TensorBoard.

Run: python examples/train_policy.py
"""

import tempfile
from pathlib import Path

import numpy as np

from emoc_tf import agents
from emoc_tf.agents.learned import build_network, set_inputs
from emoc_tf.agents.policy_gradient import PolicyLearner, run_episode
from emoc_tf.envs import ActiveExplorationEnv


def main(updates: int = 3, episodes: int = 4, **settings) -> float:
    """Returns the test accuracy that the policy reaches on classes it was not learnt on.

    Args:
        updates: Of the policy.
        episodes: Of one seed in each update; each is compared with the others.
        **settings: Fields of `ExplorationConfig`.
    """
    settings = {"known_classes": 2, "novel_classes": 3, "reward": "area", **settings}
    env = ActiveExplorationEnv(classes="0-4", **settings)
    observation, _ = env.reset(seed=0)
    learner = PolicyLearner(build_network(set_inputs(observation).shape[1]))
    for seed in range(updates):
        group = [run_episode(env, learner.sample, seed) for _ in range(episodes)]
        learner.reinforce([group])
        reward = np.mean([episode.rewards.mean() for episode in group])
        print(f"update {seed + 1}: mean accuracy on the way {reward:.3f}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.keras"
        learner.network.save(path)
        agent = agents.make("learned", path=str(path))
    other_classes = ActiveExplorationEnv(classes="5-9", **settings)
    episode = run_episode(other_classes, lambda o: agent.act(o, other_classes.state), seed=0)
    print(f"on other classes: final accuracy {episode.info['test_accuracy']:.3f}")
    return episode.info["test_accuracy"]


if __name__ == "__main__":
    main()
