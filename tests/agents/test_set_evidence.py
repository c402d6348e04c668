"""The Gaussian model of sets' classes, against densities of all K·d numbers of a set."""

import dataclasses
import time
import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from emoc_tf.agents.set_evidence import set_evidence
from emoc_tf.data.images import read_only
from emoc_tf.exploration.answers import REJECT
from emoc_tf.exploration.pool import Pool
from emoc_tf.exploration.state import ExplorationState


def make_state(features, labels, num_known):
    """A state of which nothing but features and labels is there."""
    pool = Pool(np.zeros((len(features), 1), np.float32))
    pool.set_labels(np.asarray(labels, np.int64))
    return ExplorationState(
        model=None,
        pool=pool.snapshot(),
        candidates=np.zeros((0, 1), np.int64),
        candidate_mask=np.zeros(0, bool),
        probabilities=np.zeros((len(features), num_known), np.float32),
        features=read_only(np.asarray(features)),
        known_classes=tuple(range(num_known)),
        step=0,
    )


def world(num_known=6, num_new=3, per_class=7, waiting=8, size=3, seed=0, spread=4.0):
    """A state of Gaussian classes, and sets of one class each with their class."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(size, size)) + 2 * np.eye(size)
    means = rng.normal(scale=spread, size=(num_known + num_new, size))
    features, labels, truth = [], [], []
    for c, mean in enumerate(means):
        count = waiting + (per_class + c % 3 if c < num_known else 0)
        features.append((mean + rng.normal(size=(count, size))) @ mixing)
        known = np.arange(count) < count - waiting
        labels.append(np.where(known, c, -1))
        truth.append(np.full(count, c))
    truth, labels = np.concatenate(truth), np.concatenate(labels)
    classes = np.arange(len(means)).repeat(3)
    sets = np.stack(
        [rng.choice(np.flatnonzero((truth == c) & (labels < 0)), 4, replace=False) for c in classes]
    )
    return make_state(np.concatenate(features), labels, num_known), sets, classes


def blocks(within, between, count):
    """The covariance of `count` images of one class whose mean is unknown."""
    return np.kron(np.eye(count), within) + np.kron(np.ones((count, count)), between)


def unshrunk(residuals, means, counts):
    within = residuals.T @ residuals / (sum(counts) - len(counts))
    between = np.cov(means.T).reshape(within.shape)
    return within, between - np.mean(1 / counts) * within


def shrunk(residuals, means, counts):
    """By scikit-learn: W towards a multiple of I, then B in coordinates in which W = I."""
    factor = sum(counts) / (sum(counts) - len(counts))  # degrees of freedom, not images
    within = LedoitWolf(assume_centered=True).fit(residuals).covariance_ * factor
    half = np.linalg.cholesky(within)
    white = np.linalg.solve(half, (means - means.mean(axis=0)).T).T
    between = LedoitWolf(assume_centered=True).fit(white).covariance_
    between = between * len(means) / (len(means) - 1) - np.mean(1 / counts) * np.eye(len(within))
    return within, half @ between @ half.T


def literal(state, indices, new_prior, covariances):
    """log P(class) + log p(all images of the set | class, its labelled images), new last."""
    features, labels = np.asarray(state.features, np.float64), state.pool.labels
    classes = range(len(state.known_classes))
    members = [features[labels == c] for c in classes]
    means = np.stack([m.mean(axis=0) for m in members])
    residuals = np.concatenate([m - m.mean(axis=0) for m in members])
    within, between = covariances(residuals, means, np.array([len(m) for m in members]))
    assert np.linalg.eigvalsh(between).min() > 0

    def density(rows):
        cov = blocks(within, between, len(rows))
        return multivariate_normal(np.tile(means.mean(axis=0), len(rows)), cov).logpdf(rows.ravel())

    own = features[indices]
    known = [density(np.concatenate([own, m])) - density(m) for m in members]
    share = np.log((1 - new_prior) / len(members))
    return np.array([*(each + share for each in known), density(own) + np.log(new_prior)])


@pytest.mark.parametrize("shrinkage", [False, True])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_it_is_the_density_of_all_numbers_of_a_set(size, shrinkage):
    state, sets, _ = world(num_known=9, size=size, spread=9.0)
    sets[1, 2:], sets[2, 1:] = -1, -1
    found = set_evidence(state, sets, new_prior=0.2, temperature=1, shrinkage=shrinkage)
    covariances = shrunk if shrinkage and size > 1 else unshrunk
    for i, row in enumerate(sets):
        expected = literal(state, row[row >= 0], 0.2, covariances)
        joint = np.append(found.known[i], found.new[i])
        np.testing.assert_allclose(joint - joint[-1], expected - expected[-1], atol=1e-7)
        odds = expected[-1] - np.logaddexp.reduce(expected[:-1])
        assert found.log_odds[i] == pytest.approx(odds, abs=1e-7)
        shares = np.exp(expected - np.logaddexp.reduce(expected))
        np.testing.assert_allclose(found.posterior[i], shares, atol=1e-9)


def test_shrinking_changes_what_is_told():
    """Or the comparison above would show nothing."""
    state, sets, _ = world(num_known=9, size=4, spread=9.0)
    one, other = (set_evidence(state, sets, shrinkage=s).log_odds for s in (False, True))
    assert np.abs(one - other).max() > 0.1


def test_sets_of_new_classes_are_told():
    state, sets, classes = world(size=4, spread=8.0)
    found = set_evidence(state, sets)
    assert found.known.shape == (27, 6)
    assert found.novelty[classes >= 6].min() > 0.5 > found.novelty[classes < 6].max()
    known = classes < 6
    np.testing.assert_array_equal(found.posterior[known, :6].argmax(axis=1), classes[known])


def test_probabilities_add_up_to_one():
    state, sets, _ = world()
    for temperature in (0.1, 1.0, 50.0):
        found = set_evidence(state, sets, temperature=temperature)
        assert found.posterior.shape == (27, 7)
        assert found.posterior.min() >= 0
        np.testing.assert_allclose(found.posterior.sum(axis=1), 1)
        np.testing.assert_array_equal(found.novelty, found.posterior[:, -1])
        share = 1 / (1 + np.exp(-found.log_odds))
        np.testing.assert_allclose(found.novelty, share, atol=1e-12)


def test_coordinates_do_not_matter():
    """Without shrinkage: a map that can be undone, and another origin, change nothing."""
    state, sets, _ = world(size=4)
    plain = set_evidence(state, sets, shrinkage=False)
    rng = np.random.default_rng(5)
    mapped = state.features @ (rng.normal(size=(4, 4)) + 3 * np.eye(4)) + 100
    found = set_evidence(dataclasses.replace(state, features=mapped), sets, shrinkage=False)
    np.testing.assert_allclose(found.posterior, plain.posterior, atol=1e-6)
    np.testing.assert_allclose(found.log_odds, plain.log_odds, atol=1e-6)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_features_does_not_matter(factor):
    state, sets, _ = world(size=4)
    scaled = dataclasses.replace(state, features=state.features * factor)
    found, plain = set_evidence(scaled, sets), set_evidence(state, sets)
    np.testing.assert_allclose(found.log_odds, plain.log_odds, rtol=1e-6)


def test_order_padding_and_answers_of_others_do_not_matter():
    state, sets, _ = world()
    plain = set_evidence(state, sets)
    wider = np.concatenate([sets[:, ::-1], np.full((len(sets), 3), -1)], axis=1)
    np.testing.assert_allclose(set_evidence(state, wider).log_odds, plain.log_odds, atol=1e-9)
    labels = state.pool.labels.copy()
    labels[np.setdiff1d(np.flatnonzero(labels == -1), sets)[:5]] = REJECT
    rejected = make_state(state.features, labels, 6)
    np.testing.assert_array_equal(set_evidence(rejected, sets).log_odds, plain.log_odds)


def test_more_images_tell_more():
    """A set's images vote together: the mean of more of them is told with more certainty."""
    state, sets, classes = world(spread=3.0)
    one, four = (set_evidence(state, part) for part in (sets[:, :1], sets))
    right = classes < 6
    own = np.flatnonzero(right), classes[right]
    assert four.posterior[own].mean() > one.posterior[own].mean()
    assert np.abs(four.log_odds).mean() > np.abs(one.log_odds).mean()


def test_the_prior_shifts_the_odds():
    state, sets, _ = world()
    half, tenth = (set_evidence(state, sets, new_prior=p).log_odds for p in (0.5, 0.1))
    np.testing.assert_allclose(half - tenth, np.log(9))


def test_temperature_divides_likelihoods_and_leaves_priors():
    state, sets, _ = world()
    settings = {"new_prior": 0.3, "shrinkage": False}
    one, three = (set_evidence(state, sets, temperature=t, **settings) for t in (1.0, 3.0))
    prior = np.log(0.3 / 0.7)
    np.testing.assert_allclose((one.log_odds - prior) / 3, three.log_odds - prior)
    among = [found.known - found.known[:, :1] for found in (one, three)]
    np.testing.assert_allclose(among[0] / 3, among[1], atol=1e-12)
    blunt = set_evidence(state, sets, temperature=1e12, new_prior=0.3)
    np.testing.assert_allclose(blunt.novelty, 0.3, atol=1e-6)
    np.testing.assert_allclose(blunt.posterior[:, :6], 0.7 / 6, atol=1e-6)


def _sane(found, num_sets, num_known):
    assert found.known.shape == (num_sets, num_known)
    assert found.new.shape == (num_sets,)
    for array in (found.known, found.new, found.log_odds, found.novelty, found.posterior):
        assert np.isfinite(array).all()
        assert array.dtype == np.float64
    np.testing.assert_allclose(found.posterior.sum(axis=1), 1)


@pytest.mark.parametrize("num_known", [0, 1, 2, 5])
@pytest.mark.parametrize("per_class", [0, 1, 2])
@pytest.mark.parametrize("kind", ["plain", "zero", "constant", "dead", "twins", "one", "wide"])
@pytest.mark.parametrize("shrinkage", [True, False])
def test_whatever_there_is_values_are_finite(num_known, per_class, kind, shrinkage):
    rng = np.random.default_rng(1)
    labels = np.append(np.arange(num_known).repeat(per_class), np.full(12, -1))
    size = {"one": 1, "wide": 50}.get(kind, 3)
    features = rng.normal(size=(len(labels), size)).astype(np.float32)
    if kind == "zero":
        features[:] = 0
    if kind == "constant":
        features[:] = 7.3
    if kind == "dead":
        features[:, 1] = 0
    if kind == "twins":  # all images of a class are the same
        features = labels[:, None].repeat(3, axis=1).astype(np.float32)
    sets = len(labels) - 12 + np.arange(12).reshape(4, 3)
    sets[1, 1:], sets[2] = -1, -1
    state = make_state(features, labels, num_known)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = set_evidence(state, sets, shrinkage=shrinkage)
    _sane(found, 4, num_known)
    prior = 0.5 if num_known else 1.0
    assert found.novelty[2] == pytest.approx(prior)
    if num_known < 2 or not per_class or kind in ("zero", "constant"):
        np.testing.assert_allclose(found.novelty, prior)


def test_no_sets():
    state, sets, _ = world()
    _sane(set_evidence(state, sets[:0]), 0, 6)


def test_a_class_without_images_is_like_a_new_one():
    state, sets, _ = world()
    bare = make_state(state.features, state.pool.labels, 7)
    found = set_evidence(bare, sets, temperature=1)
    np.testing.assert_allclose(found.known[:, 6] - np.log(0.5 / 7), found.new - np.log(0.5))
    assert np.ptp(found.known[:, 0] - found.new) > 1


def test_features_that_known_classes_do_not_use():
    """A unit that is silent on all labelled images speaks of a new class where it does not."""
    state, sets, _ = world(spread=2.0)
    silent = np.concatenate([state.features, np.zeros((len(state.features), 1))], axis=1)
    before = set_evidence(dataclasses.replace(state, features=silent), sets).log_odds
    spoken = silent.copy()
    spoken[sets[0], 3] = 50
    after = set_evidence(dataclasses.replace(state, features=spoken), sets).log_odds
    assert after[0] > before[0] + 1
    np.testing.assert_allclose(after[20:], before[20:])


def test_large_pools_take_little_time():
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(3000) < 1000, np.arange(3000) % 20, -1)
    state = make_state(rng.normal(size=(3000, 64)).astype(np.float32), labels, 20)
    sets = rng.integers(1000, 3000, size=(1000, 25))
    set_evidence(state, sets)
    start = time.perf_counter()
    _sane(set_evidence(state, sets), 1000, 20)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize("name", ["new_prior", "temperature"])
@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf"), "1", None, True])
def test_settings_out_of_range(name, bad):
    state, sets, _ = world()
    with pytest.raises(ValueError, match=f"{name}: expected a number .* got"):
        set_evidence(state, sets, **{name: bad})
