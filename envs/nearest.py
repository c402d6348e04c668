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

    A product in float32 leaves out all others that are farther than its rounding can hide; where
    these are many, one in float64 does. The rest is measured one by one: a product alone would
    cancel where images are alike, and its bits are others beside other images.

    Args:
        features: (n_pool, d).
        images: (n,) rows of it.
        others: (m,) rows of it.
        scale: What features are divided by.
    """
    rows = max(1, _BLOCK // max(features.shape[1], len(others)))
    theirs = features[others].astype(np.float64) / scale
    single, double = _Near(theirs, np.float32), None
    found = []
    with threadpool_limits(1):  # threads cost more than they bring, where cores are busy
        for start in range(0, len(images), rows):
            own = features[images[start : start + rows]].astype(np.float64) / scale
            near, (row, column) = single, single.pairs(own)
            if len(row) > _FEW * len(own):  # nearly alike
                near = double = double or _Near(_different(theirs), np.float64)
                row, column = near.pairs(own)
            firsts = np.searchsorted(row, np.arange(len(own)))
            found.append(np.minimum.reduceat(_between(own, row, near.others, column), firsts))
    return np.concatenate(found)


def _different(rows: np.ndarray) -> np.ndarray:
    """Returns rows, each once: of many copies all may be the nearest."""
    return rows[list({row.tobytes(): i for i, row in enumerate(rows)}.values())]


class _Near:
    """Which of others may be the nearest, as far as a product tells.

    Args:
        others: (m, d) float64.
        kind: Of the product.
    """

    def __init__(self, others: np.ndarray, kind: type[np.floating]) -> None:
        self.others, self._middle = others, others.mean(axis=0)
        self._columns = (others - self._middle).astype(kind).T
        self._halves = np.square(self._columns).sum(axis=0) / 2
        self._longest = np.sqrt(2 * self._halves.max())
        self._rounding = (len(self._columns) + 4) * np.finfo(kind).eps

    def pairs(self, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns rows of `own`, (n, d), in order, and of the others: at least one for each."""
        centred = (own - self._middle).astype(self._columns.dtype)
        half = self._halves - centred @ self._columns  # of the square, less what all columns share
        lengths = np.sqrt(np.square(centred).sum(axis=1))
        slack = 2 * self._rounding * self._longest * (lengths + self._longest)
        row, column = np.nonzero(half <= (half.min(axis=1) + slack)[:, None])
        return row, column


def _between(
    own: np.ndarray, row: np.ndarray, others: np.ndarray, column: np.ndarray
) -> np.ndarray:
    """Returns the distances of pairs of rows, with the bits that each pair has alone."""
    size = max(1, _BLOCK // max(1, own.shape[1]))
    parts = [slice(start, start + size) for start in range(0, len(row), size)]
    return np.concatenate(
        [np.linalg.norm(own[row[part]] - others[column[part]], axis=1) for part in parts]
    )
