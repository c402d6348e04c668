"""What least squares with a kernel learns from candidate sets on top of the labelled images.

With Θ the kernel, L the labelled images, S a set, R targets less what is predicted before, and
ridges Λ, the solution of least squares with S less the one without it is, at an image x,

    Δf(x) = (Θ_xS − Θ_xL A⁻¹ Θ_LS) D⁻¹ (R_S − Θ_SL A⁻¹ R_L),
    A = Θ_LL + Λ_L,    D = Θ_SS + Λ_S − Θ_SL A⁻¹ Θ_LS.

A is factored once for all sets, each D has the size of its set.
"""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.linalg import solve_triangular

# Numbers of one matrix that are held at once where sets meet reference images. With some hundred
# images each set's share stays in a processor's cache, and its product is too small for threads.
MOST_VALUES = 1 << 20
_JITTERS = (0.0, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)

# (a,) and (b,) pool indices to the (a, b) kernel.
Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]


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
        explained: (l, u), with G Gᵀ = A the part G⁻¹ Θ_LU that L explains.
    """

    def __init__(
        self,
        kernel: Kernel,
        labelled: np.ndarray,
        ridge: float,
        sets: np.ndarray,
        set_ridges: np.ndarray,
    ) -> None:
        self._kernel, self._labelled = kernel, labelled
        self.real = sets >= 0
        self.used, place = np.unique(sets[self.real], return_inverse=True)
        self.place = np.zeros(sets.shape, np.int64)
        self.place[self.real] = place
        own = kernel(labelled, labelled).astype(np.float64)
        self._factor = cholesky(own + ridge * np.eye(len(labelled)))
        self.explained = self.by_labelled(kernel(labelled, self.used))
        within = [self._within(row, ridge) for row, ridge in zip(sets, set_ridges, strict=True)]
        self._within_factor = cholesky(np.stack(within))  # [M, K, K]

    def _within(self, row: np.ndarray, ridge: float) -> np.ndarray:
        """Returns a set's matrix D; rows and columns of padding are those of I."""
        found, real = np.eye(len(row)), np.flatnonzero(row >= 0)
        images = row[real]
        explained = self.explained[:, np.searchsorted(self.used, images)]
        left = kernel_minus(self._kernel(images, images), explained, explained)
        found[np.ix_(real, real)] = left + ridge * np.eye(len(real))
        return found

    def by_labelled(self, values: np.ndarray) -> np.ndarray:
        """Returns G⁻¹ times (l, n) values, with G Gᵀ = A."""
        if not len(values):
            return values.astype(np.float64)
        return solve_triangular(self._factor, values.astype(np.float64), lower=True)

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
            Which of them, n at a time; (u, n), Θ_xU − Θ_xL A⁻¹ Θ_LU transposed; and (l, n), the
            part G⁻¹ Θ_Lx that L explains.
        """
        size = max(1, MOST_VALUES // max(1, len(self.used), len(self._labelled)))
        for start in range(0, len(references), size):
            rows = slice(start, start + size)
            explained = self.by_labelled(self._kernel(references[rows], self._labelled).T)
            left = kernel_minus(
                self._kernel(references[rows], self.used).T, self.explained, explained
            )
            yield rows, left, explained


def kernel_minus(kernel: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns (a, b) values of a kernel less the part that is explained, oneᵀ · other."""
    return kernel.astype(np.float64) - one.T @ other


def cholesky(matrices: np.ndarray) -> np.ndarray:
    """Returns lower Cholesky factors of (..., n, n) symmetric matrices.

    Where rounding has made eigenvalues negative a little of the mean diagonal is added: as little
    as does, from 1e-12 of it on.

    Raises:
        ValueError: A matrix is not finite, or 1e-4 of its diagonal does not do.
    """
    if not np.isfinite(matrices).all():
        raise ValueError("kernel: expected finite values; features or gradients overflow")
    if matrices.ndim > 2:
        try:
            return np.linalg.cholesky(matrices)
        except np.linalg.LinAlgError:
            return np.stack([cholesky(matrix) for matrix in matrices])
    size = len(matrices)
    scale = np.trace(matrices) / max(1, size)
    for jitter in _JITTERS:
        try:
            return np.linalg.cholesky(matrices + jitter * scale * np.eye(size))
        except np.linalg.LinAlgError:
            continue
    raise ValueError(
        "kernel: expected a positive definite matrix up to rounding; a larger ridge would help"
    )


def linear_kernel(features: np.ndarray) -> Kernel:
    """Returns the kernel h·h' of (n, d) features."""
    return lambda one, other: features[one] @ features[other].T
