"""A pool larger than memory: a memory-mapped array is read where it is needed, never as a whole.

Run: python examples/memory_map.py
"""

import tempfile
from pathlib import Path

import numpy as np

from emoc_tf import Task, agents
from emoc_tf.envs import ActiveExplorationEnv

SHAPE = (32, 32, 3)


def write_pool(path: Path, count: int) -> np.ndarray:
    """Writes coloured noise of five classes, some images at a time, and returns the classes."""
    rng = np.random.default_rng(0)
    truth = rng.integers(5, size=count)
    pool = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *SHAPE))
    for start in range(0, count, 1000):
        part = truth[start : start + 1000]
        colours = 40 + 40 * np.stack([part, 4 - part, part % 2], axis=1)
        noise = rng.integers(60, size=(len(part), *SHAPE))
        pool[start : start + 1000] = np.minimum(colours[:, None, None] + noise, 255)
    pool.flush()
    return truth


class Labels:
    """Answers from labels."""

    def __init__(self, truth: np.ndarray) -> None:
        self._truth = truth

    def label(self, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the classes of some images."""
        return self._truth[indices]


def main(count: int = 20_000, **settings) -> dict:
    """Answers three sets of a pool on the disk, and returns the last info."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pool.npy"
        truth = write_pool(path, count)
        images = np.load(path, mmap_mode="r")
        labels = np.full(count, -1)
        labels[:50] = truth[:50]
        task = Task(images, labels, ["one", "two", "three", "four", "five"])
        settings = {"max_steps": 3, "num_candidate_sets": 20, **settings}
        env = ActiveExplorationEnv(task=task, oracle=Labels(truth), **settings)
        agent = agents.make("emoc:references=256", seed=0)
        observation, info = env.reset(seed=0)
        over = False
        while not over:
            action = agent.act(observation, env.state)
            observation, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
            print(f"{info['labelled']} labelled, {info['answer_accuracy']:.2f} were predicted")
    return info


if __name__ == "__main__":
    main()
