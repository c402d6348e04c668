"""An episode that is stopped in the middle and is resumed elsewhere, as if there had been no break.

Writes episode.npz. Run: python examples/resume_later.py
"""

import gymnasium as gym
import numpy as np

import emoc_tf  # noqa: F401, registers the environments
from emoc_tf import agents

agent = agents.make("1-vs-2", seed=0)


def steps(env, observation, count):
    """Steps with the policy; returns the accuracies."""
    accuracies = []
    for _ in range(count):
        observation, _, _, _, info = env.step(agent.act(observation, env.unwrapped.state))
        accuracies.append(info["test_accuracy"])
    return accuracies


def main(path="episode.npz", **settings):
    """Compares an episode with one that was stopped after two of four steps."""
    env = gym.make("emoc_tf/Digits-v0", **settings)
    observation, _ = env.reset(seed=0)
    without_break = steps(env, observation, 4)

    observation, _ = env.reset(seed=0)
    first = steps(env, observation, 2)
    env.unwrapped.save().write(path)  # model, momentum, labels, random root, outcomes so far

    later = gym.make("emoc_tf/Digits-v0", **settings)  # in another process, for example
    observation, _ = later.reset(options={"checkpoint": path})
    np.testing.assert_array_equal(first + steps(later, observation, 2), without_break)
    print("accuracies, equal bit for bit:", without_break)


if __name__ == "__main__":
    main()
