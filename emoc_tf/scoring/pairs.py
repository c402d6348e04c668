"""Scores of (image, label) pairs in chunks: memory bounded, shapes from a small set."""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from emoc_tf.scoring.changes import OutputChanges
from emoc_tf.scoring.factors import Pairs

# Constants, never free memory: chunks decide the order of summation, and equal seeds must give
# equal bits.
GRADIENT_BATCH = 64


class PairScores:
    """Output changes of pairs (x', y') on reference images x.

    Args:
        changes: The compiled functions.
        memory_budget: Bytes that the gradients may take, half of them those of the pairs.
        reference: (N, ...) images x.
        images: (n, ...) images x'.
        image_of: (pairs,) index of each pair's image.
        label_of: (pairs,) column of each pair's label.
    """

    def __init__(
        self,
        changes: OutputChanges,
        memory_budget: int,
        reference: np.ndarray,
        images: np.ndarray,
        image_of: np.ndarray,
        label_of: np.ndarray,
    ) -> None:
        self._changes = changes
        self._reference, self._images = reference, images
        self._image_of, self._label_of = image_of, label_of
        half = memory_budget // 2
        self._pair_chunk = max(1, half // changes.pair_bytes)
        self._gradient_batch = min(GRADIENT_BATCH, self._pair_chunk)
        chunk = min(self._pair_chunk, len(image_of))
        self._reference_batch = min(GRADIENT_BATCH, max(1, half // changes.image_bytes(chunk)))
        self._kept: tuple[np.ndarray, Pairs] | None = None

    def means(self) -> np.ndarray:
        """Returns (1/N) Σ_x ‖J(x) g‖₁ of all pairs, (pairs,) float64: Eq. 4."""
        totals = []
        for chunk in self._chunks(np.arange(len(self._image_of))):
            pairs = self._gradients(chunk)
            total = tf.zeros([], tf.float64)
            for images, real in self._batches(self._reference, self._reference_batch):
                values = self._changes.changes(images, pairs)[:real]
                total += tf.reduce_sum(tf.cast(values, tf.float64), axis=0)
            totals.append(total[: len(chunk)])
        return tf.concat(totals, 0).numpy() / len(self._reference)

    def values(self, references: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Returns ‖J(x) g‖₁ of some pairs on some reference images, (m, p) float64.

        Args:
            references: (m,) indices.
            pairs: (p,) indices, ascending.
        """
        columns = []
        for chunk in self._chunks(pairs):
            gradients = self._take(chunk)
            rows = [
                self._changes.changes(images, gradients)[:real]
                for images, real in self._batches(
                    self._reference[references], self._reference_batch
                )
            ]
            columns.append(tf.concat(rows, 0)[:, : len(chunk)])
        return tf.concat(columns, 1).numpy().astype(np.float64)

    def _chunks(self, pairs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the indices in equal parts, as few as memory allows."""
        count = -(-len(pairs) // self._pair_chunk)
        size = -(-len(pairs) // count)
        size = min(self._pair_chunk, -(-size // self._gradient_batch) * self._gradient_batch)
        for start in range(0, len(pairs), size):
            yield pairs[start : start + size]

    def _gradients(self, pairs: np.ndarray) -> Pairs:
        """Returns g of some pairs; more follow at the end, which pad the last batch."""
        batches = [
            self._changes.gradients(images, tf.constant(labels, tf.int32))
            for images, labels in self._pair_batches(pairs)
        ]
        return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *batches)

    def _take(self, pairs: np.ndarray) -> Pairs:
        """Returns g of some pairs in their order, reusing those of the last call.

        In an elimination each call asks for some of the pairs of the one before, or for more.
        """
        known, gradients = self._kept or (pairs[:0], None)
        missing = np.setdiff1d(pairs, known)
        if len(known) + len(missing) > self._pair_chunk:
            known, gradients, missing = pairs[:0], None, pairs
        if len(missing):
            new = self._gradients(missing)
            if gradients is None:
                gradients = new
            else:
                gradients = tf.nest.map_structure(
                    lambda old, more: tf.concat([old[: len(known)], more], 0), gradients, new
                )
            known = np.concatenate([known, missing])
        if not np.array_equal(known, pairs):
            order = np.argsort(known)
            rows = tf.constant(order[np.searchsorted(known, pairs, sorter=order)])
            gradients = tf.nest.map_structure(lambda part: tf.gather(part, rows), gradients)
        self._kept = pairs, gradients
        return gradients

    def _pair_batches(self, pairs: np.ndarray) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for start in range(0, len(pairs), self._gradient_batch):
            batch = _padded(pairs[start : start + self._gradient_batch], self._gradient_batch)
            labels = tf.constant(self._label_of[batch], tf.int32)
            yield self._changes.tensor(self._images[self._image_of[batch]]), labels

    def _batches(self, images: np.ndarray, size: int) -> Iterator[tuple[tf.Tensor, int]]:
        """Yields batches and how many of their images are real; the others pad the tail."""
        for start in range(0, len(images), size):
            index = np.arange(start, min(start + size, len(images)))
            yield self._changes.tensor(images[_padded(index, size)]), len(index)


def _padded(index: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last index until the length is a power of two or `size`.

    Few shapes occur then, whatever N and n, and none is empty.
    """
    length = min(size, 1 << (len(index) - 1).bit_length())
    return np.pad(index, (0, length - len(index)), mode="edge")
