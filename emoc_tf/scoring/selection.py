"""The best candidate set without scoring every pair: correlated elimination.

All sets are scored on the same few reference images. Sets that are worse than the leader beyond
doubt are dropped, the others get twice as many reference images, until one is left or all
reference images are used. Since sets are compared on the same images, what makes an image
sensitive to all of them cancels.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats

FIRST_REFERENCES = 32


class Round(NamedTuple):
    """One round of an elimination.

    Attributes:
        references: Reference images that the sets were compared on.
        sets: Sets that were compared.
        survivors: Sets that were left, the leader among them.
    """

    references: int
    sets: int
    survivors: int


class Selection(NamedTuple):
    """The chosen set and what was done to find it.

    Attributes:
        index: Of the chosen set; the first of those that are equal to it.
        score: Its score (Eq. 5), estimated on the reference images that were used.
        gap: How much lower the next set is that was compared with it to the end, estimated on the
            same reference images; None if there was no other.
        exact: Whether score and gap come from all reference images.
        pairs_evaluated: How many ‖J(x) g(x',y')‖₁ the comparisons needed.
        pairs: How many there are: N times the number of (image, label) pairs in the sets.
        rounds: The rounds; empty where all pairs were evaluated at once.
    """

    index: int
    score: float
    gap: float | None
    exact: bool
    pairs_evaluated: int
    pairs: int
    rounds: tuple[Round, ...]


def select(
    values: Callable[[np.ndarray, np.ndarray], np.ndarray],
    weights: sparse.csr_array,
    num_references: int,
    confidence: float,
    seed: int,
) -> Selection:
    """Returns the set with the highest mean value, by correlated elimination.

    A set is dropped if a one-sided paired t-test on the reference images so far, drawn without
    replacement, says that it is worse than the leader. The levels of all tests together make
    1 − confidence, shared equally between the rounds and, in a round, the sets (Bonferroni). A
    t-test takes means of 32 or more values for normal: it cannot know of a few reference images
    that it has not seen and that carry the whole difference between two sets.

    Args:
        values: Function of m reference indices and p ascending pair indices that returns their
            output changes, (m, p).
        weights: (M, pairs); a set's value is the weighted sum of its pairs' values.
        num_references: N.
        confidence: Probability, over the draws of reference images, that the set is the one that
            all N of them would choose; in (0, 1).
        seed: Of the order in which reference images are used.
    """
    order = np.random.default_rng(seed).permutation(num_references)
    alive = _distinct(weights)
    max_rounds = 1 + max(0, math.ceil(math.log2(num_references / FIRST_REFERENCES)))
    shown = np.empty((0, len(alive)))  # [references so far, sets alive]
    rounds: list[Round] = []
    evaluated = 0
    while True:
        size = min(num_references, max(FIRST_REFERENCES, 2 * len(shown)))
        own = weights[alive]
        pairs = np.unique(own.indices)
        more = values(order[len(shown) : size], pairs) @ own[:, pairs].T
        shown = np.concatenate([shown, more])
        evaluated += len(more) * len(pairs)
        means = shown.mean(axis=0)
        leader = int(means.argmax())
        gap = float(means[leader] - np.delete(means, leader).max()) if len(alive) > 1 else None
        exact = size == num_references
        level = (1 - confidence) / max_rounds / max(1, len(alive) - 1)
        left = means == means[leader] if exact else _undecided(shown, leader, num_references, level)
        rounds.append(Round(size, len(alive), int(left.sum())))
        if exact or left.sum() == 1:
            return Selection(
                int(alive[leader]),
                float(means[leader]),
                gap,
                exact,
                evaluated,
                num_references * weights.shape[1],
                tuple(rounds),
            )
        alive, shown = alive[left], shown[:, left]


def best_of(scores: np.ndarray, pairs: int) -> Selection:
    """Returns the best set by scores from all pairs."""
    index = int(scores.argmax())
    gap = float(scores[index] - np.delete(scores, index).max()) if len(scores) > 1 else None
    return Selection(index, float(scores[index]), gap, True, pairs, pairs, ())


def _undecided(shown: np.ndarray, leader: int, total: int, level: float) -> np.ndarray:
    """Returns which sets are not worse than the leader beyond doubt, the leader included."""
    count = len(shown)
    behind = shown[:, [leader]] - shown
    error = behind.std(axis=0, ddof=1) * math.sqrt((1 - count / total) / count)
    return behind.mean(axis=0) <= stats.t.isf(level, count - 1) * error


def _distinct(weights: sparse.csr_array) -> np.ndarray:
    """Returns the first of each group of sets with equal weights: no data could part them."""
    weights.sort_indices()
    seen: dict[tuple[bytes, bytes], int] = {}
    for index, (start, end) in enumerate(zip(weights.indptr, weights.indptr[1:], strict=False)):
        key = weights.indices[start:end].tobytes(), weights.data[start:end].tobytes()
        seen.setdefault(key, index)
    return np.array(list(seen.values()))
