"""Steps an environment with a query policy and prints what each answer brings.

Run: python examples/step_with_agent.py
"""

import gymnasium as gym

import emoc_tf  # noqa: F401, registers the environments
from emoc_tf import agents


def main(policy: str = "1-vs-2", seed: int = 0, **settings) -> float:
    """Runs one episode on digits and returns the final test accuracy.

    Args:
        policy: One of `agents.names()`, with variants.
        seed: Of environment and policy.
        **settings: Fields of `ExplorationConfig`.
    """
    env = gym.make("emoc_tf/Digits-v0", render_mode="ansi", **settings)
    agent = agents.make(policy, seed=seed)
    observation, info = env.reset(seed=seed)
    print(env.render())
    over = False
    while not over:
        action = agent.act(observation, env.unwrapped.state)
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
        print(env.render())
    env.close()
    return info["test_accuracy"]


if __name__ == "__main__":
    main()
