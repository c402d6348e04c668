"""What least squares with a kernel learns from candidate sets on top of the labelled images.

With Θ the kernel, L the labelled images, S a set, R targets less what is predicted before, and
ridges Λ, the solution of least squares with S less the one without it is, at an image x,

    Δf(x) = (Θ_xS − Θ_xL A⁻¹ Θ_LS) D⁻¹ (R_S − Θ_SL A⁻¹ R_L),
    A = Θ_LL + Λ_L,    D = Θ_SS + Λ_S − Θ_SL A⁻¹ Θ_LS.

A is factored once for all sets, each D has the size of its set. Where the kernel is h·h' with
fewer entries than there are labelled images, a matrix of that size stands for A: with
P = H_Lᵀ H_L + λI,

    Θ_xx' − Θ_xL A⁻¹ Θ_Lx' = λ h(x)ᵀ P⁻¹ h(x'),    Θ_xL A⁻¹ R_L = h(x)ᵀ P⁻¹ H_Lᵀ R_L.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy import linalg

# Numbers of one matrix that are held at once where sets meet reference images. With some hundred
# images each set's share stays in a processor's cache, and its product is too small for threads.
MOST_VALUES = 1 << 20
MOST_BYTES = 1 << 33  # of what grows with the labelled images: some copies of it
_JITTERS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)

# (a,) and (b,) pool indices to the (a, b) kernel, an array that belongs to the caller.
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class LinearKernel:
    """The kernel h·h'.

    Attributes:
        features: h, (n, d) float64.
    """

    features: np.ndarray

    def __call__(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Returns the (a, b) kernel of (a,) and (b,) rows."""
        return self.features[one] @ self.features[other].T


class SetUpdates:
    """The factored systems of many candidate sets.

    Args:
        kernel: Function of (a,) and (b,) pool indices that returns the kernel, (a, b); the second
            ones are labelled or in a set.
        labelled: (l,) pool indices of L; there may be none.
        ridge: λ of all of L, above 0.
        sets: (M, K) pool indices, −1 as padding, which no system has.
        set_ridges: (M,) λ of each set's images, above 0.

    Attributes:
        used: (u,) pool indices of the images in sets, ascending.
        place: (M, K) where in `used` each image is, 0 for padding.
        real: (M, K) bool, False for padding.
        explained: (r, u), the coordinates of these images in what L explains, r = min(l, d).

    Raises:
        ValueError: A kernel is not finite or not positive definite, or its matrices are too large.
    """

    def __init__(
        self,
        kernel: Kernel,
        labelled: np.ndarray,
        ridge: float,
        sets: np.ndarray,
        set_ridges: np.ndarray,
    ) -> None:
        self.real = sets >= 0
        self.used, place = np.unique(sets[self.real], return_inverse=True)
        self.place = np.zeros(sets.shape, np.int64)
        self.place[self.real] = place
        is_wide = isinstance(kernel, LinearKernel) and len(labelled) > kernel.features.shape[1]
        size = kernel.features.shape[1] if is_wide else len(labelled)
        check_bytes(8 * size * (size + 2 * len(self.used)), len(labelled))
        self._size, learn = size, _ByFeatures if is_wide else _ByImages
        self._learnt = learn(kernel, labelled, ridge)
        self.explained = self._learnt.explain(self.used)
        within = [self._within(row, ridge) for row, ridge in zip(sets, set_ridges, strict=True)]
        self._within_factor = cholesky(np.stack(within))  # [M, K, K]

    def _within(self, row: np.ndarray, ridge: float) -> np.ndarray:
        """Returns a set's matrix D; rows and columns of padding are those of I."""
        found, real = np.eye(len(row)), np.flatnonzero(row >= 0)
        images = row[real]
        explained = self.explained[:, np.searchsorted(self.used, images)]
        left = self._learnt.left(images, images, explained, explained)
        found[np.ix_(real, real)] = left + ridge * np.eye(len(real))
        return found

    def by_labelled(self, values: np.ndarray) -> np.ndarray:
        """Returns (r, c) coordinates of (l, c) targets: times `explained` they are Θ_xL A⁻¹ R_L."""
        return self._learnt.learn(values)

    def innovations(self, labelled: np.ndarray, sets: np.ndarray) -> np.ndarray:
        """Returns R_S − Θ_SL A⁻¹ R_L of each set, (M, K, c), 0 for padding.

        Args:
            labelled: (l, c) R_L.
            sets: (M, K, c) R_S.
        """
        if not len(self.used):
            return np.zeros(sets.shape)
        expected = self.explained.T @ self.by_labelled(labelled)  # [u, c]
        return np.where(self.real[..., None], sets - expected[self.place], 0.0)

    def solve(self, innovations: np.ndarray) -> np.ndarray:
        """Returns D⁻¹ times each set's innovations, (M, K, c)."""
        half = np.linalg.solve(self._within_factor, innovations)
        return np.linalg.solve(np.swapaxes(self._within_factor, 1, 2), half)

    def blocks(self, references: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Yields what the update at some reference images is made of, in bounded memory.

        Args:
            references: (N,) pool indices of images x.

        Yields:
            Which of them, n at a time; (u, n), Θ_xU − Θ_xL A⁻¹ Θ_LU transposed; and (r, n), their
            coordinates in what L explains.
        """
        size = max(1, MOST_VALUES // max(1, len(self.used), self._size))
        for start in range(0, len(references), size):
            rows = slice(start, start + size)
            explained = self._learnt.explain(references[rows])
            left = self._learnt.left(references[rows], self.used, explained, self.explained)
            yield rows, np.ascontiguousarray(left.T), explained


class _ByImages:
    """What L explains of any kernel: G⁻¹ Θ_Lx, with G Gᵀ = A."""

    def __init__(self, kernel: Kernel, labelled: np.ndarray, ridge: float) -> None:
        self._kernel, self._labelled = kernel, labelled
        system = kernel(labelled, labelled).astype(np.float64, copy=False)
        system[np.diag_indices_from(system)] += ridge
        self._factor = cholesky(system)

    def learn(self, targets: np.ndarray) -> np.ndarray:
        """Returns G⁻¹ R_L, (l, c)."""
        return _solve(self._factor, targets.astype(np.float64))

    def explain(self, images: np.ndarray) -> np.ndarray:
        """Returns (l, n)."""
        found = self._kernel(images, self._labelled).astype(np.float64, copy=False)
        return _solve(self._factor, found.T)

    def left(
        self, one: np.ndarray, other: np.ndarray, of_one: np.ndarray, of_other: np.ndarray
    ) -> np.ndarray:
        """Returns the (a, b) kernel less what L explains of it."""
        found = self._kernel(one, other).astype(np.float64, copy=False)
        found -= of_one.T @ of_other
        return found


class _ByFeatures:
    """What L explains of the kernel h·h': G⁻¹ h(x), with G Gᵀ = P."""

    def __init__(self, kernel: LinearKernel, labelled: np.ndarray, ridge: float) -> None:
        self._features, self._own = kernel.features, kernel.features[labelled]
        system = self._own.T @ self._own
        system[np.diag_indices_from(system)] += ridge
        self._factor, jitter = _factored(system)
        self._ridge = ridge + jitter  # as if it had been the ridge

    def learn(self, targets: np.ndarray) -> np.ndarray:
        """Returns G⁻¹ H_Lᵀ R_L, (d, c)."""
        return _solve(self._factor, self._own.T @ targets)

    def explain(self, images: np.ndarray) -> np.ndarray:
        """Returns (d, n)."""
        return _solve(self._factor, self._features[images].T)

    def left(
        self, one: np.ndarray, other: np.ndarray, of_one: np.ndarray, of_other: np.ndarray
    ) -> np.ndarray:
        """Returns the (a, b) kernel less what L explains of it."""
        return self._ridge * (of_one.T @ of_other)


def check_bytes(count: float, labelled: int) -> None:
    """Raises `ValueError` if matrices of so many bytes are more than a choice may hold."""
    if count > MOST_BYTES:
        raise ValueError(
            f"kernel: expected matrices of at most {MOST_BYTES:,} bytes, got {count:,} with "
            f"{labelled:,} labelled images; take a kernel that is linear in the features (of "
            f"lookahead 'head', of gp-emoc 'linear'), or fewer candidate sets"
        )


def cholesky(matrices: np.ndarray) -> np.ndarray:
    """Returns lower Cholesky factors of (..., n, n) symmetric matrices; one alone is overwritten.

    Where rounding has made eigenvalues negative a little of the mean diagonal is added: as little
    as does, from 1e-12 of it on.

    Raises:
        ValueError: A matrix is not finite, or 1e-4 of its diagonal does not do.
    """
    if matrices.ndim == 2:
        return _factored(matrices)[0]
    if np.isfinite(matrices).all():
        try:
            return np.linalg.cholesky(matrices)
        except np.linalg.LinAlgError:
            pass
    return np.stack([cholesky(matrix.copy()) for matrix in matrices])


def _factored(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the factor, in the memory of the matrix, and what was added to the diagonal."""
    if not np.isfinite(matrix).all():
        raise ValueError("kernel: expected finite values; features or gradients overflow")
    size = len(matrix)
    if not size:
        return matrix, 0.0
    diagonal = np.diag(matrix).copy()
    matrix = matrix.T  # as columns, which Lapack overwrites
    for jitter in _JITTERS:
        added = jitter * diagonal.mean()
        matrix[np.diag_indices(size)] = diagonal + added
        factor, info = linalg.lapack.dpotrf(matrix, lower=True, clean=False, overwrite_a=True)
        if info == 0:
            for row in range(size):
                factor[row, row + 1 :] = 0
            return factor, added
        for row in range(size):  # above the diagonal all is as it was
            matrix[row, :row] = matrix[:row, row]
    raise ValueError(
        "kernel: expected a positive definite matrix up to rounding; a larger ridge would help"
    )


def _solve(factor: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Returns factor⁻¹ times (r, n) values, which may be overwritten."""
    if not values.size:
        return values
    return linalg.lapack.dtrtrs(factor, values, lower=True, overwrite_b=True)[0]


def linear_kernel(features: np.ndarray) -> LinearKernel:
    """Returns the kernel h·h' of (n, d) features."""
    return LinearKernel(features)
