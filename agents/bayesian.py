"""Policies that treat the last layer's weights as uncertain: BAIT and BALD."""

import abc
import time
from collections.abc import Iterator

import numpy as np
from scipy import linalg
from threadpoolctl import threadpool_limits

from emoc_tf.agents import head_gram, information
from emoc_tf.agents.agent import LONG, SetScoringAgent, warn_of_long_choice
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.models.dropout import DropoutSampler
from emoc_tf.scoring.checks import is_integer

# D·D numbers are held some times, and D³ multiplications made: half a minute and 3 GB at this D.
LARGEST_HEAD = 6000

INFORMATION = ("gaussian", "labels", "images")


class _HeadAgent(SetScoringAgent):
    """What both policies share: a head of a size that can be inverted, and how it is computed."""

    def __init__(self, seed: int, components: int | None) -> None:
        super().__init__(seed)
        if components is not None and (not is_integer(components) or components < 1):
            raise ValueError(f"components: expected None or an integer above 0, got {components!r}")
        self._components = None if components is None else int(components)
        self._told = False

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the score of each set, (M,); zeros where at most one class is known."""
        if state.probabilities.shape[1] < 2 or not len(sets):
            return np.zeros(len(sets))
        # For thousands of small matrices several threads wait for each other, on a busy machine for
        # a hundred times as long as one computes; and one gives the same bits everywhere.
        with threadpool_limits(1):
            return self._set_scores(state, sets)

    @abc.abstractmethod
    def _set_scores(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the score of each of some sets, (M,), where two classes are known at least."""

    def _inputs(self, state: ExplorationState, standardised: bool) -> np.ndarray:
        """Returns h, (n_pool, d); raises `ValueError` if the head is too large for D × D."""
        num_classes, num_features = state.probabilities.shape[1], state.features.shape[1]
        most = LARGEST_HEAD // num_classes - 1
        # Classes are discovered within an episode, which must not end because of them.
        used = min(num_features, max(1, most) if self._components is None else self._components)
        if used > most:
            way = f"components={most} or less" if most > 0 else "another policy, such as badge"
            raise ValueError(
                f"components: expected at most {LARGEST_HEAD:,} weights of the head, got "
                f"{num_classes:,} classes times {used + 1:,}; take {way}"
            )
        return head_gram.head_inputs(state, standardised=standardised, components=used)

    def _grams(
        self, matrices: list[np.ndarray], p: np.ndarray, h: np.ndarray, sets: np.ndarray
    ) -> Iterator[list[np.ndarray]]:
        """Yields `jacobian_grams`, and warns, once, if all will take long: the first set tells."""
        start = 0.0
        for i, found in enumerate(head_gram.jacobian_grams(matrices, p, h, sets)):
            if i == 0:
                start = time.perf_counter()
            elif i == 1 and not self._told:
                seconds = (time.perf_counter() - start) * len(sets)
                self._told = seconds > LONG
                if self._told:
                    warn_of_long_choice(
                        seconds,
                        f"{len(sets):,} candidate sets of {sets.shape[1]} images and {p.shape[1]} "
                        f"classes",
                        "fewer or smaller sets take less, and so does another policy, such as "
                        "badge",
                        stacklevel=6,
                    )
            yield found


class BaitAgent(_HeadAgent):
    """Chooses the set whose labels lower the head's uncertainty about the whole pool most (BAIT).

    With F the Fisher information of the head's weights, a mean over images, the score is the drop
    of tr[F_labelled⁻¹ F_pool] that labels of the set bring, computed exactly:
    tr[(Q⁻¹ + V_S V_Sᵀ)⁻¹ F_pool] before and after, with Q⁻¹ = λI + F_labelled weighed by its share.
    It is the criterion of Ash, Goel, Krishnamurthy, Kakade: Gone fishing, NeurIPS 2021, for a
    given set. Labels do not count, and classes that are not known yet are unknown to it.

    Args:
        seed: Breaks ties.
        prior: λ, above 0. Features are divided by their root mean square first, so that it means
            the same for any network.
        components: Of how many principal directions of the features the head may change along.
            None for all, or, of a head with more than 6,000 weights, for as many as fit into
            these: fewer with each class that is discovered. Time grows with the cube of images a
            set times classes.

    Raises:
        ValueError: An argument is out of range; while scoring: `components` are too many.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.BaitAgent(components=8).act(observation, env.state)
        11
    """

    def __init__(self, seed: int = 0, *, prior: float = 1.0, components: int | None = None) -> None:
        super().__init__(seed, components)
        self._prior = _above_zero(prior, "prior")

    def _set_scores(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        h, p = self._inputs(state, standardised=True), head_gram.posteriors(state)
        labelled = state.pool.labelled
        # Padded sets are weighed like whole ones: what they lack brings nothing.
        number = len(labelled) + sets.shape[1]
        precision = head_gram.fisher(p[labelled], h[labelled]) / number
        precision[np.diag_indices_from(precision)] += self._prior
        covariance = _inverse(_factor(precision, "prior", self._prior))
        pool = head_gram.fisher(p, h) / len(h)
        pool = covariance @ pool @ covariance
        scores = np.empty(len(sets))
        matrices = [covariance, pool]
        for i, (one, other) in enumerate(self._grams(matrices, p, h, sets)):
            one /= number
            one[np.diag_indices_from(one)] += 1
            scores[i] = _trace_of_solved(one, other) / number
        return scores


class BaldAgent(_HeadAgent):
    """Chooses the set whose labels are expected to tell most about the model (BALD).

    The score is the mutual information of the set's labels and the model, of all images jointly:
    what they share counts once. By default it is a Gaussian approximation, ½ log det(I + VᵀΣV),
    with Σ the covariance of the logits of the set's images and V Vᵀ the Fisher information of each
    image's logits. It is exact in the limit of small Σ and too high where much is uncertain, by a
    fifth to a third in tests where logits vary by 1; the order of sets is nearly the same there.

    Which models are likely is told by Monte-Carlo dropout if the model has dropout layers: each
    sample has one mask for all images, and all else is as in inference. Otherwise it is a Laplace
    approximation of the last layer, whose weights have the precision that their training implies.
    After Houlsby, Huszár, Ghahramani, Lengyel: Bayesian active learning (BALD), 2011; Kirsch, van
    Amersfoort, Gal: BatchBALD, NeurIPS 2019; Gal, Ghahramani: Dropout as a Bayesian approximation,
    ICML 2016.

    Args:
        seed: Breaks ties and draws samples, anew at each step.
        information: `"gaussian"`: the approximation. `"labels"`: of the labels themselves under
            `samples` models, exact where a set has few possible labellings and drawn otherwise; it
            is at most log(samples), so that large sets come out alike. `"images"`: the sum over
            images of their own information under `samples` models, which counts what they share
            again.
        samples: Number of models drawn, above 1.
        weight_decay: d of ω(θ) = ½·d·‖θ‖² that the head was trained with, above 0; for models
            without dropout.
        components: As for `BaitAgent`; for models without dropout.

    Raises:
        ValueError: An argument is out of range; while scoring: `components` are too many.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.BaldAgent(components=8).act(observation, env.state)
        24
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        information: str = "gaussian",
        samples: int = 100,
        weight_decay: float = 5e-4,
        components: int | None = None,
    ) -> None:
        super().__init__(seed, components)
        if information not in INFORMATION:
            raise ValueError(
                f"information: expected one of {list(INFORMATION)}, got {information!r}"
            )
        if not is_integer(samples) or samples < 2:
            raise ValueError(f"samples: expected an integer above 1, got {samples!r}")
        self._information, self._samples = information, int(samples)
        self._weight_decay = _above_zero(weight_decay, "weight_decay")
        self._sampler: DropoutSampler | None = None

    def _set_scores(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        if self._sampler is None or self._sampler.model is not state.model:
            self._sampler = DropoutSampler(state.model)
        if not self._sampler.is_random and self._information == "gaussian":
            return self._laplace(state, sets)
        used, place = np.unique(sets, return_inverse=True)
        place = np.where(sets >= 0, place.reshape(sets.shape), -1)
        logits = self._logits(state, np.where(used >= 0, used, 0))  # (T, n, C)
        if self._information == "gaussian":
            return information.gaussian(logits, head_gram.posteriors(state)[used], place)
        if self._information == "images":
            return information.of_images(logits, place)
        return information.of_labels(logits, place, self.rng(state, "labels"))

    def _laplace(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        p, h = head_gram.posteriors(state), self._inputs(state, standardised=False)
        covariance = _inverse(self._precision_factor(state, p, h))
        scores = np.empty(len(sets))
        for i, (one,) in enumerate(self._grams([covariance], p, h, sets)):
            one[np.diag_indices_from(one)] += 1
            scores[i] = information.half_log_det(one)
        return scores

    def _logits(self, state: ExplorationState, images: np.ndarray) -> np.ndarray:
        """Returns the logits of some images under each of T models, (T, k, C), up to a constant."""
        if self._sampler.is_random:
            seeds = self.rng(state, "dropout").integers(
                2**31 - 1, size=(self._samples, 2), dtype=np.int32
            )
            return self._sampler.logits(state.pool.images, images, seeds)
        p, h = head_gram.posteriors(state), self._inputs(state, standardised=False)
        factor = self._precision_factor(state, p, h)
        noise = self.rng(state, "weights").normal(size=(len(factor), self._samples))
        # Of all images one model: the same weights for each. Precision L·Lᵀ, covariance L⁻ᵀ·L⁻¹.
        weights = linalg.solve_triangular(factor, noise, lower=True, trans="T")
        weights = weights.reshape(p.shape[1], h.shape[1], -1)
        found = np.stack([h[images] @ of_class for of_class in weights])  # (C, k, T)
        known = np.log(np.maximum(p[images], np.finfo(np.float32).tiny))
        return found.transpose(2, 1, 0) + known

    def _precision_factor(
        self, state: ExplorationState, p: np.ndarray, h: np.ndarray
    ) -> np.ndarray:
        """Returns L, of L·Lᵀ the Hessian of the loss of all labelled images, and of ω for each."""
        labelled = state.pool.labelled
        precision = head_gram.fisher(p[labelled], h[labelled])
        decay = max(1, len(labelled)) * self._weight_decay
        precision[np.diag_indices_from(precision)] += decay
        return _factor(precision, "weight_decay", self._weight_decay)


def _above_zero(value: float, name: str) -> float:
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool) or not 0 < value < np.inf:
        raise ValueError(f"{name}: expected a number above 0, got {value!r}")
    return float(value)


def _factor(matrix: np.ndarray, name: str, value: float) -> np.ndarray:
    """Returns the lower Cholesky factor, (D, D), of a matrix, which is overwritten.

    Raises:
        ValueError: No digit of the inverse would be right, which a larger `name` mends.
    """
    matrix = matrix.T  # symmetric: as columns, which Lapack overwrites
    size = linalg.lapack.dlange("1", matrix)
    factor, info = linalg.lapack.dpotrf(matrix, lower=True, overwrite_a=True)
    share = 0.0
    if info == 0:
        share, info = linalg.lapack.dpocon(factor, size, uplo="L")
    if info or not share > np.finfo(np.float64).eps:
        raise ValueError(
            f"{name}: expected a larger one, got {value:g}; beside features and posteriors of this "
            f"size it is lost in rounding"
        )
    return factor


def _inverse(factor: np.ndarray) -> np.ndarray:
    """Returns (L·Lᵀ)⁻¹ of a lower factor, which is overwritten."""
    inverse, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    for row in range(len(inverse)):
        inverse[row, row + 1 :] = inverse[row + 1 :, row]
    return inverse


def _trace_of_solved(matrix: np.ndarray, other: np.ndarray) -> float:
    """Returns tr[matrix⁻¹ other] of symmetric ones, the first positive definite and overwritten."""
    factor = information.cholesky(matrix)
    inverse, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
    diagonal = np.diagonal(inverse) @ np.diagonal(other)
    return float(2 * np.vdot(np.tril(inverse), other) - diagonal)
