"""Which class a candidate set is of, a new one included, by a Gaussian model of its mean feature.

A class's mean lies about the mean of all classes, μ_c ~ N(m, B), and its images about it,
x ~ N(μ_c, W); all of a set is of one class, so that its K images tell of it together. W and B are
estimated on the labelled images. The images' scatter within the set is as likely in any class, so
that the set's mean z is all that counts. In coordinates where W = I and B = diag t

    class with n images, mean m_c:  z_j ~ N(m_j + s_j (m_cj − m_j), 1/K + t_j / (1 + n t_j)),
    new class (n = 0):              z_j ~ N(m_j, 1/K + t_j),        s_j = n t_j / (1 + n t_j).

Features are no Gaussians and the network was trained on the labelled images, so that likelihoods
are far too sure of themselves: their ratios are taken to the power of 1/τ. τ = 12 was chosen by
hand, after trials with a few networks for digits and CIFAR-100: there π_new had about its lowest
log loss, and little more from 8 to 24. `benchmarks/novelty.py` repeats such a trial; single
networks differ, and want 4 or 24. Leaving one class out would not tell, since the network knows it.

After Haines, Xiang: Active learning using Dirichlet processes for rare class discovery and
classification, BMVC 2011. There each class weighs what it has of the images seen, and a new one
little; here known classes share 1 − P(new) equally, since what is labelled was not drawn at random.
The ratio to the Gaussian of all classes is that of Ren et al., A simple fix to Mahalanobis distance
for improving near-OOD detection, 2021.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp
from sklearn.covariance import ledoit_wolf_shrinkage
from threadpoolctl import threadpool_limits

from emoc_tf import uncertainty
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.scoring.checks import is_number
from emoc_tf.scoring.labels import most_likely_set_labels

TEMPERATURE = 12.0
# Eigenvalues of W below this share of the greatest are rounding.
_SMALLEST = 1e-10


@dataclass(frozen=True, eq=False)
class SetEvidence:
    """What a model says about the class of each of M sets, in logarithms.

    Attributes:
        known: (M, C) float64, log of the weight of each known class, up to a number of each set's
            own.
        new: (M,) float64, log of the weight of a new class. Its ratio to all known ones is their
            prior odds times the ratio of likelihoods to the power of 1/τ.
    """

    known: np.ndarray
    new: np.ndarray

    @property
    def log_odds(self) -> np.ndarray:
        """Log P(new) − log P(known) of each set, (M,); 0 where no class is known."""
        if not self.known.shape[1]:
            return np.zeros(len(self.new))
        return self.new - logsumexp(self.known, axis=1)

    @property
    def posterior(self) -> np.ndarray:
        """(M, C + 1) probabilities of the known classes, in output order, and of a new one."""
        joint = np.concatenate([self.known, self.new[:, None]], axis=1)
        return np.exp(joint - logsumexp(joint, axis=1, keepdims=True))

    @property
    def novelty(self) -> np.ndarray:
        """π_new, (M,): the probability that a set is of a new class; 1 where none is known."""
        return self.posterior[:, -1]


def set_evidence(
    state: ExplorationState,
    sets: np.ndarray,
    *,
    new_prior: float = 0.5,
    temperature: float = TEMPERATURE,
    shrinkage: bool = True,
) -> SetEvidence:
    """Returns what the features of some sets tell about their classes.

    All values are finite. A known class without a labelled image is like a new one. Where the
    labelled images tell nothing, posteriors are the priors: with less than two classes that have
    images, where all features are the same, and for sets of padding alone. Where no class has two
    images, W is the covariance of all of them, so that little is told.

    Args:
        state: Whose `features` and `pool.labels` are used, and its number of known classes.
        sets: (M, K) pool indices, −1 as padding.
        new_prior: P(new), in (0, 1); the known classes share the rest equally.
        temperature: τ, above 0. Log ratios of likelihoods are divided by it: of a new class to a
            known one, and of known classes to each other. 1 is the Gaussian model's own.
        shrinkage: Whether W is shrunk towards a multiple of I, and B towards one of W, as far as
            Ledoit and Wolf's estimate says. Without it directions are left out in which images of
            no class differ.

    Raises:
        ValueError: `new_prior` or `temperature` is out of range.
    """
    check_prior(new_prior)
    check_temperature(temperature)
    num_known = len(state.known_classes)
    known, new = np.zeros((len(sets), num_known)), np.zeros(len(sets))
    counts = _counts(state, num_known)
    if np.count_nonzero(counts) > 1:
        # Several threads wait for each other between many small products: on a busy machine that
        # takes six times the processor's time. And one gives the same bits everywhere.
        with threadpool_limits(1):
            model = _Gaussians(state, counts, shrinkage)
            sizes = (sets >= 0).sum(axis=1)
            told = sizes > 0
            means = model.whiten(uncertainty.set_mean_rows(state.features, sets[told]))
            new[told] = model.log_likelihood(means, sizes[told], 0.0, 0)
            for column, count in enumerate(counts):
                at = model.means[column] if count else 0.0
                known[told, column] = model.log_likelihood(means, sizes[told], at, count)
    if num_known:
        each, either = known / temperature, logsumexp(known, axis=1) - np.log(num_known)
        each -= logsumexp(each, axis=1, keepdims=True)
        known = each + (either / temperature + np.log1p(-new_prior))[:, None]
    return SetEvidence(known, new / temperature + np.log(new_prior))


def most_likely_columns(state: ExplorationState, sets: np.ndarray) -> np.ndarray:
    """Returns argmax_c Σ log p(c|x') of each set by the model's posteriors, ŷ(S), (M,).

    Posteriors below 1e-38 count as that, as the smallest float32: where every class of a set is as
    unlikely for one of its images, ŷ may be another than `emoc` takes from the outputs.
    """
    likelihood = np.maximum(state.probabilities, np.finfo(np.float32).tiny)
    return most_likely_set_labels(np.log(likelihood), sets)


def checked_settings(prior_new: float, tau: float) -> dict[str, float]:
    """Returns what policies call `prior_new` and `tau` as `set_evidence` takes it.

    Raises:
        ValueError: One of them is out of range.
    """
    return {
        "new_prior": check_prior(prior_new, "prior_new"),
        "temperature": check_temperature(tau, "tau"),
    }


def check_prior(new_prior: float, name: str = "new_prior") -> float:
    """Returns P(new); raises `ValueError` that says `name` unless it is in (0, 1)."""
    if not is_number(new_prior) or not 0 < new_prior < 1:
        raise ValueError(f"{name}: expected a number in (0, 1), got {new_prior!r}")
    return float(new_prior)


def check_temperature(temperature: float, name: str = "temperature") -> float:
    """Returns τ; raises `ValueError` that says `name` unless it is a finite number above 0."""
    if not is_number(temperature) or not 0 < temperature < np.inf:
        raise ValueError(f"{name}: expected a number above 0, got {temperature!r}")
    return float(temperature)


def _counts(state: ExplorationState, num_known: int) -> np.ndarray:
    labels = state.pool.labels
    return np.bincount(labels[labels >= 0], minlength=num_known)[:num_known]


class _Gaussians:
    """The model in coordinates where m = 0, W = I and B = diag t.

    Args:
        state: At least two classes have labelled images.
        counts: (C,) labelled images of each class.
        shrinkage: See `set_evidence`.
    """

    def __init__(self, state: ExplorationState, counts: np.ndarray, shrinkage: bool) -> None:
        labels = state.pool.labels
        rows = np.flatnonzero((labels >= 0) & (labels < len(counts)))
        features, labels = state.features[rows].astype(np.float64), labels[rows]
        there = np.flatnonzero(counts)
        means = np.zeros((len(counts), features.shape[1]))
        for column in there:
            means[column] = features[labels == column].mean(axis=0)
        self._origin = means[there].mean(axis=0)
        residuals = features - means[labels]
        within = _covariance(residuals, len(rows) - len(there), shrinkage)
        total = features - features.mean(axis=0)
        if np.trace(within) <= _SMALLEST * np.square(total).sum() / len(rows):
            within = _covariance(total, len(rows) - 1, shrinkage)
        values, vectors = np.linalg.eigh(within)
        kept = values > _SMALLEST * max(values[-1], 0)
        self._map = vectors[:, kept] / np.sqrt(values[kept])
        whitened = (means[there] - self._origin) @ self._map
        between = _covariance(whitened, len(there) - 1, shrinkage)
        spreads, axes = np.linalg.eigh(between)
        # The means of few images are scattered by W too.
        self._spread = np.maximum(spreads - np.mean(1 / counts[there]), 0)
        self._map = self._map @ axes
        self.means = self.whiten(means)

    def whiten(self, features: np.ndarray) -> np.ndarray:
        """Returns (n, d) features in the model's coordinates."""
        return (features - self._origin) @ self._map

    def log_likelihood(
        self, means: np.ndarray, sizes: np.ndarray, at: np.ndarray | float, count: int
    ) -> np.ndarray:
        """Returns the log density of whitened means of sets, (M,), given a class's images.

        Args:
            means: (M, d).
            sizes: (M,) images of each set, above 0.
            at: (d,) mean of the class's images.
            count: How many there are.
        """
        left = self._spread / (1 + count * self._spread)
        distinct, which = np.unique(sizes, return_inverse=True)  # mostly there is one
        variances = 1 / distinct[:, None] + left
        distances = np.square(means - count * left * at) / variances[which]
        return -0.5 * (distances + np.log(2 * np.pi * variances)[which]).sum(axis=1)


def _covariance(deviations: np.ndarray, freedom: int, shrinkage: bool) -> np.ndarray:
    """Returns the covariance of (n, d) deviations from their mean, shrunk to a multiple of I."""
    size = deviations.shape[1]
    covariance = deviations.T @ deviations / max(freedom, 1)
    if shrinkage and size > 1:
        share = ledoit_wolf_shrinkage(deviations, assume_centered=True)
        target = np.trace(covariance) / size * np.eye(size)
        covariance = (1 - share) * covariance + share * target
    return covariance
