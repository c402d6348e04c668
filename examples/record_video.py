"""Records an episode as a video: the images of each set with their label, curves, classes.

Needs the extra `video`. Run: python examples/record_video.py
"""

import gymnasium as gym

import emoc_tf  # noqa: F401, registers the environments
from emoc_tf import agents


def main(folder: str = "videos", policy: str = "1-vs-2", **settings) -> None:
    """Writes `folder`/rl-video-episode-0.mp4.

    Args:
        folder: Made if it is not there.
        policy: One of `agents.names()`, with variants.
        **settings: Fields of `ExplorationConfig`.
    """
    env = gym.make("emoc_tf/Digits-v0", render_mode="rgb_array", **settings)
    env = gym.wrappers.RecordVideo(env, folder, disable_logger=True)
    agent = agents.make(policy, seed=0)
    observation, _ = env.reset(seed=0)
    over = False
    while not over:
        action = agent.act(observation, env.unwrapped.state)
        observation, _, terminated, truncated, _ = env.step(action)
        over = terminated or truncated
    env.close()  # writes the file


if __name__ == "__main__":
    main()
