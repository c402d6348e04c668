"""How far images are from the nearest labelled one, in the space of the head's inputs."""

import numpy as np
from threadpoolctl import threadpool_limits

_BLOCK = 1 << 20  # numbers in one array: large ones are given back to the system and taken anew
_FEW = 8  # images that may be the nearest, on average


class NearestLabelled:
    """Distances to the nearest labelled images, kept from step to step.

    A step adds a few labelled images: where the features are those of the step before, as those of
    frozen layers are, only these are new to an image. What was kept changes no bit.
    """

    def __init__(self) -> None:
        self._features = np.empty((0, 0), np.float32)
        self._forget()

    def _forget(self) -> None:
        self._met = np.empty(0, np.int64)  # labelled images, in the order in which they came
        self._found = np.full(len(self._features), np.inf)
        self._count = np.zeros(len(self._features), np.int64)  # how many of them were looked at
        # A power of two changes no digit, and keeps squares finite.
        largest = max(
            (float(np.abs(block).max(initial=0)) for block in _blocks(self._features)), default=0.0
        )
        self._scale = float(np.ldexp(1.0, np.frexp(largest)[1]))

    def distances(
        self, features: np.ndarray, images: np.ndarray, labelled: np.ndarray
    ) -> np.ndarray:
        """Returns the distance of each of some images to the nearest labelled one, (n,) float64.

        Args:
            features: (n_pool, d), finite.
            images: (n,) different rows of it.
            labelled: (m,) rows of it, m > 0.

        Returns:
            Relative to a number that is the same for all images of the pool.
        """
        same = _equal(self._features, features)
        self._features = features  # the array of the step before need not be kept
        if not same or not np.isin(self._met, labelled).all():
            self._forget()
        self._met = np.concatenate([self._met, np.setdiff1d(labelled, self._met)])
        behind = len(self._met) - self._count[images]
        # Images that are behind by about as much go together, however many steps there were.
        size = np.frexp(behind)[1]
        for each in np.unique(size[behind > 0]):
            rows = images[size == each]
            missing = self._met[self._count[rows].min() :]
            nearest = _nearest(features, rows, missing, self._scale)
            self._found[rows] = np.minimum(self._found[rows], nearest)
        self._count[images] = len(self._met)
        return self._found[images]


def _blocks(features: np.ndarray) -> list[np.ndarray]:
    rows = max(1, _BLOCK // max(1, features.shape[1]))
    return [features[start : start + rows] for start in range(0, len(features), rows)]


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one is other or (
        one.shape == other.shape and all(map(np.array_equal, _blocks(one), _blocks(other)))
    )


def _nearest(
    features: np.ndarray, images: np.ndarray, others: np.ndarray, scale: float
) -> np.ndarray:
    """Returns the distance of each of some images to the nearest of others, (n,) float64.

    A product in float32 leaves out all others that are farther than its rounding can hide; the
    rest is measured in float64. The product alone would cancel where images are alike.

    Args:
        features: (n_pool, d).
        images: (n,) rows of it.
        others: (m,) rows of it.
        scale: What features are divided by.
    """
    rows = max(1, _BLOCK // max(features.shape[1], len(others)))
    theirs = features[others].astype(np.float64) / scale
    middle = theirs.mean(axis=0)
    columns = (theirs - middle).astype(np.float32).T
    halves = np.square(columns).sum(axis=0) / 2
    longest = np.sqrt(2 * halves.max())
    rounding = (len(columns) + 4) * np.finfo(np.float32).eps
    found = []
    with threadpool_limits(1):  # threads cost more than they bring, where cores are busy
        for start in range(0, len(images), rows):
            own = features[images[start : start + rows]].astype(np.float64) / scale
            centred = (own - middle).astype(np.float32)
            half = halves - centred @ columns  # of the square, less what all columns share
            lengths = np.sqrt(np.square(centred).sum(axis=1))
            slack = 2 * rounding * longest * (lengths + longest)
            row, column = np.nonzero(half <= (half.min(axis=1) + slack)[:, None])
            if len(row) > _FEW * len(own):  # nearly alike
                shifted = theirs - middle
                half = np.square(shifted).sum(axis=1) / 2 - (own - middle) @ shifted.T
                row, column = np.arange(len(own)), half.argmin(axis=1)
            exact = np.linalg.norm(own[row] - theirs[column], axis=1)
            firsts = np.searchsorted(row, np.arange(len(own)))
            found.append(np.minimum.reduceat(exact, firsts))
    return np.concatenate(found)
