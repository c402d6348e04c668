"""The last layer refitted with one candidate set or another, on the features of a fixed body.

That is logistic regression with several classes, whose solution does not depend on where the search
begins: what a set is worth to a model that has its features already. A set takes some tenths of a
second, where the real learner's update takes 10 to 20 in the paper's protocol.
"""

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import logsumexp
from threadpoolctl import threadpool_limits

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.loop import Exploration
from emoc_tf.models import forward
from emoc_tf.models.checks import check_model
from emoc_tf.running.relearning import classes_of_test_images

_MOST_ITERATIONS = 5000
# Of the largest partial derivative, in coordinates in which the loss curves by about 1.
_WANTED, _ENOUGH = 1e-7, 1e-5


def check_settings(config: ExplorationConfig) -> None:
    """Raises `ValueError` where the refitted layer would not be one."""
    if not config.weight_decay:
        raise ValueError(
            f"weight_decay: expected a number above 0, since without it a last layer that tells "
            f"all labelled images apart has no best weights, got {config.weight_decay}"
        )


class LastLayer:
    """The head of a model at one step of an exploration, refitted again and again.

    The loss is that of the learner's mini-batches on average, λ · mean CE of the images labelled
    before + (1 − λ) · mean CE of the set + ½ d ‖W‖², with λ the old fraction and d the weight
    decay. Classes that come with the set get an output each.

    Args:
        config: Settings of the exploration.
        exploration: Between two steps, of a simulated episode.

    Raises:
        ValueError: See `check_settings`.
    """

    def __init__(self, config: ExplorationConfig, exploration: Exploration) -> None:
        check_settings(config)
        state, episode = exploration.state, exploration.episode
        head = check_model(state.model)
        features, _ = forward.in_batches(
            forward.compile_features(state.model), episode.test_images, state.model.inputs[0].dtype
        )
        self._inputs, self._test = (
            _with_ones(array, head.use_bias) for array in (state.features, features)
        )
        self._truth, self._classes = classes_of_test_images(exploration), episode.true_labels
        self._state, self._decay, self._old = state, config.weight_decay, config.old_fraction
        self._labelled = np.flatnonzero(state.pool.labels >= 0)
        weights = head.get_weights()
        begin = np.stack([*weights[0], *weights[1:]]).astype(np.float64)
        self._alone = refit(
            self._inputs[self._labelled],
            state.pool.labels[self._labelled],
            np.full(len(self._labelled), 1 / len(self._labelled)),
            self._decay,
            begin,
        )

    def right(self, choice: int | None) -> np.ndarray:
        """Returns which test images are right with the refitted layer, (n_test,) bool.

        Args:
            choice: The set that is learnt, under its true labels; None for none.
        """
        weights, known = self._alone, np.array(self._state.known_classes)
        if choice is not None:
            weights, known = self.learn(choice)
        return known[(self._test @ weights).argmax(axis=1)] == self._truth

    def learn(self, choice: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns weights (inputs, outputs), and the class ids of the outputs."""
        chosen = self._state.candidates[choice]
        chosen = chosen[chosen >= 0]  # sets may be short
        known = np.array(self._state.known_classes)
        new = np.setdiff1d(self._classes[chosen], known)
        known = np.append(known, new)
        column_of = {class_id: column for column, class_id in enumerate(known.tolist())}
        columns = [column_of[class_id] for class_id in self._classes[chosen].tolist()]
        shares = [self._old / len(self._labelled), (1 - self._old) / len(chosen)]
        weights = refit(
            self._inputs[np.append(self._labelled, chosen)],
            np.append(self._state.pool.labels[self._labelled], columns),
            np.repeat(shares, [len(self._labelled), len(chosen)]),
            self._decay,
            np.pad(self._alone, [(0, 0), (0, len(new))]),
        )
        return weights, known


def _with_ones(features: np.ndarray, bias: bool) -> np.ndarray:
    features = features.astype(np.float64)
    return np.concatenate([features, np.ones((len(features), 1))], axis=1) if bias else features


def refit(
    inputs: np.ndarray, columns: np.ndarray, shares: np.ndarray, decay: float, begin: np.ndarray
) -> np.ndarray:
    """Returns the W with the least Σ_i share_i · CE(x_i W, column_i) + ½ decay ‖W‖².

    L-BFGS, in coordinates in which the loss curves about equally in all directions: by the bound
    ½ Σ_i share_i x_i x_iᵀ + decay for each output's weights (Böhning, "Multinomial logistic
    regression algorithm", 1992).

    Args:
        inputs: (n, d) x_i, float64.
        columns: (n,) outputs that are to be highest, in [0, C).
        shares: (n,) at least 0.
        decay: Above 0.
        begin: (d, C), where the search begins; it decides about the seconds alone.

    Raises:
        FloatingPointError: The search did not come to its end.
    """
    curvature = 0.5 * (inputs.T * shares) @ inputs + decay * np.eye(inputs.shape[1])
    factor = cholesky(curvature, lower=True)
    back = solve_triangular(factor, np.eye(len(factor)), lower=True).T  # W = back @ V
    turned, penalty = inputs @ back, decay * back.T @ back
    rows = np.arange(len(inputs))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        V = flat.reshape(begin.shape)
        logits = turned @ V
        logits -= logsumexp(logits, axis=1, keepdims=True)
        pulled = penalty @ V
        value = -shares @ logits[rows, columns] + 0.5 * (V * pulled).sum()
        residuals = np.exp(logits)
        residuals[rows, columns] -= 1
        gradient = turned.T @ (residuals * shares[:, None]) + pulled
        return float(value), gradient.ravel()

    options = {
        "maxiter": _MOST_ITERATIONS, "maxfun": 2 * _MOST_ITERATIONS, "maxcor": 20, "ftol": 0,
        "gtol": _WANTED,
    }  # fmt: skip
    # Such small products are slower in several threads, beside other work 20 times.
    with threadpool_limits(1):
        found = minimize(
            loss, (factor.T @ begin).ravel(), jac=True, method="L-BFGS-B", options=options
        )
    left = np.abs(found.jac).max()
    if not left <= _ENOUGH:
        raise FloatingPointError(
            f"last layer: expected a search that ends, got a gradient of {left:.2g} after "
            f"{found.nit} iterations ({found.message}); try a higher weight_decay"
        )
    return back @ found.x.reshape(begin.shape)
