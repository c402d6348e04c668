"""Keyed random streams: every draw is a function of (root, step, purpose).

No stream depends on how much another one was used, so policies that make different choices
still share candidate sets and mini-batches wherever their histories agree, and nothing has to
be saved but the root.
"""

import zlib

import gymnasium as gym
import numpy as np


def generator(root: int, step: int, purpose: str) -> np.random.Generator:
    """Returns the NumPy generator of one purpose at one step.

    Args:
        root: The episode's root, drawn in `reset(seed=)`; at least 0.
        step: The update step, at least 0.
        purpose: What the numbers are for, such as `"candidates"`.
    """
    return np.random.default_rng([root, step, zlib.crc32(purpose.encode())])


def device_seed(root: int, step: int, purpose: str) -> np.ndarray:
    """Returns the (2,) int32 seed for `tf.random.stateless_*` of one purpose at one step."""
    return generator(root, step, purpose).integers(2**31 - 1, size=2, dtype=np.int32)


def root_of(seed: int) -> int:
    """Returns the root of the episode that an environment's `reset(seed=seed)` begins."""
    return draw_root(gym.utils.seeding.np_random(seed)[0])


def draw_root(np_random: np.random.Generator) -> int:
    """Returns the root of an environment's next episode, from Gymnasium's generator."""
    return int(np_random.integers(2**62))
