"""The read-only view of an exploration that agents get."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from emoc_tf.exploration.pool import Pool

if TYPE_CHECKING:
    import keras

    from emoc_tf.models.trained_part import TrainedPart


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
        open_images: (n,) int64 indices into `pool.images` of the images in them, ascending.
        scoring: What scores are computed by, see `Exploration.scoring`; None for this process.
        update_seconds: What it took to learn the last set; None before, and after a break.
        part: What `trained_model` and `trained_inputs` are taken from; None without.

    Example:
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> env = ActiveExplorationEnv(known_classes=3, set_size=4, num_candidate_sets=8)
        >>> _ = env.reset(seed=0)
        >>> state = env.state
        >>> state.probabilities.shape, state.candidates.shape, len(state.known_classes)
        ((570, 3), (8, 4), 3)
        >>> len(state.pool.labelled)  # ten images of each known class
        30
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
    open_images: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    scoring: Any = dataclasses.field(default=None, repr=False)
    update_seconds: float | None = dataclasses.field(default=None, repr=False)
    part: TrainedPart | None = dataclasses.field(default=None, repr=False)

    @property
    def reference(self) -> np.ndarray:
        """The images x that the expected change runs over, all of the pool, labelled or not."""
        return self.pool.images

    @property
    def trained_model(self) -> keras.Model:
        """The model from its first trainable layer on; `model` where no frozen layers precede it.

        It has the outputs of the model, the gradients and the last layers; what it takes of the
        pool's images is `trained_inputs`, computed once an image.
        """
        return self.model if (part := self._current_part()) is None else part.model

    @property
    def trained_inputs(self) -> Any:
        """What `trained_model` takes of `pool.images`, (n_pool, ...), an array or array-like."""
        part = self._current_part()
        if part is None or part.model is self.model:
            return self.pool.images
        return part.inputs

    def _current_part(self) -> TrainedPart | None:
        """Returns the part, once it has seen what was changed by hand; None if it is of others."""
        if self.part is None or not self.part.is_of(self.model, self.pool.images):
            return None
        self.part.look()
        return self.part
