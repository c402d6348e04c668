"""Candidate sets that hold images of one group each."""

import itertools
import math
from collections.abc import Sequence

import numpy as np

PADDING = -1


def sample(
    rng: np.random.Generator,
    indices: np.ndarray,
    groups: np.ndarray,
    num_sets: int,
    set_size: int,
    small: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws candidate sets: a group uniformly among those with K images left, then K of them.

    Sets are drawn independently, so that near a group's end some may be alike. Only where fewer
    than M different sets can be formed at all is each of them given once, and where single images
    are asked for and there are M at most.

    Args:
        rng: The generator to draw from.
        indices: (n,) pool indices of the unlabelled images.
        groups: (n,) group of each.
        num_sets: M.
        set_size: K.
        small: Groups that give a set of all they have where that is fewer than K; None for none.

    Returns:
        sets (M, K) int64 pool indices, ascending in each set; and mask (M,) bool, which sets are
        real. The others are −1 and come last; if no group has K images, all are.
    """
    sets, mask = np.full((num_sets, set_size), PADDING, np.int64), np.zeros(num_sets, bool)
    whole = set() if small is None else set(small.tolist())
    order = np.argsort(groups, kind="stable")
    names, counts = np.unique(groups, return_counts=True)
    parts = np.split(indices[order], np.cumsum(counts))[:-1]
    members = [
        np.sort(part)
        for name, part in zip(names, parts, strict=True)
        if len(part) >= set_size or int(name) in whole
    ]
    if not members:
        return sets, mask
    sizes = [min(len(group), set_size) for group in members]
    count = sum(math.comb(len(group), size) for group, size in zip(members, sizes, strict=True))
    if count < num_sets or (set_size == 1 and count == num_sets):
        possible = [
            _padded(one, set_size)
            for group, size in zip(members, sizes, strict=True)
            for one in itertools.combinations(group, size)
        ]
        # Mixed, so that the place of a set tells nothing about its class.
        drawn = list(rng.permutation(possible))
    else:
        choices = rng.integers(len(members), size=num_sets)
        drawn = [
            _padded(np.sort(rng.choice(members[i], sizes[i], replace=False)), set_size)
            for i in choices
        ]
    sets[: len(drawn)], mask[: len(drawn)] = drawn, True
    return sets, mask


def _padded(images: Sequence[int] | np.ndarray, size: int) -> np.ndarray:
    """Returns (size,) pool indices with −1 behind them."""
    return np.pad(np.asarray(images, np.int64), (0, size - len(images)), constant_values=PADDING)
