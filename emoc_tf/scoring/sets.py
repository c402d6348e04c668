"""Scores of sets by their joint gradient, ‖J(x) Σ_k g(x_k, ŷ)‖₁, in chunks of bounded memory."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from scipy import sparse

from emoc_tf.scoring.blocks import Block
from emoc_tf.scoring.changes import OutputChanges
from emoc_tf.scoring.gradients.sums import Adder, sum_bytes
from emoc_tf.scoring.images import Images
from emoc_tf.scoring.pairs import BLOCK, LAST_ROWS, PairScores


class SetScores(PairScores):
    """Output changes of sets of pairs (x', y') on reference images x, a column a set.

    Args:
        changes: The compiled functions.
        memory_budget: Bytes that gradients may take.
        reference: (N, ...) images x.
        images: (n, ...) images x'.
        image_of: (pairs,) index of each pair's image, ascending.
        label_of: (pairs,) column of each pair's label.
        members: (sets, pairs) how often each pair is in each set; no set is empty.
    """

    _kept_share = 4

    def __init__(
        self,
        changes: OutputChanges,
        memory_budget: int,
        reference: Images,
        images: Images,
        image_of: np.ndarray,
        label_of: np.ndarray,
        members: sparse.csr_array,
    ) -> None:
        super().__init__(changes, memory_budget, reference, images, image_of, label_of)
        self._members, self._count = members, members.shape[0]
        self._most = int(np.diff(members.indptr).max())

    def portions(self, pairs: np.ndarray) -> Iterator[np.ndarray]:
        """Yields the sets whose joint gradients are computed together, where there is room."""
        size = max(1, self._budget // 4 // self._pair_bytes)
        for start in range(0, len(pairs), size):
            yield pairs[start : start + size]

    def _block_of(self, batch: np.ndarray) -> Block:
        """Returns the joint gradients of one of `portions`.

        A pair that is in sets of several of them is computed for each.
        """
        together = max(1, self._budget // 8 // self._changes.pair_bytes)
        adder = Adder(self._changes.factors, self._changes.dtype, self._members[batch], self._most)
        used = np.unique(self._members[batch].indices)
        of_pairs = super()
        for first in range(0, len(used), together):
            portions = of_pairs.portions(used[first : first + together])
            blocks = list(map(of_pairs._block_of, portions))
            found = np.concatenate([block.pairs for block in blocks])
            adder.add(found, [block.gradients for block in blocks])
        return Block(batch, adder.result())

    def _most_controls(self, last: list) -> int:
        most = super()._most_controls(last)
        size = tf.nest.flatten(last)[0].dtype.size
        # Each member of a set meets all rows of J that go together, before the sum is taken.
        return max(1, min(most, self._budget // 4 // (2 * size * LAST_ROWS * self._most)))

    @property
    def _pair_bytes(self) -> int:
        return sum_bytes(self._changes.factors, self._changes.dtype, self._most)

    @property
    def _product(self) -> Callable[..., tf.Tensor]:
        return self._changes.sum_changes

    @property
    def _last_product(self) -> Callable[..., tf.Tensor]:
        return self._changes.last_sum_changes

    @property
    def _jacobian_bytes(self) -> int:
        members = min(BLOCK, self._count) * self._most
        return self._changes.jacobian_bytes(self.reference.shape[1:], members)
