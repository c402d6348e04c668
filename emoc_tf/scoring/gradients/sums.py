"""Gradients added up over sets, so that a product with J has a column a set and not a pair."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from scipy import sparse

from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.kept import Pairs, Sums
from emoc_tf.scoring.gradients.per_example import GradientFactors

# Columns of gradients that are added up together: rows of so many stay in a processor's cache.
COLUMNS = 2048


def sum_bytes(factors: GradientFactors, dtype: tf.DType, members: int) -> int:
    """Returns what the sum of a set takes.

    Args:
        factors: The model's gradients.
        dtype: Of their explicit part.
        members: K, the most pairs of a set.
    """
    kept = sum(
        contractions.kept_floats(*shape) * (1 if shape[0] == "apply" else members)
        for shape in factors.factored
    )
    return max(1, factors.explicit_size * dtype.size + kept * factors.dtype.size)


class Adder:
    """Adds gradients up over sets as they come.

    Args:
        factors: The model's gradients.
        dtype: Of their explicit part in the sums; added in float32 where it is narrower.
        weights: (m, p) how often each pair is in each set.
        members: K, at least the most pairs of a set.
    """

    def __init__(
        self, factors: GradientFactors, dtype: tf.DType, weights: sparse.csr_array, members: int
    ) -> None:
        self._kinds = [contraction for contraction, _, _ in factors.factored]
        self._dtype, self._real = dtype, factors.dtype.as_numpy_dtype
        self._wide = tf.float32 if dtype.size < 4 else dtype
        self._weights, self._members = weights.tocsc(), members
        self._explicit = np.zeros(
            (weights.shape[0], factors.explicit_size), self._wide.as_numpy_dtype
        )
        self._applied: dict[int, np.ndarray] = {}
        self._found: list[tuple[np.ndarray, list[tuple[tf.Tensor, ...]]]] = []

    def add(self, pairs: np.ndarray, gradients: Sequence[Pairs]) -> None:
        """Adds the gradients of some pairs to the sets that they are in.

        Args:
            pairs: (b,) columns of the weights, those that come again ignored; each must be given
                in one call only.
            gradients: Theirs, in parts.
        """
        pairs, first = np.unique(pairs, return_index=True)
        own = self._weights[:, pairs].tocsr()
        explicit = np.concatenate([tf.cast(g.explicit, self._wide).numpy() for g in gradients])
        _add(self._explicit, own, explicit, first)
        kept = []
        for place, kind in enumerate(self._kinds):
            parts = zip(*(g.factored[place] for g in gradients), strict=True)
            whole = tuple(np.concatenate([each.numpy() for each in part]) for part in parts)
            if kind != "apply":
                kept.append(tuple(part[first] for part in whole))
                continue
            flat = whole[0].reshape(len(whole[0]), -1)
            if place not in self._applied:
                self._applied[place] = np.zeros((own.shape[0], flat.shape[1]), flat.dtype)
            _add(self._applied[place], own, flat, first)
            kept.append(whole[0].shape[1:])
        self._found.append((pairs, kept))

    def result(self) -> Sums:
        """Returns the sums once all pairs were added."""
        weights = self._weights.tocsr()
        weights.sort_indices()
        place = np.zeros(weights.shape[1], np.int64)
        place[np.concatenate([pairs for pairs, _ in self._found])] = np.arange(
            sum(len(pairs) for pairs, _ in self._found)
        )
        # (m, K): which of the pairs found each member is, and how often it counts.
        sets = np.repeat(np.arange(weights.shape[0]), np.diff(weights.indptr))
        member = np.arange(weights.nnz) - weights.indptr[sets]
        rows = np.zeros((weights.shape[0], self._members), np.int64)
        times = np.zeros(rows.shape, self._real)
        rows[sets, member], times[sets, member] = place[weights.indices], weights.data
        factored = []
        for index, kind in enumerate(self._kinds):
            if kind == "apply":
                shape = self._found[0][1][index]
                factored.append((tf.constant(self._applied[index].reshape(-1, *shape)),))
                continue
            parts = zip(*(kept[index] for _, kept in self._found), strict=True)
            inputs, deltas = (np.concatenate(part)[rows] for part in parts)
            factored.append((tf.constant(inputs), tf.constant(deltas * times[..., None, None])))
        counts = tf.constant(times.sum(axis=1))
        return Sums(tf.cast(tf.constant(self._explicit), self._dtype), factored, counts)


def _add(
    total: np.ndarray, weights: sparse.csr_array, values: np.ndarray, rows: np.ndarray
) -> None:
    """Adds weights · values[rows] to a total, some columns at a time."""
    weights = weights.astype(values.dtype)
    for start in range(0, total.shape[1], COLUMNS):
        part = slice(start, start + COLUMNS)
        total[:, part] += weights @ np.ascontiguousarray(values[rows, part])
