"""Which label a candidate set is scored under."""

import numpy as np
from scipy.special import log_softmax


def sum_over_sets(values: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Sums per-image values over each set: (n,) or (n, C) to (M,) or (M, C); empty sets give 0."""
    real = sets >= 0
    gathered = values[np.where(real, sets, 0)]
    return np.where(real.reshape(real.shape + (1,) * (values.ndim - 1)), gathered, 0).sum(axis=1)


def most_likely_set_labels(logits: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns each set's most likely label, argmax_c Σ_{x'∈X'} log p(c|x'), (M,).

    Args:
        logits: (n, C), of the images that `sets` points into.
        sets: (M, K) indices, −1 as padding.
    """
    log_posterior = log_softmax(logits.astype(np.float64), axis=1)
    return sum_over_sets(log_posterior, sets).argmax(axis=1)
