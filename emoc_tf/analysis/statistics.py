"""Policies compared: paired differences with intervals and tests, penalties.

Runs of one seed are paired: their policies share classes, images, initial weights and random
streams. So policies are compared seed by seed, over the seeds that both have finished.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from emoc_tf.analysis.measures import MEASURES, by_agent
from emoc_tf.records.run_record import RunRecord

LEVEL = 0.05
# The bootstrap of a mean cannot reach beyond its values: of fewer pairs than this, its intervals
# hold the mean far less often than they say (simulated: 0.70 of 0.95 with three pairs).
MIN_PAIRS = 5
# Wilcoxon's p-value is at least 2^(1−n): with fewer pairs than this a test can never reject.
MIN_TESTED = 6
# With two pairs a t-test of counts rejects more often than it says, and else hardly ever.
MIN_BEATEN = 3


@dataclass(frozen=True)
class PairedDifference:
    """How far a policy is ahead of a baseline in one measure, over the seeds that both have.

    Attributes:
        agent: The policy.
        baseline: The policy it is compared with.
        measure: One of `MEASURES`.
        pairs: Number of seeds.
        mean: Mean difference, agent − baseline.
        low: Lower end of the 95% interval of the mean, see `interval`; NaN if there is none.
        high: Its upper end.
        p: Of Wilcoxon's signed-rank test, two-sided, see `wilcoxon_p`.
        p_corrected: The same after Holm's correction for all policies compared with this
            baseline in this measure that are tested, see `is_tested`; NaN of the others.
    """

    agent: str
    baseline: str
    measure: str
    pairs: int
    mean: float
    low: float
    high: float
    p: float
    p_corrected: float

    @property
    def is_tested(self) -> bool:
        """Whether it counts in Holm's correction: it has `MIN_TESTED` pairs, and a value in all."""
        return _is_tested(self.pairs, self.p)


def _is_tested(pairs: int, p: float) -> bool:
    return pairs >= MIN_TESTED and not np.isnan(p)


def paired_differences(
    runs: Sequence[RunRecord], baseline: str, measure: str
) -> list[PairedDifference]:
    """Compares every other policy with a baseline, in order of the mean difference.

    Args:
        runs: Finished runs of one configuration.
        baseline: A policy's name.
        measure: One of `MEASURES`.

    Returns:
        One for each policy that shares a seed with the baseline.

    Raises:
        ValueError: There is no such policy or measure.
    """
    if measure not in MEASURES:
        raise ValueError(f"measure: expected one of {list(MEASURES)}, got {measure!r}")
    values = {
        agent: {run.seed: MEASURES[measure].of(run) for run in group}
        for agent, group in by_agent(runs).items()
    }
    if baseline not in values:
        raise ValueError(f"baseline: expected one of {sorted(values)}, got {baseline!r}")
    own = values.pop(baseline)
    differences = {
        agent: np.array([theirs[seed] - own[seed] for seed in sorted(theirs.keys() & own.keys())])
        for agent, theirs in values.items()
    }
    differences = {agent: found for agent, found in differences.items() if len(found)}
    p_values = {agent: wilcoxon_p(found) for agent, found in differences.items()}
    tested = [
        agent for agent, found in differences.items() if _is_tested(len(found), p_values[agent])
    ]
    corrected = dict(
        zip(tested, holm_correction([p_values[agent] for agent in tested]), strict=True)
    )
    rows = [
        PairedDifference(
            agent, baseline, measure, len(found), float(found.mean()), *interval(found),
            p_values[agent], corrected.get(agent, float("nan")),
        )
        for agent, found in differences.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row.mean)


def expanded_level(pairs: int) -> float:
    """Returns the level of bootstrap percentiles that makes intervals of 95%, above 0.95.

    Percentiles of bootstrap means are too narrow for small samples, by √((n−1)/n) and by the
    normal in place of Student's distribution; with 9 pairs they hold the mean in 90% of cases.
    Hesterberg's expanded percentiles ("What Teachers Should Know About the Bootstrap", The American
    Statistician 69, 2015) correct both.

    Args:
        pairs: At least 2.
    """
    widened = np.sqrt(pairs / (pairs - 1)) * stats.t.ppf(1 - LEVEL / 2, pairs - 1)
    return float(1 - 2 * stats.norm.sf(widened))


def interval(differences: np.ndarray, resamples: int = 9999) -> tuple[float, float]:
    """Returns the 95% bootstrap interval of the mean of paired differences.

    Percentiles are expanded, see `expanded_level`: simulated coverage is 0.94 with 9 pairs of
    normal noise, 0.91 with 5 and 0.91 with 9 pairs of exponential noise. Of counts that hardly ever
    differ it is less (0.62 if one of ten pairs differs by 1), since most samples then hold no
    difference.

    Args:
        differences: (pairs,).
        resamples: Bootstrap samples.

    Returns:
        Its ends; NaN with fewer than `MIN_PAIRS` pairs, or if all are equal or one is NaN.
    """
    pairs = len(differences)
    if pairs < MIN_PAIRS or not np.ptp(differences) >= 1e-12:
        return float("nan"), float("nan")
    found = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=resamples,
        confidence_level=expanded_level(pairs),
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(found.low), float(found.high)


def wilcoxon_p(differences: np.ndarray) -> float:
    """Returns the two-sided p-value of Wilcoxon's signed-rank test, exact up to 13 pairs.

    With n pairs it is at least 2^(1−n), so that fewer than 6 pairs are never significant at 0.05.
    Pairs without a difference are left out; without any difference it is 1, with a NaN it is NaN.

    Args:
        differences: (pairs,), at least one.
    """
    if np.isnan(differences).any():
        return float("nan")
    # Equal in exact arithmetic, equal in rank.
    rounded = np.round(differences, 12)
    return float(stats.wilcoxon(rounded).pvalue) if rounded.any() else 1.0


def least_p(rows: Sequence[PairedDifference]) -> float:
    """Returns the least corrected p-value that one of some tests of a family could have had.

    Args:
        rows: Of one call of `paired_differences`.

    Returns:
        m · 2^(1−n) for the m policies tested and their most pairs n; NaN if none is tested.
    """
    pairs = [row.pairs for row in rows if row.is_tested]
    return len(pairs) * 2.0 ** (1 - max(pairs)) if pairs else float("nan")


def holm_correction(p_values: Sequence[float]) -> list[float]:
    """Returns p-values after Holm's step-down correction, in the order given.

    The i-th smallest of m is multiplied by m − i + 1, made at least the one before and at most 1
    (Holm, "A simple sequentially rejective multiple test procedure", 1979).
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1)
    return corrected.tolist()


def penalties(runs: Sequence[RunRecord], column: str) -> tuple[list[str], np.ndarray]:
    """Returns the pairwise penalty matrix of BADGE (Ash et al., 2020) over the update steps.

    Policy i beats policy j at a step if a two-sided paired t-test over the seeds of both rejects
    at 0.05 in its favour. Each time j gets a penalty of 1 / steps.

    Args:
        runs: Finished runs of one configuration.
        column: Of `steps.csv`; higher is better.

    Returns:
        The policies, least mean penalty first, and (policies, policies) in [0, 1]: row i, column
        j is the share of steps at which i beats j; NaN on the diagonal and for pairs with fewer
        than `MIN_BEATEN` seeds in common. The mean of column j is what j is judged by.
    """
    values = {
        agent: {run.seed: run.steps[column][1:] for run in group}
        for agent, group in by_agent(runs).items()
    }
    agents = list(values)
    matrix = np.full((len(agents), len(agents)), np.nan)
    for i, one in enumerate(agents):
        for j, other in enumerate(agents):
            seeds = sorted(values[one].keys() & values[other].keys())
            if i != j and len(seeds) >= MIN_BEATEN:
                pairs = [np.stack([values[a][seed] for seed in seeds]) for a in (one, other)]
                matrix[i, j] = _beats(pairs[0] - pairs[1]).mean()
    judged = [np.nanmean(column) if np.isfinite(column).any() else np.inf for column in matrix.T]
    order = np.argsort(judged, kind="stable")
    return [agents[i] for i in order], matrix[np.ix_(order, order)]


def _beats(differences: np.ndarray) -> np.ndarray:
    """Returns at which steps differences (seeds, steps) are above 0 by a paired t-test."""
    mean, error = differences.mean(axis=0), stats.sem(differences, axis=0)
    # Without any spread, also by rounding alone, a difference is one.
    error = np.where(error > 1e-12, error, 0)
    return mean > stats.t.ppf(1 - LEVEL / 2, len(differences) - 1) * error + 1e-12
