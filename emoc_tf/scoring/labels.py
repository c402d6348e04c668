"""Which labels a candidate set is scored under."""

from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.special import log_softmax, softmax

from emoc_tf.scoring.checks import check_labels


def used_images(sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images that are in a set, ascending, and the sets as indices of these, (M, K)."""
    real, inside = sets >= 0, np.full(sets.shape, -1)
    used, inside[real] = np.unique(sets[real], return_inverse=True)
    return used, inside


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


class SetPairs(NamedTuple):
    """The (image, label) pairs in candidate sets, each there once.

    Attributes:
        image_of: (pairs,) their images, ascending.
        label_of: (pairs,) their labels; C stands for a class that has no output yet.
        weights: (M, pairs) what each pair adds to each set; (M, groups) if there are groups.
        groups: (groups, pairs) how often each pair is in each group, whose gradients are added up
            before output changes are measured; None if each pair's is.
    """

    image_of: np.ndarray
    label_of: np.ndarray
    weights: sparse.csr_array
    groups: sparse.csr_array | None


def pairs_of_sets(
    logits: np.ndarray,
    sets: np.ndarray,
    labels: str | np.ndarray,
    set_weights: np.ndarray,
    unseen: np.ndarray | None,
) -> SetPairs:
    """Returns the pairs in sets; an image may be in several sets under different labels.

    Args:
        logits: (n, C), of the images that `sets` points into.
        sets: (M, K) indices, −1 as padding.
        labels: As in `EMOCScorer.set_scores`.
        set_weights: (M,) that the sets' scores are multiplied by.
        unseen: (M,) how likely each set is of a class that has no output yet; None for 0.
    """
    real = sets >= 0
    image, set_of, num_classes = sets[real], np.nonzero(real)[0], logits.shape[1]
    images = image, set_of
    share = np.ones(len(image))
    if isinstance(labels, str) and labels == "expected":
        posterior = softmax(logits.astype(np.float64), axis=1)
        set_of = np.repeat(set_of, num_classes)
        share = posterior[image].ravel()
        label = np.tile(np.arange(num_classes), len(image))
        image = np.repeat(image, num_classes)
    elif isinstance(labels, str) and labels == "image":
        label = logits.argmax(axis=1)[image]
    elif isinstance(labels, str):
        label = most_likely_set_labels(logits, sets)[set_of]
    else:
        label = check_labels(labels, len(sets), num_classes)[set_of]
    group_of = set_of
    if unseen is not None:
        known, new = (1 - unseen[set_of]) > 0, unseen[images[1]] > 0
        share = share * (1 - unseen[set_of])
        image = np.concatenate([image[known], images[0][new]])
        label = np.concatenate([label[known], np.full(new.sum(), num_classes)])
        share = np.concatenate([share[known], unseen[images[1][new]]])
        group_of = np.concatenate([set_of[known], len(sets) + images[1][new]])
        set_of = np.concatenate([set_of[known], images[1][new]])
    share = share * set_weights[set_of]
    code, pair_of = np.unique(image * (num_classes + 1) + label, return_inverse=True)
    image_of, label_of = np.divmod(code, num_classes + 1)
    if not (isinstance(labels, str) and labels == "joint"):
        weights = sparse.csr_array((share, (set_of, pair_of)), shape=(len(sets), len(code)))
        return SetPairs(image_of, label_of, weights, None)
    found = sparse.csr_array(
        (np.ones(len(pair_of)), (group_of, pair_of)), shape=(2 * len(sets), len(code))
    )
    _, first = np.unique(group_of, return_index=True)  # one share a group
    group_of, set_of, share = group_of[first], set_of[first], share[first]
    groups, which = _distinct(found[group_of])
    weights = sparse.csr_array((share, (set_of, which)), shape=(len(sets), groups.shape[0]))
    return SetPairs(image_of, label_of, weights, groups)


def _distinct(rows: sparse.csr_array) -> tuple[sparse.csr_array, np.ndarray]:
    """Returns the rows that differ, in order of their first, and which of these each row is."""
    rows.sort_indices()
    seen: dict[tuple[bytes, bytes], int] = {}
    which = np.empty(rows.shape[0], np.int64)
    for index, (start, end) in enumerate(zip(rows.indptr, rows.indptr[1:], strict=False)):
        key = rows.indices[start:end].tobytes(), rows.data[start:end].tobytes()
        which[index] = seen.setdefault(key, len(seen))
    _, first = np.unique(which, return_index=True)
    return rows[first], which
