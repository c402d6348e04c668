import numpy as np
import pytest
from scipy.spatial.distance import cdist
from skactiveml.base import SkactivemlClassifier
from skactiveml.pool import Badge, CoreSet

from emoc_tf import agents
from emoc_tf.agents import diversity, head_gram
from emoc_tf.exploration.pool import Pool
from tests.agents import stubs

NAMES = ["badge", "core-set"]


def scores(name, state):
    return agents.make(name).score(state)


def gradients(state):
    """The gradient of each image's head under its most likely label, (n, C·d)."""
    p = state.probabilities.astype(np.float64)
    r = p - np.eye(p.shape[1])[p.argmax(axis=1)]
    h = state.features.astype(np.float64)
    if state.model.layers[-1].use_bias:
        h = np.concatenate([h, np.ones((len(h), 1))], axis=1)
    return np.einsum("nc,nd->ncd", r, h).reshape(len(h), -1)


@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("block", [1 << 28, 1])
def test_badge_is_the_dense_determinant(use_bias, block, monkeypatch):
    monkeypatch.setattr(head_gram, "BLOCK_BYTES", block)
    state = stubs.make_state(use_bias=use_bias)
    g = gradients(state)
    g /= np.sqrt((g[state.pool.unlabelled] ** 2).sum(axis=1).mean())
    expected = []
    for row in state.candidates:
        own = g[row[row >= 0]]
        expected.append(np.log(np.linalg.det(np.eye(g.shape[1]) + own.T @ own)))
    np.testing.assert_allclose(scores("badge", state), expected, rtol=1e-5, atol=1e-6)
    assert expected[2] == 0


class Known(SkactivemlClassifier):
    """Gives the posteriors of a state, in the order of its images."""

    def __init__(self, state=None, classes=None, missing_label=-1, cost_matrix=None):
        super().__init__(classes=classes, missing_label=missing_label, cost_matrix=cost_matrix)
        self.state = state

    def fit(self, X, y, sample_weight=None):
        return self

    def predict_proba(self, X):
        # Images are found again by their features.
        rows = cdist(X, self.state.features).argmin(axis=1)
        return self.state.probabilities[rows].astype(np.float64)


def test_badge_of_images_is_monotone_in_the_first_row_of_scikit_activeml():
    """Its first draw is in proportion to the squared lengths; later rows of 1.0.1 are wrong."""
    state = stubs.make_state(use_bias=False, rejected=0)
    waiting = state.pool.unlabelled
    _, utilities = Badge(missing_label=-1, random_state=0).query(
        state.features.astype(np.float64),
        np.array(state.pool.labels),
        Known(state, classes=[0, 1, 2]),
        fit_clf=False,
        return_utilities=True,
        batch_size=2,
    )
    share = utilities[0, waiting]
    # A set of one has log(1 + ‖g‖²/s), with s the mean over those that wait.
    found = np.expm1(agents.make("badge").score_images(state, waiting)) / len(waiting)
    np.testing.assert_allclose(found, share / share.sum(), rtol=1e-5)


def test_badge_does_not_lose_the_digits_of_certain_images():
    p = np.array([[1 - 1e-18, 1e-18, 1e-20]])
    r = head_gram.residuals(p, np.array([0]))
    np.testing.assert_allclose(r, [[-1.01e-18, 1e-18, 1e-20]], rtol=1e-12)


def test_badge_does_not_know_the_labels():
    """Only which images wait counts, and those for the scale alone."""
    state = stubs.make_state()
    pool = Pool(state.pool.images)
    pool.set_labels(np.minimum(state.pool.labels, 0))
    other = stubs.replace(state, pool=pool)
    np.testing.assert_array_equal(scores("badge", state), scores("badge", other))


def test_images_that_are_alike_count_less():
    features = np.random.default_rng(1).normal(size=(30, 5))
    features[21:24] = features[20]
    sets = [[20, 21, 22, 23], [20, 25, 26, 27]]
    state = stubs.make_state(features=features, sets=sets)
    assert np.diff(scores("core-set", state)) > 0
    g = gradients(state)[[20]]
    scale = (gradients(state)[state.pool.unlabelled] ** 2).sum(axis=1).mean()
    alone = np.log1p(4 * (g**2).sum() / scale)  # four times the same direction
    np.testing.assert_allclose(scores("badge", state)[0], alone, rtol=1e-5)


@pytest.mark.parametrize("block", [1 << 24, 1])
def test_core_set_is_that_of_scikit_activeml(block, monkeypatch):
    monkeypatch.setattr(diversity, "_BLOCK", block)
    state = stubs.make_state()
    labels = np.where(state.pool.labels >= 0, state.pool.labels, -1)
    expected = []
    for row in state.candidates:
        row = row[row >= 0]
        total = 0.0
        if len(row):
            _, utilities = CoreSet(missing_label=-1, random_state=0).query(
                state.features.astype(np.float64),
                labels,
                candidates=row,
                batch_size=len(row),
                return_utilities=True,
            )
            total = np.nanmax(utilities, axis=1).sum()
        expected.append(total)
    np.testing.assert_allclose(scores("core-set", state), expected, rtol=1e-6)


def test_core_set_of_images_is_the_distance_to_the_nearest_labelled_one():
    state = stubs.make_state()
    indices = state.pool.unlabelled[::2]
    expected = cdist(state.features[indices], state.features[state.pool.labelled]).min(axis=1)
    found = agents.make("core-set").score_images(state, indices)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_core_set_without_labelled_images_begins_at_the_mean():
    state = stubs.make_state(labelled=0)
    centre = state.features.mean(axis=0)
    expected = np.linalg.norm(state.features[[7, 5]] - centre, axis=1)
    found = agents.make("core-set").score_images(state, np.array([7, 5]))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_states_with_little_to_tell_apart(name):
    stubs.check_edge_states(agents.make(name))
