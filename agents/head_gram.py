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
PRODUCT_BYTES = 1 << 30  # of what is shared by sets, where more memory saves much time


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
) -> Iterator[list[np.ndarray]]:
    """Yields, set by set, the products V_Sᵀ Q V_S, (C·K, C·K) for each matrix Q.

    V_S has all columns of a set's V side by side, those of a label together. Rows and columns of
    padding are 0.

    Args:
        matrices: Symmetric Q, (D, D) in blocks by class.
        probabilities: p, (n, C).
        inputs: h, (n, d).
        sets: (M, K) row numbers, −1 as padding.

    Yields:
        The products, which belong to the caller.
    """
    num_classes, size = probabilities.shape[1], inputs.shape[1]
    by_class = [matrix.reshape(num_classes, size, num_classes * size) for matrix in matrices]
    most = max(1, PRODUCT_BYTES // (8 * len(matrices) * num_classes**2 * size))  # images
    blocks = 1 if len(np.unique(sets)) <= most else min(len(sets), -(-sets.size // most))
    for some in np.array_split(sets, blocks):
        # What images of several sets share is computed once for them.
        used, place = np.unique(some, return_inverse=True)
        applied = [inputs[used] @ of_class for of_class in by_class]  # (C, n, C·d)
        for row, own in zip(some, place.reshape(some.shape), strict=True):
            p = np.where((row >= 0)[:, None], probabilities[row], 0)
            h = inputs[row].T
            yield [_weighed(each[:, own].reshape(-1, size) @ h, p) for each in applied]


def weigh(values: np.ndarray, probabilities: np.ndarray) -> None:
    """Multiplies by the columns √p_y·(p − e_y), over classes, in place.

    Args:
        values: (n, C, x).
        probabilities: (n, C); where all are 0 the result is 0.
    """
    np.subtract(probabilities[:, None] @ values, values, out=values)
    values *= np.sqrt(probabilities)[..., None]


def _weighed(products: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Returns the products of V's columns from those of h, h_kᵀ Q_cc' h_l, (C·K·C, K)."""
    set_size, num_classes = probabilities.shape
    number = num_classes * set_size
    for _ in range(2):  # rows, then what were columns: Q is symmetric
        products = np.ascontiguousarray(products.reshape(number, number).T)
        by_image = products.reshape(num_classes, set_size, number).swapaxes(0, 1)
        weigh(by_image, probabilities)
    return products
