"""Gradients of pairs in blocks, and the pieces that output changes are computed in."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from emoc_tf.scoring.gradients.kept import Pairs
from emoc_tf.scoring.selection import Sample

MANY_PAIRS = 2048  # that are worth the tracing of a function for several labels an image


class Block(NamedTuple):
    """Gradients and the pair of each; where rows pad a batch, a pair is there again."""

    pairs: np.ndarray
    gradients: Pairs

    def take(self, pairs: np.ndarray) -> "Block":
        """Returns the part that belongs to some pairs."""
        return self._rows(np.flatnonzero(np.isin(self.pairs, pairs)))

    def parts(self, most: int) -> Iterator["Block"]:
        """Yields parts of at most so many gradients, the whole as it is if it is no larger."""
        if len(self.pairs) <= most:
            yield self
            return
        for rows in np.array_split(np.arange(len(self.pairs)), ceil(len(self.pairs), most)):
            yield self._rows(rows)

    def _rows(self, rows: np.ndarray) -> "Block":
        return Block(
            self.pairs[rows],
            tf.nest.map_structure(lambda part: tf.gather(part, rows), self.gradients),
        )


def joined(blocks: Iterable[Block]) -> Block:
    """Returns several blocks as one."""
    pairs, gradients = zip(*blocks, strict=True)
    return Block(np.concatenate(pairs), concatenated(gradients))


def concatenated(structures: Sequence):
    """Returns structures of tensors as one, joined along their first axes."""
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *structures)


def common(pairs: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where in ascending `pairs`, and where in `others`, what they share is."""
    place = np.minimum(np.searchsorted(pairs, others), len(pairs) - 1)
    here = np.flatnonzero(pairs[place] == others)
    return place[here], here


class Kept(NamedTuple):
    """Gradients that are kept from one call of `PairScores.sample` to the next.

    Attributes:
        born: The pairs whose gradients were computed at first.
        rows: The pair of each gradient that is left of these; some are there twice.
    """

    born: np.ndarray
    rows: np.ndarray


class Asked(NamedTuple):
    """What `PairScores.sample` is asked for.

    Attributes:
        references: (m,) indices of reference images.
        pairs: (p,) indices, ascending.
        kept: Whose gradients are kept; None where they are computed, used and dropped.
        control: Whether the control variate is asked for.
    """

    references: np.ndarray
    pairs: np.ndarray
    kept: Kept | None
    control: bool

    def nothing(self) -> Sample:
        """Returns arrays for what is to be found."""
        shape = len(self.references), len(self.pairs)
        return Sample(np.empty(shape), np.zeros(shape), np.zeros(shape[1]))


class Piece(NamedTuple):
    """A part of what is asked for.

    Attributes:
        rows: Which of the reference images; None for the control variate, of all of them.
        columns: Which of the pairs.
        values: Output changes or control variates, (rows, columns).
        means: (columns,) of the control variate over all reference images.
    """

    rows: slice | None
    columns: np.ndarray
    values: np.ndarray
    means: np.ndarray | None = None

    def put(self, found: Sample) -> None:
        """Writes it where it belongs."""
        if self.rows is not None:
            found.changes[self.rows, self.columns] = self.values
            return
        found.control[:, self.columns] = self.values
        found.control_mean[self.columns] = self.means


def _ceil(count: int, size: int) -> int:
    return -(-count // max(1, size))


def ceil(count: int, size: int) -> int:
    """Returns into how many parts of a size, at least 1, so many things go."""
    return -(-count // max(1, size))


def by_image(pairs: np.ndarray, image_of: np.ndarray, widest: int) -> Iterator[np.ndarray]:
    """Yields (images, L) arrays of pairs, L of an image in a row, for L = ..., 4, 2, 1.

    With powers of two few functions are traced. Tracing takes longer than some hundred forward
    passes, so L > 1 is for many pairs only.

    Args:
        pairs: (p,) indices.
        image_of: (p,) their images, ascending.
        widest: Greatest L.
    """
    _, start, count = np.unique(image_of, return_index=True, return_counts=True)
    for width in [1 << power for power in reversed(range(widest.bit_length()))]:
        enough = MANY_PAIRS if width > 1 else 1
        while width * np.count_nonzero(many := count >= width) >= enough:
            yield pairs[start[many, None] + np.arange(width)]
            start, count = start + width * many, count - width * many


def padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row until their number is a power of two or `size`.

    Few shapes occur then, whatever N and n, and none is empty.
    """
    length = min(size, 1 << (len(rows) - 1).bit_length())
    return rows[np.minimum(np.arange(length), len(rows) - 1)]


def tensor_bytes(tensors: Any) -> int:
    """Returns what a structure of tensors takes."""
    return sum(part.dtype.size * math.prod(part.shape) for part in tf.nest.flatten(tensors))


def finite(values: np.ndarray) -> np.ndarray:
    """Returns output changes as they are; raises `ValueError` where gradients overflow."""
    if not np.isfinite(values).all():
        raise ValueError(
            f"scores: expected finite output changes, got {values[~np.isfinite(values)][0]}; "
            f"gradients overflow"
        )
    return values
