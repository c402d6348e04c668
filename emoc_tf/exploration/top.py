"""The sampler `top`: candidate sets of the images that a policy wants most.

With it, policies can be compared with choosing K single images, and with batches that are spread.
"""

import numpy as np
from sklearn.cluster import kmeans_plusplus
from threadpoolctl import threadpool_limits

from emoc_tf import uncertainty
from emoc_tf.exploration.candidates import SamplerInputs, uniform

# Batches are drawn from the SHORTLIST · K best images.
SHORTLIST = 10


def top(inputs: SamplerInputs) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Returns sets and mask: first the K best images, then spread batches, then random sets.

    What is best is told by `inputs.image_scores`; where they are None, the entropy of the
    posteriors tells it. Equal images are in random order. Of the other sets, at most half of M are
    drawn by k-means++ among the 10·K best images: on features, weighted by how much better an image
    is than the last of those. The rest are sets as `uniform` draws them. No set is there twice.

    Where fewer than K images wait, all of them are one short set.

    Raises:
        ValueError: The scores are no numbers, see `SamplerInputs.image_scores`.
    """
    scores = inputs.image_scores
    if scores is None:
        scores = _entropy(inputs)
    mixed = inputs.rng.permutation(len(scores))
    best = mixed[np.argsort(-scores[mixed], kind="stable")][: SHORTLIST * inputs.set_size]
    rows = [best[: inputs.set_size], *_spread(inputs, best, scores[best])]
    # Each once, in the order in which they were found.
    sets = dict.fromkeys(tuple(np.sort(inputs.waiting[row]).tolist()) for row in rows)
    found = 0
    while found < len(sets) < inputs.num_sets:
        found = len(sets)
        others, mask = uniform(inputs)
        sets |= dict.fromkeys(map(tuple, others[mask].tolist()))
    chosen = list(sets)[: inputs.num_sets]
    return chosen, np.ones(len(chosen), bool)


def _entropy(inputs: SamplerInputs) -> np.ndarray:
    """Returns the entropy of each waiting image, (n,); zeros where no class is known."""
    posterior = inputs.probabilities[inputs.waiting].astype(np.float64)
    return uncertainty.entropy(posterior) if posterior.shape[1] else np.zeros(len(posterior))


def _spread(inputs: SamplerInputs, best: np.ndarray, scores: np.ndarray) -> list[np.ndarray]:
    """Returns batches of K of the best images, rows of `inputs.waiting`, by weighted k-means++.

    Args:
        inputs: Of the sampler.
        best: (m,) rows of `inputs.waiting`, the best first.
        scores: (m,) of these.
    """
    size, count = inputs.set_size, min(inputs.num_sets // 2, inputs.num_sets - 1)
    if len(best) <= size:
        return []
    features = inputs.features[inputs.waiting[best]].astype(np.float64)
    norms, weights, batches = (features**2).sum(axis=1), _weights(scores), []
    with threadpool_limits(1):  # several threads would give other bits from run to run
        for seed in inputs.rng.integers(2**31 - 1, size=count).tolist():
            _, drawn = kmeans_plusplus(
                features, size, sample_weight=weights, x_squared_norms=norms, random_state=seed
            )
            # Where all images left are equal to drawn ones, or weigh nothing, it repeats itself.
            batches.append(best[list(dict.fromkeys([*drawn.tolist(), *range(len(best))]))[:size]])
    return batches


def _weights(scores: np.ndarray) -> np.ndarray:
    """Returns weights in [0, 1]: 0 for the lowest score, 1 for the highest; all 1 if equal."""
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return (scores == scores.max()).astype(np.float64)
    # Infinite scores are as good as the most extreme of the others; halves cannot overflow.
    halves = np.clip(scores, finite.min(), finite.max()) / 2
    spread = np.ptp(halves)
    if not spread > 0:
        return np.ones(len(scores))
    with np.errstate(over="ignore"):  # NumPy 1 divides a few numbers beside the array, too
        return (halves - halves.min()) / spread
