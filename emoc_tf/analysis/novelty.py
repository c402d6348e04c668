"""How well scores tell candidate sets of novel classes from those of known ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import optimize, stats

from emoc_tf.analysis.correlations import MIN_SETS, NOVEL
from emoc_tf.analysis.statistics import LEVEL
from emoc_tf.storage.csv_files import read_numbers

# How near an end of an interval may be to 1, where it has no width.
_CLOSE = 1e-9


@dataclass(frozen=True)
class Novelty:
    """How well a score tells novel from known sets, by the area under its ROC curve.

    The area is the probability that a novel set has a higher score than a known one, ties counted
    half: 0.5 tells nothing, below 0.5 known sets have the higher scores. Models without sets of
    both kinds or with fewer than `MIN_SETS` are left out.

    Attributes:
        score: The policy whose score it is.
        models: Their number.
        known_sets: Number of their sets of known classes.
        novel_sets: Of novel ones; sets of both kinds are in neither.
        area: Mean over models; NaN without any, or if a score is NaN.
        low: Lower end of its 95% interval, see `interval`.
        high: The upper end.
        least: The least area of a model.
        greatest: The greatest.
        areas: The area of each model, by seed.
    """

    score: str
    models: int
    known_sets: int
    novel_sets: int
    area: float
    low: float
    high: float
    least: float
    greatest: float
    areas: dict[int, float]


def read(path: Path, num_columns: int) -> list[Novelty]:
    """Computes the areas of all scores of a file of changes.

    Args:
        path: Of a CSV file with the columns `seed`, `set`, `novel_share`, and the scores.
        num_columns: How many columns come before the scores.
    """
    header, rows = read_numbers(path)
    if not header:
        return []
    column = dict(zip(header, rows.reshape(-1, len(header)).T, strict=True))
    # A set has several rows, with the same scores.
    sets = np.stack([column["seed"], column["set"]], axis=1)
    first = np.unique(sets, axis=0, return_index=True)[1]
    seeds, share = column["seed"][first], column[NOVEL][first]
    kinds = {}
    for seed in np.unique(seeds):
        known, novel = (first[(seeds == seed) & (share == kind)] for kind in (0, 1))
        if len(known) and len(novel) and len(known) + len(novel) >= MIN_SETS:
            kinds[int(seed)] = known, novel
    counts = np.array([list(map(len, pair)) for pair in kinds.values()], int).reshape(-1, 2)
    found = []
    for score in header[num_columns:]:
        of_sets = column[score]
        areas = {seed: area(of_sets[known], of_sets[novel]) for seed, (known, novel) in
                 kinds.items()}  # fmt: skip
        values = np.array([*areas.values()]) if areas else np.array([np.nan])
        found.append(
            Novelty(
                score, len(areas), *counts.sum(axis=0).tolist(), float(values.mean()),
                *interval(values, counts), float(values.min()), float(values.max()), areas,
            )
        )  # fmt: skip
    return found


def area(known: np.ndarray, novel: np.ndarray) -> float:
    """Returns the area under the ROC curve, (pairs won + ½ pairs tied) / pairs; NaN with a NaN.

    Args:
        known: (m,) scores of sets of known classes.
        novel: (n,) of novel ones, which are to be higher.
    """
    if np.isnan(known).any() or np.isnan(novel).any():
        return float("nan")
    above, below = novel[:, None] > known, novel[:, None] < known
    return float((1 + above.mean() - below.mean()) / 2)


def interval(areas: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """Returns the 95% interval of the mean of areas of models with samples of their own.

    Newcombe's method 5 ("Confidence intervals for an effect size measure based on the Mann–Whitney
    statistic. Part 2", Statistics in Medicine 25, 2006): the areas θ that are not further than 1.96
    of their own standard deviations from what was found, by the variance of Hanley and McNeil
    (Radiology 143, 1982) with half of all sets in place of m and of n in its brackets. Unlike
    DeLong's variance this is not 0 where all pairs are in order, which happens with so few sets.
    The variance of a mean of k models is the sum of theirs at θ over k². As with correlations it is
    about all sets of these models, and says nothing about other models.

    Args:
        areas: (k,).
        counts: (k, 2) sets of known classes and of novel ones, at least one of each.

    Returns:
        Its ends; NaN if an area is.
    """
    mean = float(np.mean(areas))
    if np.isnan(mean):
        return float("nan"), float("nan")
    return _lower_end(mean, counts), 1 - _lower_end(1 - mean, counts)


def _lower_end(mean: float, counts: np.ndarray) -> float:
    pairs, others = counts.prod(axis=1), counts.sum(axis=1) / 2 - 1
    width = stats.norm.ppf(1 - LEVEL / 2)

    def too_far(theta: float) -> float:
        spread = 1 + others * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        variance = (theta * (1 - theta) * spread / pairs).sum() / len(counts) ** 2
        return (mean - theta) ** 2 - width**2 * variance

    return float(optimize.brentq(too_far, 0, min(mean, 1 - _CLOSE))) if mean > 0 else 0.0
