"""Scores of (image, label) pairs in chunks: memory bounded, shapes from a small set."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Self

import numpy as np
import tensorflow as tf

from emoc_tf.models.forward import FORWARD_BATCH
from emoc_tf.scoring.changes import OutputChanges
from emoc_tf.scoring.checks import check_logits, refusals
from emoc_tf.scoring.gradients.kept import Pairs
from emoc_tf.scoring.gradients.stages import Factors
from emoc_tf.scoring.images import Images
from emoc_tf.scoring.selection import Sample

# Constants, never free memory: batches decide the order of summation, and equal seeds must give
# equal bits. The product is at its best with many rows of J and many pairs.
GRADIENT_BATCH = 128
REFERENCE_BATCH = 32
BLOCK = 2048
MANY_PAIRS = 2048  # that are worth the tracing of a function for several labels an image
LAST_ROWS = 10_240  # of J, cut down to the last dense layers, that meet pairs together


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

    _kept_share = 8  # gradients are kept if they take no more than this part of the budget

    def __init__(
        self,
        changes: OutputChanges,
        memory_budget: int,
        reference: Images,
        images: Images,
        image_of: np.ndarray,
        label_of: np.ndarray,
    ) -> None:
        self._changes = changes
        self._budget = memory_budget
        self.reference, self.images = reference, images
        self._image_of, self._label_of = image_of, label_of
        self._count = len(image_of)
        self._kept: Block | None = None
        self._last: list[list[Factors]] | None = None

    def by(self, changes: OutputChanges) -> Self:
        """Returns the same pairs and reference images for other functions of the same model."""
        other = copy.copy(self)
        other._changes, other._kept, other._last = changes, None, None
        return other

    def means(self) -> np.ndarray:
        """Returns (1/N) Σ_x ‖J(x) g‖₁ of all pairs, (pairs,) float64: Eq. 4."""
        pairs, half = np.arange(self._count), self._budget // 2
        means = np.empty(len(pairs))
        for part in np.array_split(pairs, _ceil(len(pairs), half // self._pair_bytes)):
            blocks = list(self._blocks(part))
            totals = [tf.zeros([], tf.float64) for _ in blocks]
            for images, real in self._batches(np.arange(len(self.reference)), half):
                jacobian = self._changes.jacobian(images)
                for index, block in enumerate(blocks):
                    values = self._product(jacobian, block.gradients)[:real]
                    totals[index] += tf.reduce_sum(tf.cast(values, tf.float64), axis=0)
            for block, total in zip(blocks, totals, strict=True):
                means[block.pairs] = total.numpy() / len(self.reference)
        return finite(means)

    def sample(self, references: np.ndarray, pairs: np.ndarray, control: bool = True) -> Sample:
        """Returns the output changes of some pairs on some reference images.

        Gradients of few pairs are kept for the next call: in an elimination each call asks for
        some of the pairs of the one before. Those of many pairs are computed, used and dropped
        batch by batch: to compute some of them again costs less than to hold all of them.

        Args:
            references: (m,) indices.
            pairs: (p,) indices, ascending.
            control: Whether the control variate is found too; zeros otherwise.
        """
        last, kept = self._last_of_reference() if control else [], self._keep(pairs)
        changes = np.empty((len(references), len(pairs)))
        controls, control_mean = np.zeros_like(changes), np.zeros(len(pairs))
        quarter = self._budget // 4
        size = self._batch_size(quarter)
        if kept is None:  # J of as many images as there is room for meets each batch of gradients
            size = max(size, quarter // (self._changes.num_classes * self._pair_bytes))
        for start in range(0, len(references), size):
            rows = slice(start, start + size)
            jacobians = [
                (self._changes.jacobian(images), real)
                for images, real in self._batches(references[rows], quarter)
            ]
            for block in self._gradients(pairs) if kept is None else [kept]:
                wanted, here = _common(pairs, block.pairs)
                found = [self._product(j, block.gradients)[:real] for j, real in jacobians]
                changes[rows, wanted] = tf.concat(found, 0).numpy()[:, here]
                if start == 0 and last:
                    for part in block.parts(self._most_controls(last)):
                        wanted, here = _common(pairs, part.pairs)
                        by_last = [self._last_product(j, part.gradients) for j in last]
                        by_last = tf.concat(by_last, 0).numpy()[: len(self.reference), here]
                        controls[:, wanted] = by_last[references]
                        control_mean[wanted] = by_last.mean(axis=0, dtype=np.float64)
        return Sample(finite(changes), controls, control_mean)

    def _last_of_reference(self) -> list[list[Factors]]:
        """Returns what the last dense layers have of J on all reference images, or nothing.

        They are found once, while the logits of all reference images are checked, and kept if
        they fit a quarter of the budget.
        """
        if self._last is None:
            parts: list[list[Factors]] = []
            fits: bool | None = None
            for start in range(0, len(self.reference), FORWARD_BATCH):
                rows = np.arange(start, min(start + FORWARD_BATCH, len(self.reference)))
                images = self.reference[_padded(rows, FORWARD_BATCH)]
                with refusals("reference"):
                    logits, factors = self._changes.last(self._changes.tensor(images))
                check_logits(logits.numpy(), "reference")
                if fits is None:  # told by the first: nothing is held in vain
                    count = _ceil(len(self.reference), FORWARD_BATCH)
                    fits = 0 < count * _bytes(factors) <= self._budget // 4
                if fits:
                    parts.append(factors)
            together = max(1, LAST_ROWS // (FORWARD_BATCH * self._changes.num_classes))
            groups = [parts[i : i + together] for i in range(0, len(parts), together)]
            self._last = [_concatenated(group) for group in groups] if fits else []
        return self._last

    def _most_controls(self, last: list[list[Factors]]) -> int:
        """Returns of how many pairs at once the control is known on all reference images.

        Its values, and a copy of them, take a quarter of the budget then.
        """
        size = tf.nest.flatten(last)[0].dtype.size
        return max(1, self._budget // 4 // (2 * size * len(self.reference)))

    def _keep(self, pairs: np.ndarray) -> "Block | None":
        """Returns the gradients of few pairs, and maybe of more, from the last call's if there."""
        if len(pairs) > BLOCK or len(pairs) * self._pair_bytes > self._budget // self._kept_share:
            return None
        if self._kept is None or not np.isin(pairs, self._kept.pairs).all():
            self._kept = None  # frees the memory before it is needed
            self._kept = _joined(self._gradients(pairs))
        elif 2 * len(pairs) <= len(self._kept.pairs):
            self._kept = self._kept.take(pairs)
        return self._kept

    def _blocks(self, pairs: np.ndarray) -> Iterator["Block"]:
        """Yields the gradients of some pairs in blocks for the product."""
        most = max(1, min(BLOCK, self._budget // 4 // self._pair_bytes))
        for part in np.array_split(pairs, _ceil(len(pairs), most)):
            yield _joined(self._gradients(part))

    def _gradients(self, pairs: np.ndarray) -> Iterator["Block"]:
        """Yields the gradients of some pairs in batches, those of an image together."""
        size = self._budget // 4 // self._changes.gradient_bytes(self.images.shape[1:])
        size = max(1, min(GRADIENT_BATCH, size))
        for batch, labels in self._pair_batches(pairs, size):
            yield Block(batch.ravel(), self._changes.gradients(self._images_of(batch), labels))

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
        return self._changes.tensor(self.images[self._image_of[batch[:, 0]]])

    @property
    def _pair_bytes(self) -> int:
        return self._changes.pair_bytes

    @property
    def _product(self) -> Callable[..., tf.Tensor]:
        return self._changes.changes

    @property
    def _last_product(self) -> Callable[..., tf.Tensor]:
        return self._changes.last_changes

    @property
    def _jacobian_bytes(self) -> int:
        return self._changes.jacobian_bytes(self.reference.shape[1:], BLOCK)

    def _batch_size(self, room: int) -> int:
        return max(1, min(REFERENCE_BATCH, room // self._jacobian_bytes))

    def _batches(self, references: np.ndarray, room: int) -> Iterator[tuple[tf.Tensor, int]]:
        """Yields batches of reference images and how many are real; the others pad the tail."""
        size = self._batch_size(room)
        for start in range(0, len(references), size):
            batch = references[start : start + size]
            yield self._changes.tensor(self.reference[_padded(batch, size)]), len(batch)


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
        for rows in np.array_split(np.arange(len(self.pairs)), _ceil(len(self.pairs), most)):
            yield self._rows(rows)

    def _rows(self, rows: np.ndarray) -> "Block":
        return Block(
            self.pairs[rows],
            tf.nest.map_structure(lambda part: tf.gather(part, rows), self.gradients),
        )


def _joined(blocks: Iterable[Block]) -> Block:
    pairs, gradients = zip(*blocks, strict=True)
    return Block(np.concatenate(pairs), _concatenated(gradients))


def _concatenated(structures: Sequence):
    return tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *structures)


def _common(pairs: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns where in ascending `pairs`, and where in `others`, what they share is."""
    place = np.minimum(np.searchsorted(pairs, others), len(pairs) - 1)
    here = np.flatnonzero(pairs[place] == others)
    return place[here], here


def _bytes(tensors: list[Factors]) -> int:
    return sum(part.dtype.size * math.prod(part.shape) for part in tf.nest.flatten(tensors))


def finite(values: np.ndarray) -> np.ndarray:
    """Returns output changes as they are; raises `ValueError` where gradients overflow."""
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


def _padded(rows: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row until their number is a power of two or `size`.

    Few shapes occur then, whatever N and n, and none is empty.
    """
    length = min(size, 1 << (len(rows) - 1).bit_length())
    return rows[np.minimum(np.arange(length), len(rows) - 1)]
