"""Rank correlations of scores with what learning the sets really changed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from emoc_tf.analysis.statistics import LEVEL
from emoc_tf.storage.csv_files import read_numbers

MEASURES = {
    "output_change": "output change",
    "own_change": "change against control",
    "accuracy_gain": "gain in test accuracy",
}
# Which sets: all, and those of classes that the model knows or does not.
AMONG = ("all", "known", "novel")
# The share of a set's images that are of novel classes: what a score is worth beyond telling them.
NOVEL = "novel_share"

# Perfect ranks have no finite artanh.
_CERTAIN = 1 - 1e-3
# Below this there is no interval: its width has n − 3 in the denominator.
MIN_SETS = 4


@dataclass(frozen=True)
class Correlation:
    """How well a score tells what a set changes.

    Attributes:
        score: The policy whose score it is, or `novel_share`.
        among: `all` sets, or only those of `known` or of `novel` classes.
        measure: `output_change`, `own_change` or `accuracy_gain`.
        true_label: Whether the sets were learnt with their true labels.
        iterations: Of SGD; 0 for one gradient step on the set alone.
        seeds: Number of models.
        sets: Number of candidate sets of all models.
        rho: Spearman's rank correlation over the sets of a model, averaged over models.
        low: Lower end of its 95% interval, see `rank_correlation`.
        high: The upper end.
        least: The least ρ of a model.
        greatest: The greatest.
        p_alike: Of Cochran's Q, see `rank_correlation`: if small, models differ more than the
            samples of sets explain.
    """

    score: str
    among: str
    measure: str
    true_label: bool
    iterations: int
    seeds: int
    sets: int
    rho: float
    low: float
    high: float
    least: float
    greatest: float
    p_alike: float


def read(path: Path, num_columns: int) -> list[Correlation]:
    """Computes all correlations of a file of changes.

    Args:
        path: Of a CSV file with the columns `seed`, `true_label`, `iterations`, `novel_share`,
            those of the measures, and the scores.
        num_columns: How many columns come before the scores.
    """
    header, rows = read_numbers(path)
    column = dict(zip(header, rows.T, strict=True))
    found = []
    for true_label in (0, 1):
        for iterations in np.unique(column["iterations"][column["true_label"] == true_label]):
            chosen = (column["true_label"] == true_label) & (column["iterations"] == iterations)
            for measure in MEASURES:
                if not np.isfinite(column[measure][chosen]).all():
                    continue
                for among in AMONG:
                    inside = chosen & _among(column[NOVEL], among)
                    groups = _groups(column["seed"][inside])
                    for score in [*header[num_columns:], *([NOVEL] if among == "all" else [])]:
                        numbers = rank_correlation(
                            column[score][inside], column[measure][inside], groups
                        )
                        found.append(
                            Correlation(
                                score, among, measure, bool(true_label), int(iterations),
                                len(groups), sum(map(len, groups)), *numbers,
                            )
                        )  # fmt: skip
    return found


def _among(novel_share: np.ndarray, among: str) -> np.ndarray:
    if among == "all":
        return np.full(len(novel_share), True)
    return novel_share == (among == "novel")  # sets of both kinds are in neither


def _groups(seeds: np.ndarray) -> list[np.ndarray]:
    """Returns the indices of each seed; a seed that was only just begun is left out."""
    groups = [np.flatnonzero(seeds == seed) for seed in np.unique(seeds)]
    return [group for group in groups if len(group) >= MIN_SETS]


def rank_correlation(
    scores: np.ndarray, truth: np.ndarray, groups: list[np.ndarray]
) -> tuple[float, float, float, float, float, float]:
    """Returns Spearman's ρ within groups, averaged, with its 95% interval, and how groups differ.

    ρ of each group becomes z = artanh ρ, with variance (1 + ρ²/2)/(n − 3) (Bonett and Wright,
    "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
    Psychometrika 65, 2000); the mean of z, weighted by n − 3, and its ends are brought back. It is
    about all sets of these models, and says nothing about other models. Percentiles of the
    bootstrap would lie too low: resampling makes ties, which lower ρ. Cochran's Q compares the
    squared deviations of z, in units of their variances, with χ² of one degree less than groups.

    Args:
        scores: (n,).
        truth: (n,).
        groups: Indices of each group, at least `MIN_SETS` in each.

    Returns:
        ρ and the ends, the least and the greatest ρ of a group, and the p-value of Q (NaN for one
        group); all NaN if there is no group or scores or truth are all equal in one.
    """
    if not groups:
        return (float("nan"),) * 6
    rhos = np.array([_spearman(scores[index], truth[index]) for index in groups])
    weights = np.array([len(index) - 3 for index in groups])
    z = np.arctanh(np.clip(rhos, -_CERTAIN, _CERTAIN))
    mean = (weights * z).sum() / weights.sum()
    variance = (weights * (1 + rhos**2 / 2)).sum() / weights.sum() ** 2
    width = stats.norm.ppf(1 - LEVEL / 2) * np.sqrt(variance)
    precision = weights / (1 + rhos**2 / 2)
    q = (precision * (z - (precision * z).sum() / precision.sum()) ** 2).sum()
    p_alike = stats.chi2.sf(q, len(groups) - 1) if len(groups) > 1 else float("nan")
    ends = np.tanh([mean, mean - width, mean + width])
    return (*ends.tolist(), float(rhos.min()), float(rhos.max()), float(p_alike))


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)
