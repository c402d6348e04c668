"""Scores of (image, label) pairs in chunks: memory bounded, shapes from a small set."""

import copy
from collections.abc import Callable, Iterable, Iterator
from typing import Self

import numpy as np
import tensorflow as tf

from emoc_tf.models.forward import batch_of
from emoc_tf.scoring.blocks import (
    Asked,
    Block,
    Kept,
    Piece,
    by_image,
    ceil,
    common,
    concatenated,
    finite,
    joined,
    padded,
    tensor_bytes,
)
from emoc_tf.scoring.changes import OutputChanges
from emoc_tf.scoring.checks import check_logits, refusals
from emoc_tf.scoring.gradients.kept import Gradients
from emoc_tf.scoring.gradients.stages import Factors
from emoc_tf.scoring.images import Images
from emoc_tf.scoring.selection import Sample

# Constants, never free memory: batches decide the order of summation, and equal seeds must give
# equal bits. The product is at its best with many rows of J and many pairs.
GRADIENT_BATCH = 128
REFERENCE_BATCH = 32
BLOCK = 2048
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

    # Whether all of them are computed, rather than those that a comparison of sets needs.
    costs_little = False
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
        self._kept: Kept | None = None
        self._held: tuple[Kept, Block] | None = None
        self._last: list[list[Factors]] | None = None

    def by(self, changes: OutputChanges) -> Self:
        """Returns the same pairs and reference images for other functions of the same model."""
        other = copy.copy(self)
        other._changes, other._kept, other._held, other._last = changes, None, None, None
        return other

    def means(self) -> np.ndarray:
        """Returns (1/N) Σ_x ‖J(x) g‖₁ of all pairs, (pairs,) float64: Eq. 4."""
        means = np.empty(self._count)
        for pairs in self.parts():
            blocks, total = self.blocks(pairs), np.zeros(len(pairs))
            for sums in self.sums(pairs, blocks, range(self.num_batches)):
                total += sums
            means[pairs] = self.means_of(pairs, blocks, total)
            del blocks  # not held while those of the next part are computed
        return finite(means)

    # What follows cuts `means` and `sample` into pieces, which give the same bits wherever they
    # are computed: shapes and the order of sums follow from pairs, images and budget alone.

    def parts(self) -> list[np.ndarray]:
        """Returns the pairs that meet all reference images together, part by part."""
        count = ceil(self._count, self._budget // 2 // self._pair_bytes)
        return np.array_split(np.arange(self._count), count)

    @property
    def num_batches(self) -> int:
        """In how many batches of reference images the sums of `means` are taken."""
        return ceil(len(self.reference), self._batch_size(self._budget // 2))

    def sums(self, pairs: np.ndarray, blocks: list[Block], batches: range) -> Iterator[np.ndarray]:
        """Yields Σ_x ‖J(x) g‖₁ over each batch of reference images, (pairs,) float64.

        Args:
            pairs: One of `parts`.
            blocks: Its `blocks`.
            batches: Which batches, one after the other.
        """
        room = self._budget // 2
        size = self._batch_size(room)
        rows = np.arange(batches.start * size, min(batches.stop * size, len(self.reference)))
        for images, real in self._batches(rows, room):
            jacobian, found = self._changes.jacobian(images), np.empty(len(pairs))
            for block in blocks:
                values = self._product(jacobian, block.gradients)[:real]
                sums = tf.reduce_sum(tf.cast(values, tf.float64), axis=0).numpy()
                found[np.searchsorted(pairs, block.pairs)] = sums
            yield found

    def means_of(self, pairs: np.ndarray, blocks: list[Block], total: np.ndarray) -> np.ndarray:
        """Returns the means of one of `parts`, by the total of its `sums`."""
        return total / len(self.reference)

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
        if control:
            self._last_of_reference()  # checked before the long work
        asked = self.asked(references, pairs, control)
        found = asked.nothing()
        for rows in self.slices(asked):
            jacobians = self.jacobians(asked, rows)
            for piece in self.pieces(asked, rows, jacobians):
                piece.put(found)
        return found._replace(changes=finite(found.changes))

    def asked(self, references: np.ndarray, pairs: np.ndarray, control: bool) -> Asked:
        """Returns what `sample` is asked for, and whether gradients are kept for the next call."""
        few = len(pairs) * self._pair_bytes <= self._budget // self._kept_share
        if len(pairs) > BLOCK or not few:
            return Asked(references, pairs, None, control)
        if self._kept is None or not np.isin(pairs, self._kept.rows).all():
            rows = np.concatenate([portion.ravel() for portion in self.portions(pairs)])
            self._kept = Kept(pairs, rows)
        elif 2 * len(pairs) <= len(self._kept.rows):
            rows = self._kept.rows
            self._kept = Kept(self._kept.born, rows[np.isin(rows, pairs)])
        return Asked(references, pairs, self._kept, control)

    def slices(self, asked: Asked) -> list[slice]:
        """Returns which of the reference images meet the gradients together."""
        quarter = self._budget // 4
        size = self._batch_size(quarter)
        if asked.kept is None:  # J of as many images as there is room for meets each batch
            size = max(size, quarter // (self._changes.num_classes * self._pair_bytes))
        count = len(asked.references)
        return [slice(start, min(start + size, count)) for start in range(0, count, size)]

    def jacobians(self, asked: Asked, rows: slice) -> list[tuple[Gradients, int]]:
        """Returns J of the reference images of a slice, batch by batch, and how many are real."""
        return [
            (self._changes.jacobian(images), real)
            for images, real in self._batches(asked.references[rows], self._budget // 4)
        ]

    def pieces(
        self,
        asked: Asked,
        rows: slice,
        jacobians: list[tuple[Gradients, int]],
        portions: Iterable[np.ndarray] | None = None,
    ) -> Iterator[Piece]:
        """Yields what a slice of reference images and some gradients give.

        Args:
            asked: What is asked for.
            rows: One of `slices`; the first one comes with the control variate.
            jacobians: Its `jacobians`.
            portions: Some of the `portions` of the pairs; None for all. No choice where gradients
                are kept.
        """
        last = self._last_of_reference() if asked.control and rows.start == 0 else []
        portions = self.portions(asked.pairs) if portions is None else portions
        blocks = map(self._block_of, portions) if asked.kept is None else [self._hold(asked.kept)]
        for block in blocks:
            wanted, here = common(asked.pairs, block.pairs)
            found = [self._product(j, block.gradients)[:real] for j, real in jacobians]
            yield Piece(rows, wanted, tf.concat(found, 0).numpy()[:, here])
            for part in block.parts(self._most_controls(last)) if last else ():
                wanted, here = common(asked.pairs, part.pairs)
                by_last = [self._last_product(j, part.gradients) for j in last]
                by_last = tf.concat(by_last, 0).numpy()[: len(self.reference), here]
                means = by_last.mean(axis=0, dtype=np.float64)
                yield Piece(None, wanted, by_last[asked.references], means)

    def _last_of_reference(self) -> list[list[Factors]]:
        """Returns what the last dense layers have of J on all reference images, or nothing."""
        if self._last is None:
            count = ceil(len(self.reference), batch_of(self.reference.shape))
            self.take_control(self.control_parts(range(count)))
        return self._last

    def control_parts(self, batches: range) -> list[list[Factors]]:
        """Returns what the last dense layers have of J on some reference images, batch by batch.

        They are found while the images' logits are checked, and kept if those of all images fit a
        quarter of the budget: nothing is returned otherwise.

        Args:
            batches: Of `batch_of` images, one after the other.
        """
        total, size, parts = len(self.reference), batch_of(self.reference.shape), []
        for start in [batch * size for batch in batches]:
            rows = np.arange(start, min(start + size, total))
            images = self.reference[padded(rows, size)]
            with refusals("reference"):
                logits, factors = self._changes.last(self._changes.tensor(images))
            check_logits(logits.numpy(), "reference")
            first = len(padded(np.arange(min(total, size)), size))
            all_bytes = ceil(total, size) * tensor_bytes(factors) * first // len(images)
            if 0 < all_bytes <= self._budget // 4:
                parts.append(factors)
        return parts

    def take_control(self, parts: list[list[Factors]]) -> None:
        """Takes what `control_parts` returned of all batches, in their order."""
        size = batch_of(self.reference.shape)
        together = max(1, LAST_ROWS // (size * self._changes.num_classes))
        groups = [parts[i : i + together] for i in range(0, len(parts), together)]
        self._last = [concatenated(group) for group in groups]

    def _most_controls(self, last: list[list[Factors]]) -> int:
        """Returns of how many pairs at once the control is known on all reference images.

        Its values, and a copy of them, take a quarter of the budget then.
        """
        size = tf.nest.flatten(last)[0].dtype.size
        return max(1, self._budget // 4 // (2 * size * len(self.reference)))

    def _hold(self, kept: Kept) -> Block:
        """Returns gradients that are kept: those of the last call, or a part of them, if there."""
        held, block = self._held or (None, None)
        if held is None or not np.array_equal(held.born, kept.born):
            self._held = held = block = None  # frees the memory before it is needed
            block = joined(self._gradients(kept.born))
        if len(block.pairs) != len(kept.rows):
            block = block.take(kept.rows)
        self._held = kept, block
        return block

    def blocks(self, pairs: np.ndarray) -> list[Block]:
        """Returns the gradients of some pairs in blocks for the product."""
        most = max(1, min(BLOCK, self._budget // 4 // self._pair_bytes))
        parts = np.array_split(pairs, ceil(len(pairs), most))
        return [joined(self._gradients(part)) for part in parts]

    def _gradients(self, pairs: np.ndarray) -> Iterator[Block]:
        """Yields the gradients of some pairs in batches, those of an image together."""
        return map(self._block_of, self.portions(pairs))

    def portions(self, pairs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the pairs whose gradients are computed together; some twice, to fill a batch."""
        size = self._budget // 4 // self._changes.gradient_bytes(self.images.shape[1:])
        return self._pair_batches(pairs, max(1, min(GRADIENT_BATCH, size)))

    def _block_of(self, batch: np.ndarray) -> Block:
        """Returns the gradients of one of `portions`."""
        labels = self._label_of[batch]
        return Block(batch.ravel(), self._changes.gradients(self._images_of(batch), labels))

    def _pair_batches(self, pairs: np.ndarray, size: int) -> Iterator[np.ndarray]:
        """Yields (B, L) pairs, L of an image in a row; B·L is at most `size`."""
        for group in by_image(pairs, self._image_of[pairs], size):
            count = size // group.shape[1]
            for start in range(0, len(group), count):
                yield padded(group[start : start + count], count)

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
            yield self._changes.tensor(self.reference[padded(batch, size)]), len(batch)
