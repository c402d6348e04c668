"""The pool: all training images, and what has been asked about them."""

from typing import Any

import numpy as np

from emoc_tf.data.images import read_only
from emoc_tf.exploration.answers import REJECT, SKIP

UNLABELLED = SKIP


class Pool:
    """Training images with the labels known so far, as columns of the model's output.

    Attributes:
        images: (n_pool, H, W, channels) float32, as the model takes them; for pools on disk or
            larger than memory a view that reads what it is indexed with (`data.views.ImageView`).
        labels: (n_pool,) int64, column of the model's output, −1 until asked, −2 where rejected.

    Example:
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> env = ActiveExplorationEnv(known_classes=2, novel_classes=1, pool_per_class=20)
        >>> _ = env.reset(seed=0)
        >>> pool = env.state.pool
        >>> len(pool), len(pool.labelled), len(pool.unlabelled)
        (80, 20, 60)
        >>> pool.images[pool.unlabelled[:3]].shape
        (3, 8, 8, 1)
    """

    def __init__(self, images: Any) -> None:
        self.images = read_only(images) if isinstance(images, np.ndarray) else images
        self._labels = np.full(len(images), UNLABELLED, np.int64)
        self.labels = read_only(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    @property
    def labelled(self) -> np.ndarray:
        """Indices of the labelled images, ascending."""
        return np.flatnonzero(self._labels >= 0)

    @property
    def unlabelled(self) -> np.ndarray:
        """Indices of the images that can still be asked about, ascending."""
        return np.flatnonzero(self._labels == UNLABELLED)

    def label(self, indices: np.ndarray, columns: np.ndarray) -> None:
        """Enters labels; a label never changes.

        Args:
            indices: (k,) distinct indices of unlabelled images.
            columns: (k,) columns of the model's output, at least 0.

        Raises:
            ValueError: An image is labelled already or named twice, or a column is negative.
        """
        if len(np.unique(indices)) != len(indices):
            raise ValueError(f"indices: expected distinct ones, got {list(indices)}")
        asked = indices[self._labels[indices] != UNLABELLED]
        if asked.size:
            raise ValueError(f"indices: expected unlabelled images, got labelled {list(asked)}")
        if np.min(columns, initial=0) < 0:
            raise ValueError(f"columns: expected at least 0, got {np.min(columns)}")
        self._labels[indices] = columns

    def set_labels(self, columns: np.ndarray) -> None:
        """Takes over what a book of answers says, (n_pool,) columns, −1 or −2.

        Raises:
            ValueError: There is a column for more or fewer images, or another number.
        """
        if columns.shape != self._labels.shape or columns.min(initial=0) < REJECT:
            raise ValueError(
                f"columns: expected ({len(self)},) of at least {REJECT}, got {columns.shape}"
            )
        self._labels[:] = columns

    def snapshot(self) -> "Pool":
        """Returns a pool of its own with the same images that later labels do not reach."""
        copy = Pool(self.images)
        copy._labels[:] = self._labels
        copy._labels.flags.writeable = False  # `label` on the copy fails as well
        return copy
