"""Candidate sets: M sets of K unlabelled images, each set drawn within one group of images.

The samplers differ only in their groups: true classes (`single_class`, the paper's), k-means
clusters of the network's features (`cluster`), or all images in one (`uniform`).
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig

PADDING = -1


@dataclass(frozen=True, eq=False)
class GroupingInputs:
    """What a sampler may look at.

    Attributes:
        unlabelled: (n,) indices into the pool.
        true_labels: (n_pool,) class ids; only for building sets.
        features: (n_pool, d), the inputs of the network's head.
        set_size: K.
        rng: The generator of this step's grouping.
    """

    unlabelled: np.ndarray
    true_labels: np.ndarray
    features: np.ndarray
    set_size: int
    rng: np.random.Generator


def _by_class(inputs: GroupingInputs) -> np.ndarray:
    return inputs.true_labels[inputs.unlabelled]


def _together(inputs: GroupingInputs) -> np.ndarray:
    return np.zeros(len(inputs.unlabelled), np.int64)


def _by_cluster(inputs: GroupingInputs) -> np.ndarray:
    # On average 2K images a cluster, so that at least one cluster can form a set.
    clusters = max(1, len(inputs.unlabelled) // (2 * inputs.set_size))
    if clusters == 1:
        return _together(inputs)
    features = inputs.features[inputs.unlabelled]
    seed = int(inputs.rng.integers(2**31 - 1))
    with threadpool_limits(1):  # several threads would give other bits from run to run
        return KMeans(clusters, n_init=1, random_state=seed).fit_predict(features)


SAMPLERS: dict[str, Callable[[GroupingInputs], np.ndarray]] = {
    "single_class": _by_class,
    "uniform": _together,
    "cluster": _by_cluster,
}


def draw(
    config: ExplorationConfig,
    root: int,
    step: int,
    unlabelled: np.ndarray,
    true_labels: np.ndarray,
    features: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the candidate sets of a step as the configuration says.

    Args:
        config: `sampler`, M and K.
        root: Of the episode.
        step: Whose sets they are.
        unlabelled: (n,) indices into the pool.
        true_labels: (n_pool,) class ids.
        features: (n_pool, d).

    Returns:
        Sets and mask; see `sample`.
    """
    groups = np.empty(0, np.int64)
    if len(unlabelled):
        rng = streams.generator(root, step, "groups")
        inputs = GroupingInputs(unlabelled, true_labels, features, config.set_size, rng)
        groups = SAMPLERS[config.sampler](inputs)
    rng = streams.generator(root, step, "candidates")
    return sample(rng, unlabelled, groups, config.num_candidate_sets, config.set_size)


def sample(
    rng: np.random.Generator,
    indices: np.ndarray,
    groups: np.ndarray,
    num_sets: int,
    set_size: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws candidate sets: a group uniformly among those with K images left, then K of them.

    Sets are drawn independently, so that near a group's end some may be alike. Only where fewer
    than M different sets can be formed at all is each of them given once.

    Args:
        rng: The generator to draw from.
        indices: (n,) pool indices of the unlabelled images.
        groups: (n,) group of each.
        num_sets: M.
        set_size: K.

    Returns:
        sets (M, K) int64 pool indices, ascending in each set; and mask (M,) bool, which sets are
        real. The others are −1 and come last; if no group has K images, all are.
    """
    sets, mask = np.full((num_sets, set_size), PADDING, np.int64), np.zeros(num_sets, bool)
    members = [np.sort(indices[groups == group]) for group in np.unique(groups)]
    members = [group for group in members if len(group) >= set_size]
    if not members:
        return sets, mask
    if sum(math.comb(len(group), set_size) for group in members) < num_sets:
        possible = [one for group in members for one in itertools.combinations(group, set_size)]
        # Mixed, so that the place of a set tells nothing about its class.
        drawn = list(rng.permutation(possible))
    else:
        choices = rng.integers(len(members), size=num_sets)
        drawn = [np.sort(rng.choice(members[i], set_size, replace=False)) for i in choices]
    sets[: len(drawn)], mask[: len(drawn)] = drawn, True
    return sets, mask
