"""Scores of (image, label) pairs in chunks: memory bounded, shapes from a small set."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from emoc_tf.scoring.changes import OutputChanges
from emoc_tf.scoring.factors import Pairs

# Constants, never free memory: batches decide the order of summation, and equal seeds must give
# equal bits. The product is at its best with many rows of J and many pairs.
GRADIENT_BATCH = 64
REFERENCE_BATCH = 64
BLOCK = 2048


class PairScores:
    """Output changes of pairs (x', y') on reference images x.

    Args:
        changes: The compiled functions.
        memory_budget: Bytes that gradients may take.
        reference: (N, ...) images x.
        images: (n, ...) images x'.
        image_of: (pairs,) index of each pair's image, ascending.
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
        self._budget = memory_budget
        self._reference, self._images = reference, images
        self._image_of, self._label_of = image_of, label_of
        self._kept: list[Block] = []

    def means(self) -> np.ndarray:
        """Returns (1/N) Σ_x ‖J(x) g‖₁ of all pairs, (pairs,) float64: Eq. 4."""
        pairs, half = np.arange(len(self._image_of)), self._budget // 2
        means = np.empty(len(pairs))
        for part in np.array_split(pairs, _ceil(len(pairs), half // self._changes.pair_bytes)):
            blocks = list(self._blocks(part))
            totals = [tf.zeros([], tf.float64) for _ in blocks]
            for images, real in self._batches(np.arange(len(self._reference)), half):
                jacobian = self._changes.jacobian(images)
                for index, block in enumerate(blocks):
                    values = self._changes.changes(jacobian, block.gradients)[:real]
                    totals[index] += tf.reduce_sum(tf.cast(values, tf.float64), axis=0)
            for block, total in zip(blocks, totals, strict=True):
                means[block.pairs] = total.numpy() / len(self._reference)
        return _finite(means)

    def values(self, references: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Returns ‖J(x) g‖₁ of some pairs on some reference images, (m, p).

        Gradients are kept for the next call where they fit: in an elimination each call asks for
        some of the pairs of the one before. Otherwise they are computed anew for each batch of
        reference images.

        Args:
            references: (m,) indices.
            pairs: (p,) indices, ascending.
        """
        quarter = self._budget // 4
        fits = len(pairs) * self._changes.pair_bytes <= 3 * quarter
        self._kept = self._keep(pairs) if fits else []
        rows = []
        for images, real in self._batches(references, quarter):
            jacobian = self._changes.jacobian(images)
            found = [
                (block.pairs, self._changes.changes(jacobian, block.gradients)[:real])
                for block in self._kept or self._blocks(pairs)
            ]
            columns = np.concatenate([index for index, _ in found])
            rows.append(tf.concat([values for _, values in found], axis=1))
        order = np.argsort(columns, kind="stable")
        chosen = order[np.searchsorted(columns, pairs, sorter=order)]
        return _finite(tf.concat(rows, 0).numpy()[:, chosen])

    def _keep(self, pairs: np.ndarray) -> list["Block"]:
        """Returns the gradients of some pairs, and maybe of more, from the last call's if there."""
        known = np.concatenate([pairs[:0], *(block.pairs for block in self._kept)])
        if not np.isin(pairs, known).all():
            self._kept = []  # frees the memory before it is needed
            return list(self._blocks(pairs))
        if len(pairs) > len(known) // 2:
            return self._kept
        for index, block in enumerate(self._kept):
            self._kept[index] = block.take(pairs)  # one by one: the old one goes
        joined = np.concatenate([block.pairs for block in self._kept])
        if len(joined) > BLOCK:
            return self._kept
        parts = [block.gradients for block in self._kept]
        return [Block(joined, tf.nest.map_structure(lambda *part: tf.concat(part, 0), *parts))]

    def _blocks(self, pairs: np.ndarray) -> Iterator["Block"]:
        """Yields the gradients of some pairs, those of an image from one forward pass."""
        quarter = self._budget // 4
        most = max(1, min(BLOCK, quarter // self._changes.pair_bytes))
        size = quarter // self._changes.gradient_bytes(self._images.shape[1:])
        size = max(1, min(GRADIENT_BATCH, most, size))
        for part in np.array_split(pairs, _ceil(len(pairs), most)):
            batches = [
                Block(batch.ravel(), self._changes.gradients(self._images_of(batch), labels))
                for batch, labels in self._pair_batches(part, size)
            ]
            gradients = [batch.gradients for batch in batches]
            yield Block(
                np.concatenate([batch.pairs for batch in batches]),
                tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *gradients),
            )

    def _pair_batches(
        self, pairs: np.ndarray, size: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yields (B, L) pairs, L of an image in a row, and their labels; B·L is at most `size`."""
        for group in _by_image(pairs, self._image_of[pairs], size):
            count = size // group.shape[1]
            for start in range(0, len(group), count):
                batch = _padded(group[start : start + count], count)
                yield batch, self._label_of[batch]

    def _images_of(self, batch: np.ndarray) -> tf.Tensor:
        return self._changes.tensor(self._images[self._image_of[batch[:, 0]]])

    def _batches(self, references: np.ndarray, room: int) -> Iterator[tuple[tf.Tensor, int]]:
        """Yields batches of reference images and how many are real; the others pad the tail."""
        size = room // self._changes.jacobian_bytes(self._reference.shape[1:], BLOCK)
        size = max(1, min(REFERENCE_BATCH, size))
        for start in range(0, len(references), size):
            batch = references[start : start + size]
            yield self._changes.tensor(self._reference[_padded(batch, size)]), len(batch)


class Block(NamedTuple):
    """Gradients and the pair of each; where rows pad a batch, a pair is there again."""

    pairs: np.ndarray
    gradients: Pairs

    def take(self, pairs: np.ndarray) -> "Block":
        """Returns the part that belongs to some pairs."""
        rows = np.flatnonzero(np.isin(self.pairs, pairs))
        return Block(
            self.pairs[rows],
            tf.nest.map_structure(lambda part: tf.gather(part, rows), self.gradients),
        )


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError(
            f"scores: expected finite output changes, got {values[~np.isfinite(values)][0]}; "
            f"gradients overflow"
        )
    return values


def _ceil(count: int, size: int) -> int:
    return -(-count // max(1, size))


def _by_image(pairs: np.ndarray, image_of: np.ndarray, widest: int) -> Iterator[np.ndarray]:
    """Yields (images, L) arrays of pairs, L of an image in a row, for L = ..., 4, 2, 1.

    With powers of two few functions are traced, whatever the number of labels.

    Args:
        pairs: (p,) indices.
        image_of: (p,) their images, ascending.
        widest: Greatest L.
    """
    _, start, count = np.unique(image_of, return_index=True, return_counts=True)
    for width in [1 << power for power in reversed(range(widest.bit_length()))]:
        while (many := count >= width).any():
            yield pairs[start[many, None] + np.arange(width)]
            start, count = start + width * many, count - width * many


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row until their number is a power of two or `size`.

    Few shapes occur then, whatever N and n, and none is empty.
    """
    length = min(size, 1 << (len(rows) - 1).bit_length())
    return rows[np.minimum(np.arange(length), len(rows) - 1)]
