"""The read-only view of an exploration that agents get."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from emoc_tf.exploration.pool import Pool

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True, eq=False)
class ExplorationState:
    """What a policy may know. All arrays are read-only; no true label can be reached from here.

    Axis letters: M candidate sets, K images a set, C outputs.

    Attributes:
        model: The current model; (n, H, W, channels) to (n, C) logits. Agents leave it as it is.
        pool: `pool.images` (n_pool, H, W, channels) as the model takes them, and `pool.labels`,
            the column of the model's output, −1 until asked.
        candidates: (M, K) int64 indices into `pool.images`, −1 as padding.
        candidate_mask: (M,) bool, which sets are real and may be chosen.
        probabilities: (n_pool, C) float32, softmax of the model's output.
        features: (n_pool, d) float32, the inputs of the model's head.
        known_classes: Class ids of the data set in output order: column j is known_classes[j].
        step: How many sets have been labelled so far.
        open_queries: How many sets somebody is being asked about, of which none is shown here.
    """

    model: keras.Model
    pool: Pool
    candidates: np.ndarray
    candidate_mask: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    known_classes: tuple[int, ...]
    step: int
    open_queries: int = 0

    @property
    def reference(self) -> np.ndarray:
        """The images x that the expected change runs over: all of the pool, labelled or not."""
        return self.pool.images
