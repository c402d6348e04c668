"""The best set by sketches first, and exact output changes of those that may be the best."""

import math
from typing import NamedTuple

import numpy as np
from scipy import sparse, stats

from emoc_tf.scoring.pairs import PairScores
from emoc_tf.scoring.selection import Round, Selection, distinct, select

FIRST = 64  # reference images that all sets are sketched on
SKETCHED = 512  # that those are which are left, at most
MEASURED = 16  # sets, drawn at random, whose exact scores tell what sketches are worth
REFERENCES = 16  # reference images that this is measured on


class Line(NamedTuple):
    """Exact scores of sets as a linear function of their sketched ones.

    Attributes:
        start: Exact score at a sketched one of 0.
        slope: Exact score for each sketched one.
        deviation: Of the exact scores around the line, two parameters accounted for.
        mean: Of the sketched scores that it was fitted to.
        spread: Sum of their squared differences from that.
        count: How many there were.
    """

    start: float
    slope: float
    deviation: float
    mean: float
    spread: float
    count: int


def select_by_sketch(
    exact: PairScores,
    sketched: PairScores,
    weights: sparse.csr_array,
    confidence: float,
    seed: int,
    most_values: int,
    offsets: np.ndarray | None = None,
) -> Selection:
    """Returns the set with the highest mean output change, most sets dropped by sketches.

    All sets are sketched on the same reference images. Of some sets, drawn at random, the exact
    scores are measured on a few of these, which gives a line from sketched to exact scores
    and the spread around it. A set is dropped if a t-test says that it is worse than the leader
    beyond what that spread and the choice of reference images may do. The others are sketched on
    twice as many as long as the choice of these is most of the doubt. Those that are left then are
    compared by `selection.select` on exact output changes.

    Half of 1 − confidence goes to each, and equal parts to each round. The test takes what sketches
    leave out for normal, and as large for the best sets as for those drawn. Reference images of the
    line are fewer than all: what they add to the spread is on the safe side.

    Args:
        exact: The pairs, by exact gradients.
        sketched: The same by sketched ones.
        weights: (M, pairs); a set's value is the weighted sum of its pairs' values.
        confidence: As of `selection.select`, as for the following.
        seed: Also of the sets that are measured.
        most_values: See there.
        offsets: See there.
    """
    total = len(exact.reference)
    sets = distinct(weights, offsets)
    added = np.zeros(weights.shape[0]) if offsets is None else offsets
    half = (1 - confidence) / 2
    if len(sets) <= 2 * MEASURED:  # measuring them is the choice itself
        return select(exact.sample, weights, total, confidence, seed, most_values, offsets)
    rng = np.random.default_rng(seed)
    order = rng.permutation(total)
    counts = [min(total, FIRST)]
    while counts[-1] < min(total, SKETCHED):
        counts.append(min(total, SKETCHED, 2 * counts[-1]))
    by_sketch = _values(sketched, order[: counts[0]], weights[sets])
    measured = np.sort(rng.choice(len(sets), MEASURED, replace=False))
    few = min(total, REFERENCES)
    right = _values(exact, order[:few], weights[sets[measured]])
    line = fit_line(by_sketch[:few, measured].mean(axis=0), right.mean(axis=0))
    evaluated = few * len(np.unique(weights[sets[measured]].indices))
    rounds: list[Round] = []
    for count in counts:
        if rounds:
            more = _values(sketched, order[len(by_sketch) : count], weights[sets])
            by_sketch = np.concatenate([by_sketch, more])
        found = possible(by_sketch, line, added[sets], total, half / len(counts))
        rounds.append(Round(count, len(sets), int(found.left.sum())))
        if rounds[-1].survivors == 1:
            best = int(found.scores.argmax())
            gap = float(found.scores[best] - np.delete(found.scores, best).max())
            place, score = int(sets[best]), float(found.scores[best])
            pairs = total * weights.shape[1]
            return Selection(place, score, gap, False, evaluated, pairs, tuple(rounds))
        sets, by_sketch = sets[found.left], by_sketch[:, found.left]
        if not found.more:
            break
    found = select(
        exact.sample,
        weights[sets],
        total,
        1 - half,
        seed,
        most_values,
        None if offsets is None else offsets[sets],
    )
    return Selection(
        int(sets[found.index]),
        found.score,
        found.gap,
        found.exact,
        evaluated + found.pairs_evaluated,
        found.pairs,
        (*rounds, *found.rounds),
    )


def fit_line(sketched: np.ndarray, exact: np.ndarray) -> Line:
    """Returns the line of m exact scores on sketched ones, by least squares."""
    mean, spread = sketched.mean(), np.square(sketched - sketched.mean()).sum()
    slope = ((sketched - mean) * (exact - exact.mean())).sum() / spread if spread > 0 else 0.0
    start = exact.mean() - slope * mean
    residual = exact - start - slope * sketched
    deviation = math.sqrt(np.square(residual).sum() / (len(exact) - 2))
    return Line(start, float(slope), deviation, float(mean), float(spread), len(exact))


class Possible(NamedTuple):
    """Sets that may be the best.

    Attributes:
        left: (M,) which they are.
        scores: (M,) predicted exact scores of all.
        more: Whether the choice of reference images is most of the doubt.
    """

    left: np.ndarray
    scores: np.ndarray
    more: bool


def possible(
    by_sketch: np.ndarray, line: Line, added: np.ndarray, total: int, level: float
) -> Possible:
    """Returns which sets may be the best.

    Args:
        by_sketch: (m, M) sketched output changes on m of the reference images.
        line: From sketched to exact scores.
        added: (M,) what is added to the scores.
        total: How many reference images there are.
        level: Probability that the best is not among them.
    """
    means = by_sketch.mean(axis=0)
    scores = line.start + line.slope * means + added
    leader = int(scores.argmax())
    if line.slope <= 0:  # sketches tell nothing
        return Possible(np.ones(len(scores), bool), scores, False)
    count = len(by_sketch)
    differences = by_sketch[:, [leader]] - by_sketch
    of_choice = np.zeros(len(scores))
    if count > 1:
        of_choice = differences.var(axis=0, ddof=1) * (1 - count / total) / count
    of_choice *= line.slope**2
    # Two new sets around the line, and the slope itself.
    of_sketch = line.deviation**2 * (2 + (means[leader] - means) ** 2 / line.spread)
    error = of_choice + of_sketch
    # Welch's degrees of freedom of a sum of two variances.
    parts = of_choice**2 / max(1, count - 1) + of_sketch**2 / (line.count - 2)
    freedom = np.where(parts > 0, error**2 / np.where(parts > 0, parts, 1.0), 1.0)
    reach = stats.t.isf(level / max(1, len(scores) - 1), freedom) * np.sqrt(error)
    left = scores[leader] - scores <= reach
    left[leader] = True
    return Possible(left, scores, bool(of_choice[left].sum() > of_sketch[left].sum()))


def _values(pairs: PairScores, references: np.ndarray, weights: sparse.csr_array) -> np.ndarray:
    """Returns sets' output changes on some reference images, (m, sets)."""
    used = np.unique(weights.indices)
    return pairs.sample(references, used, control=False).changes @ weights[:, used].T
