"""The best candidate set without scoring every pair: correlated elimination.

All sets are scored on the same few reference images. Sets that are worse than the leader beyond
doubt are dropped, the others get twice as many reference images, until one is left or all
reference images are used. Since sets are compared on the same images, what makes an image
sensitive to all of them cancels. Much of the rest is explained by a control variate: the output
changes that the last dense layers alone would make, which are cheap enough to be known on all
reference images. See Cochran, Sampling Techniques (3rd ed. 1977), chapter 7, for the regression
estimator.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats

FIRST_REFERENCES = 32
MOST_VALUES = 1 << 26


class Sample(NamedTuple):
    """Output changes of p pairs on m reference images.

    Attributes:
        changes: (m, p), ‖J(x) g(x',y')‖₁.
        control: (m, p), of a control variate; zeros where there is none.
        control_mean: (p,), mean of the control variate over all reference images.
    """

    changes: np.ndarray
    control: np.ndarray
    control_mean: np.ndarray


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


@dataclasses.dataclass(frozen=True)
class Selection:
    """The chosen set and what was done to find it.

    Attributes:
        index: Of the chosen set; the first of those that are equal to it.
        score: Its score (Eq. 5), estimated on the reference images that were used.
        gap: How much lower the next set is that was compared with it to the end, estimated on the
            same reference images; None if there was no other.
        exact: Whether score and gap come from all reference images.
        pairs_evaluated: How many ‖J(x) g(x',y')‖₁ the comparisons needed.
        pairs: How many there are: N times the number of (image, label) pairs in the sets, or of
            different sets where gradients are added up over a set.
        rounds: The rounds; empty where all pairs were evaluated at once.

    Example:
        >>> import keras
        >>> import numpy as np
        >>> from emoc_tf.scoring import EMOCScorer
        >>> rng = np.random.default_rng(0)
        >>> layers = [keras.layers.Dense(8), keras.layers.Dense(3)]
        >>> model = keras.Sequential([keras.Input((4,)), *layers])
        >>> model.set_weights([rng.normal(0, 0.3, weight.shape) for weight in model.weights])
        >>> images = rng.normal(size=(40, 4))
        >>> sets = np.arange(40).reshape(8, 5)
        >>> best = EMOCScorer(model).select_set(images, images, sets)
        >>> best.index, best.exact
        (6, False)
        >>> best.pairs_evaluated <= best.pairs
        True
    """

    index: int
    score: float
    gap: float | None
    exact: bool
    pairs_evaluated: int
    pairs: int
    rounds: tuple[Round, ...]


def select(
    sample: Callable[[np.ndarray, np.ndarray], Sample],
    weights: sparse.csr_array,
    num_references: int,
    confidence: float,
    seed: int,
    most_values: int = MOST_VALUES,
    offsets: np.ndarray | None = None,
) -> Selection:
    """Returns the set with the highest mean output change, by correlated elimination.

    A set is dropped if a one-sided paired t-test on the reference images so far, drawn without
    replacement, says that it is worse than the leader; the difference is the regression estimate
    with the control variate. The levels of all tests together make 1 − confidence, shared equally
    between the rounds and, in a round, the sets (Bonferroni). A t-test takes means of 32 or more
    values for normal: it cannot know of a few reference images that it has not seen and that carry
    the whole difference between two sets.

    Args:
        sample: Function of m reference indices and p ascending pair indices.
        weights: (M, pairs); a set's value is the weighted sum of its pairs' values.
        num_references: N.
        confidence: Probability, over the draws of reference images, that the set is the one that
            all N of them would choose; in (0, 1).
        seed: Of the order in which reference images are used.
        most_values: m · p that are asked for at once, except that m is at least 32.
        offsets: (M,) numbers that are added to the sets' values; None for 0.
    """
    order = np.random.default_rng(seed).permutation(num_references)
    alive = distinct(weights, offsets)
    max_rounds = 1 + max(0, math.ceil(math.log2(num_references / FIRST_REFERENCES)))
    nothing = np.empty((0, len(alive)))
    shown = Sample(nothing, nothing, np.empty(len(alive)))  # of the sets alive
    rounds: list[Round] = []
    evaluated = 0
    while True:
        used = len(shown.changes)
        size = min(num_references, max(FIRST_REFERENCES, 2 * used))
        own = weights[alive]
        pairs = np.unique(own.indices)
        changes, control, control_mean = _of_sets(
            sample, order[used:size], pairs, own[:, pairs], most_values
        )
        if offsets is not None:
            changes += offsets[alive]
        shown = Sample(
            np.concatenate([shown.changes, changes]),
            np.concatenate([shown.control, control]),
            control_mean,
        )
        evaluated += (size - used) * len(pairs)
        exact = size == num_references
        means = shown.changes.mean(axis=0) if exact else _regression(shown)[0]
        leader = int(means.argmax())
        gap = float(means[leader] - np.delete(means, leader).max()) if len(alive) > 1 else None
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
        alive = alive[left]
        shown = Sample(shown.changes[:, left], shown.control[:, left], shown.control_mean[left])


def _of_sets(
    sample: Callable[[np.ndarray, np.ndarray], Sample],
    references: np.ndarray,
    pairs: np.ndarray,
    weights: sparse.csr_array,
    most_values: int,
) -> Sample:
    """Returns what `sample` returns of pairs, summed over the pairs of each set."""
    count = max(1, most_values // len(pairs) // FIRST_REFERENCES) * FIRST_REFERENCES
    parts = [
        [part @ weights.T for part in sample(references[start : start + count], pairs)]
        for start in range(0, len(references), count)
    ]
    changes, control, control_mean = zip(*parts, strict=True)
    return Sample(np.concatenate(changes), np.concatenate(control), control_mean[0])


def best_of(scores: np.ndarray, pairs: int) -> Selection:
    """Returns the best set by scores from all pairs."""
    index = int(scores.argmax())
    gap = float(scores[index] - np.delete(scores, index).max()) if len(scores) > 1 else None
    return Selection(index, float(scores[index]), gap, True, pairs, pairs, ())


def _undecided(shown: Sample, leader: int, total: int, level: float) -> np.ndarray:
    """Returns which sets are not worse than the leader beyond doubt, the leader included."""
    count = len(shown.changes)
    changes, control, control_mean = (part[..., [leader]] - part for part in shown)
    mean, deviation = _regression(Sample(changes, control, control_mean))
    error = deviation * math.sqrt((1 - count / total) / count)
    left = mean <= stats.t.isf(level, count - 2) * error
    left[leader] = True
    return left


def _regression(shown: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Returns each column's mean over all reference images and the deviation around the line.

    The mean is estimated from its regression on the control variate: ȳ + β (X̄ − x̄).
    """
    count = len(shown.changes)
    changes = shown.changes - shown.changes.mean(axis=0)
    control = shown.control - shown.control.mean(axis=0)
    spread = (control**2).sum(axis=0)
    # A control variate that is constant up to rounding explains nothing.
    explains = spread > 1e-12 * (shown.control**2).sum(axis=0)
    slope = np.where(
        explains, (changes * control).sum(axis=0) / np.where(explains, spread, 1.0), 0.0
    )
    mean = shown.changes.mean(axis=0) + slope * (shown.control_mean - shown.control.mean(axis=0))
    deviation = np.sqrt(((changes - slope * control) ** 2).sum(axis=0) / (count - 2))
    return mean, deviation


def distinct(weights: sparse.csr_array, offsets: np.ndarray | None) -> np.ndarray:
    """Returns the first of each group of sets that are equal: no data could part them."""
    weights.sort_indices()
    added = np.zeros(weights.shape[0]) if offsets is None else offsets
    seen: dict[tuple[bytes, bytes, float], int] = {}
    for index, (start, end) in enumerate(zip(weights.indptr, weights.indptr[1:], strict=False)):
        key = weights.indices[start:end].tobytes(), weights.data[start:end].tobytes()
        seen.setdefault((*key, float(added[index])), index)
    return np.array(list(seen.values()))
