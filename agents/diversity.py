"""Policies that want a set's images to differ from each other: BADGE and core-set."""

import numpy as np
from threadpoolctl import threadpool_limits

from emoc_tf.agents import head_gram
from emoc_tf.agents.agent import SetScoringAgent
from emoc_tf.exploration.state import ExplorationState

_BLOCK = 1 << 24  # numbers in one array


class BadgeAgent(SetScoringAgent):
    """Chooses the set whose images' gradients at the head span the most (BADGE).

    The score is log det(I + G/s), with G the inner products of the gradients of the set's images,
    each under its own most likely label, and s the mean squared length of such gradients over the
    images that wait. It reads the k-means++ of Ash, Zhang, Krishnamurthy, Langford, Agarwal: Deep
    batch active learning by diverse, uncertain gradient lower bounds, ICLR 2020, as what it stands
    for there, a determinantal process. Long gradients count, and those that point elsewhere.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.BadgeAgent().act(observation, env.state)
        5
    """

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns log det(I + G/s) of each set, (M,); zeros where no gradient has a length."""
        waiting = state.pool.unlabelled
        if state.probabilities.shape[1] < 2 or not len(waiting):
            return np.zeros(len(sets))
        p, h = head_gram.posteriors(state), head_gram.head_inputs(state)
        r = head_gram.residuals(p, p.argmax(axis=1))
        squares = (r**2).sum(axis=1) * (h**2).sum(axis=1)
        scale = squares[waiting].mean()
        if not scale > 0:
            return np.zeros(len(sets))
        with threadpool_limits(1):  # of many small matrices: threads would wait for each other
            grams = head_gram.gradient_grams(r, h, sets)
            return np.linalg.slogdet(np.eye(sets.shape[1]) + grams / scale)[1]


class CoreSetAgent(SetScoringAgent):
    """Chooses the set whose images lie farthest from the labelled ones and from each other.

    A set's images are taken farthest first; each adds its distance, between features, to the
    nearest labelled image or image taken before. That is the greedy core-set of Sener, Savarese:
    Active learning for convolutional neural networks, ICLR 2018, within a set. How well the set
    covers the whole pool is not asked: one outlier would decide that, and sets would tie. While
    nothing is labelled, the mean feature of the pool stands for what is. Images that somebody is
    being asked about count as labelled.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.CoreSetAgent().act(observation, env.state)
        24
    """

    heeds_open_sets = True

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the sum of the distances of each set, (M,)."""
        features = state.features.astype(np.float64)
        centre = features.mean(axis=0)
        features -= centre  # fewer digits are lost in differences of squares
        there = np.union1d(state.pool.labelled, state.open_images)
        centres = features[there] if len(there) else np.zeros((1, features.shape[1]))
        used = np.unique(sets[sets >= 0])
        nearest = np.zeros(len(features))
        rows = max(1, _BLOCK // len(centres))
        for start in range(0, len(used), rows):
            some = used[start : start + rows]
            nearest[some] = distances(features[some], centres).min(axis=1)
        scores = np.zeros(len(sets))
        together = max(1, _BLOCK // max(1, sets.shape[1] * (sets.shape[1] + features.shape[1])))
        for start in range(0, len(sets), together):
            some = sets[start : start + together]
            between = distances(features[some], features[some])
            scores[start : start + together] = _farthest_first(
                np.where(some >= 0, nearest[some], -np.inf), between
            )
        return scores


def _farthest_first(nearest: np.ndarray, between: np.ndarray) -> np.ndarray:
    """Returns the sum of each set's distances when its images are taken farthest first, (b,).

    Args:
        nearest: (b, K) distance of each image to what is there; −∞ for padding.
        between: (b, K, K) distances of the images.
    """
    rows, total, left = np.arange(len(nearest)), np.zeros(len(nearest)), nearest.copy()
    for _ in range(nearest.shape[1]):
        farthest = left.argmax(axis=1)
        distance = left[rows, farthest]
        total += np.where(distance >= 0, distance, 0)
        left = np.minimum(left, between[rows, farthest])
        left[rows, farthest] = -np.inf
    return total


def distances(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the Euclidean distances of (..., a, d) and (..., b, d) points, (..., a, b)."""
    squares = (points**2).sum(axis=-1)[..., :, None] + (others**2).sum(axis=-1)[..., None, :]
    squares -= 2 * (points @ np.swapaxes(others, -1, -2))
    return np.sqrt(np.maximum(squares, 0, out=squares), out=squares)
