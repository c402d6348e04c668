"""Candidate sets of images that look alike to the network: samplers on k-means clusters.

`cluster` finds its clusters anew at each step. `MiniBatchCluster` keeps the centres from step to
step and moves them by a sample of the images, for pools of a hundred thousand.
"""

from collections.abc import Mapping

import numpy as np
from sklearn.cluster import KMeans, MiniBatchKMeans
from threadpoolctl import threadpool_limits

from emoc_tf.exploration.candidates import SamplerInputs, uniform, within

# Waiting images above which clusters are found from mini-batches: thousands of clusters among a
# hundred thousand images take minutes otherwise, at each step.
MANY = 20_000
# Waiting images above which sets of a single image are drawn without clusters.
MANY_SINGLES = 2000

# Images a cluster, on average, that its centre is found by at first, and moved by at each step.
BEGIN, UPDATE = 20, 10
_BATCH = 4096
_BLOCK = 1 << 20  # numbers in one array: large ones are given back to the system and taken anew


def cluster(inputs: SamplerInputs) -> tuple[np.ndarray, np.ndarray]:
    """Returns sets and mask, see `sample`: images whose features lie in one k-means cluster."""
    clusters = _number_of(inputs)
    if clusters == 1:
        return uniform(inputs)
    features = inputs.features[inputs.waiting]
    settings = {"n_init": 1, "random_state": inputs.seed}
    kmeans = KMeans(clusters, **settings)
    if len(features) > MANY:  # k-means++ would take minutes to begin with
        kmeans = MiniBatchKMeans(clusters, init="random", **settings)
    with threadpool_limits(1):  # several threads would give other bits from run to run
        groups = kmeans.fit_predict(features)
    return within(groups, inputs)


class MiniBatchCluster:
    """The sampler whose clusters are those of the step before, moved by mini-batch k-means.

    At the first step centres are found by 20 images a cluster. At each step after it they are moved
    by 10, and count as much as these, since the network's features move too. Centres that lost
    all their images begin anew at random ones. After D. Sculley, "Web-scale k-means clustering",
    2010. Each image then belongs to the nearest centre, and sets are drawn as by `cluster`.

    What it keeps is a function of the steps so far, and is saved with the episode.
    """

    def __init__(self) -> None:
        self._centres: np.ndarray | None = None  # (k, d)
        self._sizes = np.zeros(0, np.int64)  # images of each when they were moved last
        self._step = -1  # when that was

    def __call__(self, inputs: SamplerInputs) -> tuple[np.ndarray, np.ndarray]:
        """Returns sets and mask, see `sample`."""
        if _number_of(inputs) == 1:
            return uniform(inputs)
        features, waiting = inputs.features, inputs.waiting
        if self._centres is None or self._step != inputs.step:
            self._centres = self._moved(features, waiting, _number_of(inputs), inputs.seed)
            self._step = inputs.step
            groups = nearest(features, waiting, self._centres)
            self._sizes = np.bincount(groups, minlength=len(self._centres))
        else:  # sets are drawn once more, since other images wait now
            groups = nearest(features, waiting, self._centres)
            counts = np.bincount(groups, minlength=len(self._centres))
            if counts.max() < inputs.set_size:  # too few are left for so many clusters
                largest = np.argsort(-counts, kind="stable")[: _number_of(inputs)]
                groups = nearest(features, waiting, self._centres[np.sort(largest)])
        return within(groups, inputs)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Returns what is kept from step to step."""
        if self._centres is None:
            return {}
        return {"centres": self._centres, "sizes": self._sizes, "step": np.array(self._step)}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `get_arrays` returned."""
        self.__init__()
        if arrays:
            self._centres, self._sizes = arrays["centres"], arrays["sizes"]
            self._step = int(arrays["step"])

    def _moved(
        self, features: np.ndarray, waiting: np.ndarray, clusters: int, seed: int
    ) -> np.ndarray:
        """Returns the centres of this step, (clusters, d), from those there are.

        Args:
            features: (n_pool, d).
            waiting: (n,) rows of it, n at least `clusters`.
            clusters: How many.
            seed: Of what is random.
        """
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(waiting))
        kept = self._centres
        if kept is None or kept.shape[1] != features.shape[1]:
            kept = features[:0]
        else:  # the largest, none that is empty, in their order
            largest = np.argsort(-self._sizes, kind="stable")[:clusters]
            kept = kept[np.sort(largest[self._sizes[largest] > 0])]
        start = np.concatenate([kept, features[waiting[order[: clusters - len(kept)]]]])
        kmeans = MiniBatchKMeans(clusters, init=start, n_init=1, random_state=seed)
        each = UPDATE if len(kept) else BEGIN
        some = np.sort(rng.choice(len(waiting), min(len(waiting), each * clusters), False))
        some = rng.permutation(some)
        # A first batch must have as many images as there are clusters.
        parts = max(1, len(some) // max(_BATCH, clusters))
        with threadpool_limits(1):  # several threads would give other bits from run to run
            if len(kept):
                weights = np.where(np.arange(clusters) < len(kept), UPDATE, 1)
                kmeans.partial_fit(start, sample_weight=weights.astype(features.dtype))
            for batch in np.array_split(some, parts):
                kmeans.partial_fit(features[waiting[batch]])
        return kmeans.cluster_centers_


def nearest(features: np.ndarray, images: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Returns the nearest centre of some images, (n,); of equally near ones the first.

    Args:
        features: (n_pool, d).
        images: (n,) rows of it.
        centres: (k, d).
    """
    halves, found = np.square(centres).sum(axis=1) / 2, np.empty(len(images), np.int64)
    rows = max(1, _BLOCK // max(centres.shape))
    for start in range(0, len(images), rows):
        part = slice(start, start + rows)
        product = features[images[part]] @ centres.T
        found[part] = np.subtract(halves, product, out=product).argmin(axis=1)
    return found


def _number_of(inputs: SamplerInputs) -> int:
    """Returns how many clusters there are to be; 1 where they are not worth the time."""
    # On average 2K images a cluster, so that at least one cluster can form a set.
    clusters = max(1, len(inputs.waiting) // (2 * inputs.set_size))
    single = inputs.set_size == 1 and len(inputs.waiting) > MANY_SINGLES
    return 1 if single else clusters
