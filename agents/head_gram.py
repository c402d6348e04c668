"""Gradients of a model's last, linear layer, and inner products of them, in factorised form.

The gradient of an image's cross-entropy under a label y with respect to the head is r ⊗ h, with
r = p − e_y and h the head's input. An image's Jacobian V has the columns √p_y·(p − e_y) ⊗ h, so
that V Vᵀ = (diag p − ppᵀ) ⊗ hhᵀ, its Fisher information. None is ever formed for many images.

Axis letters: n images, M sets, K images a set, C outputs, d entries of h, D = C·d.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from emoc_tf.exploration.state import ExplorationState
from emoc_tf.models.graphs import last_operation, unwrapped

# Of one array. A constant, never free memory: blocks decide the order of summation.
BLOCK_BYTES = 1 << 28


def head_inputs(
    state: ExplorationState, *, standardised: bool = False, components: int | None = None
) -> np.ndarray:
    """Returns h of all images of the pool, (n_pool, d) float64, with a last 1 if there is a bias.

    Args:
        state: With the features.
        standardised: Whether the features are divided by their root mean square over the pool, one
            number for all of them, so that a prior on the head means the same for any network.
        components: Of how many principal directions of the pool's features, through 0, there are
            coordinates; None, or no fewer than there are features, for the features themselves.
    """
    features = state.features.astype(np.float64)
    scale = np.sqrt(np.mean(features**2)) if standardised and features.size else 0.0
    if scale > 0:
        features /= scale
    if components is not None and components < features.shape[1]:
        _, directions = np.linalg.eigh(features.T @ features)  # ascending
        features = features @ directions[:, -components:]
    if last_operation(unwrapped(state.model)).use_bias:
        features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    return features


def posteriors(state: ExplorationState) -> np.ndarray:
    """Returns p of all images of the pool, (n_pool, C) float64, whose sums are 1 to all digits."""
    probabilities = state.probabilities.astype(np.float64)
    if not probabilities.shape[1]:
        return probabilities
    return probabilities / probabilities.sum(axis=1, keepdims=True)


def residuals(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns r = p − e_y, (n, C).

    Args:
        probabilities: (n, C) float64.
        labels: (n,) columns y.
    """
    rows, found = np.arange(len(labels)), probabilities.copy()
    found[rows, labels] = 0
    # p_y − 1 would be a difference of nearly equal numbers where p_y is close to 1.
    found[rows, labels] = -found.sum(axis=1)
    return found


def gradient_grams(residuals: np.ndarray, inputs: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns the inner products (r_k·r_l)(h_k·h_l) of each set's head gradients, (M, K, K).

    Args:
        residuals: r, (n, C).
        inputs: h, (n, d).
        sets: (M, K) row numbers, −1 as padding, whose products are 0.
    """
    grams = np.empty((len(sets), sets.shape[1], sets.shape[1]))
    size = max(
        1, BLOCK_BYTES // (8 * max(1, sets.shape[1] * (residuals.shape[1] + inputs.shape[1])))
    )
    for start in range(0, len(sets), size):
        some = sets[start : start + size]
        r = np.where((some >= 0)[..., None], residuals[some], 0)
        h = inputs[some]
        grams[start : start + size] = (r @ r.swapaxes(1, 2)) * (h @ h.swapaxes(1, 2))
    return grams


def fisher(probabilities: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """Returns the sum of V Vᵀ over images, (D, D), in blocks by class.

    Args:
        probabilities: p, (n, C), n of any size.
        inputs: h, (n, d).
    """
    count, num_classes = probabilities.shape
    size = inputs.shape[1]
    total = np.zeros((num_classes, size, num_classes, size))
    rows = max(1, BLOCK_BYTES // (8 * max(1, num_classes * size)))
    for start in range(0, count, rows):
        p, h = probabilities[start : start + rows], inputs[start : start + rows]
        both = (p[:, :, None] * h[:, None, :]).reshape(len(p), -1)
        total.reshape(num_classes * size, -1)[...] -= both.T @ both
        for c in range(num_classes):
            total[c, :, c] += (p[:, c, None] * h).T @ h
    return total.reshape(num_classes * size, num_classes * size)


def jacobian_grams(
    matrices: Sequence[np.ndarray],
    probabilities: np.ndarray,
    inputs: np.ndarray,
    sets: np.ndarray,
) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Yields the products V_Sᵀ Q V_S of some sets, (b, C·K, C·K) for each matrix Q.

    V_S has all columns of a set's V side by side, those of a label together. Rows and columns of
    padding are 0.

    Args:
        matrices: Symmetric Q, (D, D) in blocks by class.
        probabilities: p, (n, C).
        inputs: h, (n, d).
        sets: (M, K) row numbers, −1 as padding.

    Yields:
        Which sets, and the products, which belong to the caller.
    """
    num_classes, set_size = probabilities.shape[1], sets.shape[1]
    number = num_classes * set_size
    together = max(1, BLOCK_BYTES // (8 * max(1, number) ** 2))
    for start in range(0, len(sets), together):
        some = sets[start : start + together]
        real = some >= 0
        used, place = np.unique(np.where(real, some, some.max()), return_inverse=True)
        place = place.reshape(some.shape)
        p = np.where(real[..., None], probabilities[some], 0)
        h = inputs[used]
        own = [
            _products(matrix.reshape(num_classes, h.shape[1], num_classes, -1), h, place)
            for matrix in matrices
        ]
        for products in own:
            weigh(products.reshape(len(some), num_classes, set_size, -1), p)
            by_column = products.reshape(len(some), number, num_classes, set_size)
            weigh(by_column.transpose(0, 2, 3, 1), p)
        yield slice(start, start + len(some)), own


def weigh(values: np.ndarray, probabilities: np.ndarray) -> None:
    """Multiplies by the columns √p_y·(p − e_y), over classes, in place.

    Args:
        values: (b, C, K, x).
        probabilities: (b, K, C); where all are 0 the result is 0.
    """
    by_class = probabilities.transpose(0, 2, 1)[..., None]
    mean = (by_class * values).sum(axis=1, keepdims=True)
    np.subtract(mean, values, out=values)
    values *= np.sqrt(by_class)


def _products(matrix: np.ndarray, inputs: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns h_kᵀ Q_cc' h_l of each set's images k and l, (b, C·K, C·K), class by class."""
    num_classes, size = matrix.shape[:2]
    count, set_size = sets.shape
    found = np.empty((count, num_classes, set_size, num_classes, set_size))
    others = inputs[sets].swapaxes(1, 2)  # (b, d, K)
    for c in range(num_classes):
        applied = inputs @ matrix[c].reshape(size, -1)  # (n, C·d)
        rows = applied[sets].reshape(count, set_size * num_classes, size)
        found[:, c] = (rows @ others).reshape(count, set_size, num_classes, set_size)
    return found.reshape(count, num_classes * set_size, -1)
