"""Uncertainty measures of posteriors, and their means over candidate sets.

All take posteriors (n, C) and return (n,). Where no class is known, C = 0, nothing can be told: all
images have the values that they have where there is one.

Example:
    >>> import numpy as np
    >>> from emoc_tf import uncertainty
    >>> posterior = np.array([[0.5, 0.25, 0.25], [0.6, 0.4, 0.0]])
    >>> uncertainty.max_score(posterior), uncertainty.margin(posterior).round(2)
    (array([0.5, 0.6]), array([0.25, 0.2 ]))
    >>> uncertainty.entropy(posterior).round(2)
    array([0.95, 0.61])
    >>> uncertainty.set_means(uncertainty.margin(posterior), np.array([[0, 1], [1, -1]])).round(3)
    array([0.225, 0.2  ])
"""

import numpy as np


def max_score(posterior: np.ndarray) -> np.ndarray:
    """The highest class score, in [1/C, 1]."""
    return posterior.max(axis=1) if posterior.shape[1] else np.ones(len(posterior), np.float32)


def min_score(posterior: np.ndarray) -> np.ndarray:
    """The lowest class score, in [0, 1/C]."""
    return posterior.min(axis=1) if posterior.shape[1] else np.ones(len(posterior), np.float32)


def margin(posterior: np.ndarray) -> np.ndarray:
    """Difference of the two highest class scores, in [0, 1]; 1 where there is one class at most."""
    if posterior.shape[1] <= 1:
        return np.ones(len(posterior), posterior.dtype)
    second, first = np.partition(posterior, -2, axis=1)[:, -2:].T
    return first - second


def entropy(posterior: np.ndarray) -> np.ndarray:
    """Entropy divided by log C, in [0, 1]; 0 where there is one class at most."""
    if posterior.shape[1] <= 1:
        return np.zeros(len(posterior), posterior.dtype)
    # The smallest normal number stands for 0, whose share of the entropy is 0.
    logarithm = np.log(np.maximum(posterior, np.finfo(posterior.dtype).tiny))
    return -(posterior * logarithm).sum(axis=1) / np.log(posterior.shape[1])


def set_means(values: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns the mean of per-image values over each set, (M,); 0 for a set of padding alone.

    Args:
        values: (n,), a value per pool image.
        sets: (M, K) indices, −1 as padding.
    """
    real = sets >= 0
    total = np.where(real, values[sets], 0).sum(axis=1, dtype=np.float64)
    return total / np.maximum(real.sum(axis=1), 1)


def set_mean_rows(rows: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns the mean of the images' rows over each set, (M, C) float64; 0 for padding alone.

    Args:
        rows: (n, C), a row per pool image, such as its posterior.
        sets: (M, K) indices, −1 as padding.
    """
    total = np.zeros((len(sets), rows.shape[1]))
    for indices in sets.T:  # an array of (M, K, C) may be large
        total += np.where((indices >= 0)[:, None], rows[indices], 0)
    return total / np.maximum((sets >= 0).sum(axis=1, keepdims=True), 1)


def set_spreads(values: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns the standard deviation of per-image values in each set, (M,); see `set_means`."""
    mean = set_means(values, sets)
    squares = np.where(sets >= 0, values[sets] - mean[:, None], 0) ** 2
    return np.sqrt(squares.sum(axis=1) / np.maximum((sets >= 0).sum(axis=1), 1))
