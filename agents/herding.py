"""Coverage of the images that wait: MaxHerding, UHerding and ProbCover, as one policy."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from emoc_tf import uncertainty
from emoc_tf.agents.agent import SetScoringAgent
from emoc_tf.agents.diversity import distances
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.scoring.checks import is_integer

KERNELS = ("gaussian", "tophat")
WEIGHTS = ("uniform", "margin", "entropy")
BANDWIDTHS = ("nearest", "pure")

_BLOCK = 1 << 24  # numbers in one array
_SAME = 1e-6  # up to this distance of unit vectors, float32 features are the same
_PURE = 0.95  # share of balls that hold no other class


class HerdingAgent(SetScoringAgent):
    """Chooses the set that lies closest to most of the images that wait (MaxHerding).

    The score is what the set adds to the coverage of these, Σ_x u(x)·(max k(x, ·) over labelled
    images and the set − max k(x, ·) over labelled images), with a kernel k of the distance of
    features of length 1. With `weights="margin"` and `bandwidth="nearest"` it is UHerding, with
    `kernel="tophat"` ProbCover. After Bae, Noh, Sutherland: Generalized coverage for more robust
    low-budget active learning, ECCV 2024; Bae, Sutherland, Oliveira: Uncertainty herding, ICLR
    2025; Yehuda, Dekel, Hacohen, Weinshall: Active learning through a covering lens, NeurIPS 2022.
    Images that somebody is being asked about count as labelled.

    Args:
        seed: Breaks ties.
        kernel: `"gaussian"`: k = exp(−distance²/σ²). `"tophat"`: 1 within σ, else 0.
        weights: u(x): `"uniform"`: 1. `"margin"`: 1 − the difference of the two highest class
            scores. `"entropy"`: relative to the highest possible. Uniform while at most one class
            is known.
        bandwidth: σ, above 0. Or `"nearest"`: the smallest distance between labelled images that
            is not 0, which falls as more are labelled. `"pure"`: the largest at which 95 % of the
            balls around labelled images hold no labelled image of another class. Without such
            images 1. None is 1 for the Gaussian and `"pure"` for the top-hat.
        temperature: Of the class scores that weights are made of, above 0. Or `"fitted"`: that
            under which the labelled images are most likely, in [0.1, 10]; they were trained on.
        images: How many waiting images x the coverage is that of, above 0, drawn anew at each
            step; None for all. With tens of thousands of them a choice takes a minute otherwise.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.HerdingAgent().act(observation, env.state)
        10
    """

    heeds_open_sets = True

    def __init__(
        self,
        seed: int = 0,
        *,
        kernel: str = "gaussian",
        weights: str = "uniform",
        bandwidth: float | str | None = None,
        temperature: float | str = 1.0,
        images: int | None = None,
    ) -> None:
        super().__init__(seed)
        if kernel not in KERNELS:
            raise ValueError(f"kernel: expected one of {list(KERNELS)}, got {kernel!r}")
        if weights not in WEIGHTS:
            raise ValueError(f"weights: expected one of {list(WEIGHTS)}, got {weights!r}")
        if bandwidth is None:
            bandwidth = "pure" if kernel == "tophat" else 1.0
        self._kernel, self._weights = kernel, weights
        self._bandwidth = _number_or(bandwidth, "bandwidth", BANDWIDTHS)
        self._temperature = _number_or(temperature, "temperature", ("fitted",))
        if images is not None and (not is_integer(images) or images < 1):
            raise ValueError(f"images: expected None or an integer above 0, got {images!r}")
        self._images = None if images is None else int(images)

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns what each set adds to the coverage, (M,)."""
        features = state.features.astype(np.float64)
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        features /= np.where(lengths > 0, lengths, 1)
        labelled = state.pool.labelled
        # Whatever the answer, these will be labelled: a second set beside them would cover nothing.
        covering = np.union1d(labelled, state.open_images)
        waiting = np.setdiff1d(state.pool.unlabelled, state.open_images)
        if self._images is not None and self._images < len(waiting):
            rng = self.rng(state, "waiting images")
            waiting = np.sort(rng.choice(waiting, self._images, replace=False))
        weights = self._weights_of(state)
        width = _bandwidth(self._bandwidth, features[labelled], state.pool.labels[labelled])
        used, place = np.unique(sets, return_inverse=True)
        place = place.reshape(sets.shape)
        scores = np.zeros(len(sets))
        rows = max(1, _BLOCK // max(1, len(used), len(covering), len(sets)))
        for start in range(0, len(waiting), rows):
            some = waiting[start : start + rows]
            covered = np.zeros(len(some))
            if len(covering):
                nearest = distances(features[some], features[covering]).min(axis=1)
                covered = self._similarity(nearest, width)
            # Images down, so that each set takes whole rows.
            more = self._similarity(distances(features[used], features[some]), width) - covered
            more[used < 0] = 0
            gain = np.zeros((len(sets), len(some)))
            for k in range(sets.shape[1]):
                np.maximum(gain, more[place[:, k]], out=gain)
            scores += gain @ weights[some]
        return scores

    def _similarity(self, found: np.ndarray, width: float) -> np.ndarray:
        """Returns the kernel of distances."""
        if self._kernel == "tophat":
            return (found <= width).astype(np.float64)
        return np.exp(-((found / width) ** 2))

    def _weights_of(self, state: ExplorationState) -> np.ndarray:
        """Returns u of all images of the pool, (n_pool,)."""
        posterior = state.probabilities.astype(np.float64)
        if self._weights == "uniform" or posterior.shape[1] < 2:
            return np.ones(len(posterior))
        logits = np.log(np.maximum(posterior, np.finfo(np.float32).tiny))
        temperature = self._temperature
        if isinstance(temperature, str):
            labelled = state.pool.labelled
            temperature = _fitted(logits[labelled], state.pool.labels[labelled])
        posterior = softmax(logits / temperature, axis=1)
        if self._weights == "margin":
            return 1 - uncertainty.margin(posterior)
        return uncertainty.entropy(posterior)


def _bandwidth(rule: float | str, features: np.ndarray, labels: np.ndarray) -> float:
    """Returns σ, from labelled images of length 1, (n, d), and their classes, (n,)."""
    if not isinstance(rule, str):
        return rule
    found = np.full(len(features), np.inf)
    rows = max(1, _BLOCK // max(1, len(features)))
    for start in range(0, len(features), rows):
        between = distances(features[start : start + rows], features)
        if rule == "pure":
            between[labels[start : start + rows, None] == labels] = np.inf
        between[between <= _SAME] = np.inf
        found[start : start + rows] = between.min(axis=1)
    found = np.sort(found[np.isfinite(found)])
    if not len(found):
        return 1.0
    if rule == "nearest":
        return float(found[0])
    # Just under that distance its ball is pure; the smaller ones are not.
    return float(found[int((1 - _PURE) * len(found))]) * (1 - 1e-9)


def _fitted(logits: np.ndarray, labels: np.ndarray) -> float:
    """Returns the temperature in [0.1, 10] under which labels (n,) are most likely."""
    known = labels < logits.shape[1]
    logits, labels = logits[known], labels[known]
    if not len(labels):
        return 1.0

    def loss(log_temperature: float) -> float:
        log_posterior = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(np.take_along_axis(log_posterior, labels[:, None], axis=1).mean())

    bounds = (np.log(0.1), np.log(10.0))
    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def _number_or(value: float | str, name: str, rules: tuple[str, ...]) -> float | str:
    if isinstance(value, str) and value in rules:
        return value
    number = isinstance(value, int | float | np.integer | np.floating)
    if not number or isinstance(value, bool) or not 0 < value < np.inf:
        raise ValueError(
            f"{name}: expected a number above 0 or one of {list(rules)}, got {value!r}"
        )
    return float(value)
