"""Reference images, at which a policy looks for change: all of the pool, or some of them."""

from typing import Any

import numpy as np

from emoc_tf.agents.agent import Agent
from emoc_tf.data import views
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.scoring.checks import is_integer


def check_references(references: Any) -> int | None:
    """Returns how many reference images are drawn at each step; None for all.

    Raises:
        ValueError: It is no integer above 0.
    """
    if references is not None and (not is_integer(references) or references < 1):
        raise ValueError(f"references: expected an integer above 0, got {references!r}")
    return None if references is None else int(references)


def reference_rows(
    agent: Agent, state: ExplorationState, references: int | None
) -> np.ndarray | None:
    """Returns the pool indices of a step's reference images, all different; None for all.

    Args:
        agent: Whose seed they are drawn by.
        state: With the pool.
        references: How many; None, or as many as there are, for all.
    """
    count = len(state.reference)
    if references is None or references >= count:
        return None
    return agent.rng(state, "reference images").choice(count, references, replace=False)


def some(images: np.ndarray | views.ImageView, rows: np.ndarray) -> np.ndarray | views.ImageView:
    """Returns some images; thousands of a pool larger than memory are not read at once."""
    return images[rows] if views.in_memory(images) else views.ImageView(images, rows)
