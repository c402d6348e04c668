"""Mutual information of a set's labels and the model, from samples of the model.

Axis letters: T samples of the model, n images, M sets, K images a set, C outputs.
"""

from collections.abc import Iterator

import numpy as np
from scipy import linalg
from scipy.special import log_softmax, logsumexp, xlogy

from emoc_tf.agents.head_gram import BLOCK_BYTES, weigh
from emoc_tf.scoring.labels import sum_over_sets

MOST_LABELLINGS = 5000  # that are enumerated
DRAWS = 512  # labellings drawn where there are more


def gaussian(logits: np.ndarray, probabilities: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns ½ log det(I + VᵀΣV) of each set, Σ the covariance of its logits, (M,).

    A Gaussian approximation of what `of_labels` tells: equal in the limit of small Σ, too high
    where models differ much. Unlike what T samples can tell of labels, it is not bounded by log T.

    Args:
        logits: (T, n, C), T > 1.
        probabilities: p, (n, C), with V Vᵀ = diag p − ppᵀ for each image.
        sets: (M, K) row numbers, −1 as padding.
    """
    count, num_images, num_classes = logits.shape
    spread = np.empty((num_images, num_classes, count))
    for some in _blocks(logits):
        own = logits[:, some].astype(np.float64) - logits[:, some].mean(axis=0, dtype=np.float64)
        spread[some] = own.transpose(1, 2, 0) / np.sqrt(count - 1)
        weigh(spread[some], probabilities[some].astype(np.float64))
    scores, set_size = np.empty(len(sets)), sets.shape[1]
    together = max(1, BLOCK_BYTES // (8 * set_size * num_classes * count))
    for start in range(0, len(sets), together):
        some = sets[start : start + together]
        own = np.where((some >= 0)[..., None, None], spread[some], 0)
        own = own.reshape(len(some), set_size * num_classes, count)
        if own.shape[1] > count:
            own = own.swapaxes(1, 2)
        for i, factor in enumerate(own):
            scores[start + i] = half_log_det(np.eye(len(factor)) + factor @ factor.T)
    return scores


def of_images(logits: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns the information of each image's label, summed over each set, (M,).

    Args:
        logits: (T, n, C).
        sets: (M, K) row numbers, −1 as padding.
    """
    own = [np.zeros(0)]
    for some in _blocks(logits):
        _, posterior, conditional = _of_samples(logits[:, some])
        mean = posterior.mean(axis=0)
        own.append(-xlogy(mean, mean).sum(axis=1) - conditional)
    return sum_over_sets(np.concatenate(own), sets)


def of_labels(logits: np.ndarray, sets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the information of each set's labels, jointly, (M,), at most log T.

    Exact, and at least 0, where a set has at most 5,000 labellings. Otherwise a mean over 512 that
    are drawn: where models hardly differ it may be a little below 0.

    Args:
        logits: (T, n, C).
        sets: (M, K) row numbers, −1 as padding.
        rng: Source of the draws, which are the same numbers for all sets.
    """
    numbers = rng.random((DRAWS, sets.shape[1]))
    scores = np.zeros(len(sets))
    for i, row in enumerate(sets):
        row = row[row >= 0]
        log_posterior, posterior, conditional = _of_samples(logits[:, row])
        if posterior.shape[2] ** len(row) <= MOST_LABELLINGS:
            scores[i] = _joint_entropy(posterior) - conditional.sum()
        else:
            scores[i] = _drawn_information(log_posterior, posterior, numbers[:, : len(row)])
    return scores


def half_log_det(matrix: np.ndarray) -> float:
    """Returns ½ log det of a positive definite matrix, which is overwritten."""
    return float(np.log(np.diagonal(cholesky(matrix))).sum())


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Returns the lower factor of a positive definite matrix, which is overwritten.

    Raises:
        ValueError: It is not positive definite, or no number.
    """
    factor, info = linalg.lapack.dpotrf(matrix.T, lower=True, overwrite_a=True)
    if info or not np.isfinite(np.diagonal(factor)).all():
        raise ValueError(
            "information: expected a positive definite matrix of each set, got another; features "
            "or outputs are too large for float64"
        )
    return factor


def _blocks(logits: np.ndarray) -> Iterator[slice]:
    """Yields some images at a time, whose samples in double precision are a block."""
    count, num_images, num_classes = logits.shape
    size = max(1, BLOCK_BYTES // (8 * max(1, count * num_classes)))
    for start in range(0, num_images, size):
        yield slice(start, start + size)


def _of_samples(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns log p and p, (T, n, C), and the mean over samples of p's entropy, (n,)."""
    log_posterior = log_softmax(logits.astype(np.float64), axis=2)
    posterior = np.exp(log_posterior)
    return log_posterior, posterior, -(posterior * log_posterior).sum(axis=2).mean(axis=0)


def _joint_entropy(posterior: np.ndarray) -> float:
    """Returns the entropy of a set's labels, of all C^K labellings, from (T, K, C)."""
    joint = np.ones((len(posterior), 1))
    for of_image in posterior.swapaxes(0, 1):
        joint = (joint[:, :, None] * of_image[:, None, :]).reshape(len(joint), -1)
    mean = joint.mean(axis=0)
    return float(-xlogy(mean, mean).sum())


def _drawn_information(
    log_posterior: np.ndarray, posterior: np.ndarray, numbers: np.ndarray
) -> float:
    """Returns the mean of log p_t(y) − log mean_t' p_t'(y) over labellings y drawn from models t.

    Args:
        log_posterior: (T, K, C).
        posterior: (T, K, C).
        numbers: (draws, K) in [0, 1), which say what is drawn.
    """
    count, set_size, num_classes = posterior.shape
    model_of = np.arange(len(numbers)) % count
    cumulated = posterior.cumsum(axis=2)[model_of, :, :-1]  # (draws, K, C − 1)
    labels = (numbers[..., None] >= cumulated).sum(axis=2)
    chosen = np.zeros((len(numbers), set_size, num_classes))
    np.put_along_axis(chosen, labels[..., None], 1, axis=2)
    likely = chosen.reshape(len(numbers), -1) @ log_posterior.reshape(count, -1).T  # (draws, T)
    own = likely[np.arange(len(numbers)), model_of]
    return float(np.mean(own - logsumexp(likely, axis=1) + np.log(count)))
