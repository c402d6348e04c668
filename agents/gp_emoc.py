"""EMOC of a Gaussian process on the features, which learns a set in closed form.

After Freytag, Rodner, Denzler: Selecting influential examples: Active learning with expected model
output changes, ECCV 2014, the work that the paper's EMOC for networks goes back to; here for sets
whose images share a label.
"""

import numpy as np
from scipy.special import softmax

from emoc_tf.agents.agent import SetScoringAgent
from emoc_tf.agents.kernel_solve import Kernel, SetUpdates, linear_kernel
from emoc_tf.agents.reference_images import check_references, reference_rows
from emoc_tf.exploration.state import ExplorationState

KERNELS = ("rbf", "linear")
_MEDIAN_OF = 500  # pool images, evenly spaced, whose distances tell the bandwidth
_BLOCK = 1024  # images whose features are in float64 at once


class GPEMOCAgent(SetScoringAgent):
    """Chooses the greatest expected output change of a Gaussian process on the network's features.

    The process has an output for each known class, of mean 0, with targets 1 for the class and −1
    for all others. The score is Σ_y p(y|S) · mean over x of ‖Δf_y(x)‖₁, with Δf_y what the process
    learns if all of the set is of class y, and p(y|S) the process's own: in proportion to how
    likely it finds those targets. Where no class is known the set is drawn at random.

    Args:
        seed: Breaks ties.
        kernel: `"rbf"`: exp(−‖φ − φ'‖² / 2σ²), with σ² the median of the pool images' squared
            distances, of at most 500 evenly spaced ones. `"linear"`: φ·φ' + 1, divided by its mean
            over the pool, which makes least squares of each class against all others.
        noise: Variance of the targets, above 0, where that of the outputs is 1 (on average).
        references: Number of images x that the mean is over, drawn anew at each step; None takes
            all of the pool.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.GPEMOCAgent().act(observation, env.state)
        72
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        kernel: str = "rbf",
        noise: float = 0.1,
        references: int | None = None,
    ) -> None:
        super().__init__(seed)
        if not isinstance(kernel, str) or kernel not in KERNELS:
            raise ValueError(f"kernel: expected one of {list(KERNELS)}, got {kernel!r}")
        number = isinstance(noise, int | float | np.integer | np.floating)
        if not number or isinstance(noise, bool) or not 0 < noise < np.inf:
            raise ValueError(f"noise: expected a number above 0, got {noise!r}")
        self._kernel, self._noise = kernel, float(noise)
        self._references = check_references(references)

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the score of each set, (M,); zeros where no class is known."""
        scores, num_classes = np.zeros(len(sets)), state.probabilities.shape[1]
        there = (sets >= 0).any(axis=1)
        if not num_classes or not there.any():
            return scores
        sets = sets[there]
        labelled = np.flatnonzero(state.pool.labels >= 0)
        targets = 2 * np.eye(num_classes)[state.pool.labels[labelled]] - 1
        ridges = np.full(len(sets), self._noise)
        updates = SetUpdates(self._kernel_of(state), labelled, self._noise, sets, ridges)
        # Targets less what is expected, were all of them −1.
        low = updates.innovations(targets, np.full((*sets.shape, num_classes), -1.0))
        one = updates.solve(updates.real[..., None].astype(np.float64))  # [M, K, 1]
        # log N(1; m, D) − log N(−1; m, D) = 2 · 1ᵀ D⁻¹ m, for the class's output alone.
        expected = np.where(updates.real[..., None], -1 - low, 0.0)
        posterior = softmax(2 * (one * expected).sum(axis=1), axis=1)
        steps = np.concatenate([updates.solve(low), 2 * one], axis=2).swapaxes(1, 2)
        references = reference_rows(self, state, self._references)
        if references is None:
            references = np.arange(len(state.features))
        scores[there] = _means(updates, steps, posterior, references)
        return scores

    def _kernel_of(self, state: ExplorationState) -> Kernel:
        if self._kernel == "rbf":
            return rbf_kernel(state.features)
        features = state.features.astype(np.float64)
        features = np.concatenate([features, np.ones((len(features), 1))], axis=1)
        return linear_kernel(features / np.sqrt(np.square(features).sum(axis=1).mean()))


def _means(
    updates: SetUpdates, steps: np.ndarray, posterior: np.ndarray, references: np.ndarray
) -> np.ndarray:
    """Returns the expected mean of ‖Δf(x)‖₁ over reference images, (M,).

    Args:
        updates: The factored systems.
        steps: (M, C + 1, K) for targets of −1 in each class, and what those of 1 add to it.
        posterior: (M, C) p(y|S).
        references: (N,) pool indices of images x.
    """
    steps, totals = np.ascontiguousarray(steps), np.zeros(len(steps))
    for _, left, _ in updates.blocks(references):
        for index, (step, place) in enumerate(zip(steps, updates.place, strict=True)):
            changes = step @ left[place]  # [C + 1, n]
            others = np.abs(changes[:-1]).sum(axis=1)
            own = np.abs(changes[:-1] + changes[-1]).sum(axis=1)
            # Under label y all outputs but its own learn that they are −1.
            totals[index] += others.sum() + posterior[index] @ (own - others)
    return totals / len(references)


def rbf_kernel(features: np.ndarray) -> Kernel:
    """Returns exp(−‖φ − φ'‖² / 2σ²) of (n, d) features, σ² by the median rule.

    It is computed in float64, without a copy of all features in it.
    """
    mean = features.mean(axis=0, dtype=np.float64)

    def centred(rows: np.ndarray) -> np.ndarray:  # distances keep more digits
        return features[rows] - mean

    parts = np.array_split(np.arange(len(features)), len(features) // _BLOCK + 1)
    squares = np.concatenate([np.square(centred(rows)).sum(axis=1) for rows in parts])

    def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        products = centred(one) @ centred(other).T
        return np.maximum(squares[one, None] + squares[other] - 2 * products, 0)

    some = np.unique(np.linspace(0, len(features) - 1, min(len(features), _MEDIAN_OF)).astype(int))
    between = distances(some, some)[np.triu_indices(len(some), 1)]
    # Where most images are alike, those that are not tell; where all are, any width does.
    between = between[between > 1e-12 * max(squares.max(initial=0), 1e-300)]
    width = np.median(between) if len(between) else 1.0
    return lambda one, other: np.exp(-distances(one, other) / (2 * width))
