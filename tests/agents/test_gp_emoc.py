"""GP-EMOC against Gaussian processes that are fitted with and without each set."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy import stats

from emoc_tf import agents
from emoc_tf.agents import gp_emoc, kernel_solve
from tests.exploration import fakes


def gram(features, kernel):
    if kernel == "linear":
        found = features @ features.T + 1
        return found / np.mean(np.diag(found))
    squares = np.array([[np.sum((a - b) ** 2) for b in features] for a in features])
    return np.exp(-squares / (2 * np.median(squares[np.triu_indices(len(squares), 1)])))


def literal(state, kernel, noise, references=slice(None)):
    theta = gram(state.features.astype(float), kernel)
    labels, num_classes = state.pool.labels, state.probabilities.shape[1]
    labelled = np.flatnonzero(labels >= 0)

    def predicted(rows, targets):
        system = theta[np.ix_(rows, rows)] + noise * np.eye(len(rows))
        return theta[:, rows] @ np.linalg.solve(system, targets)

    identity = 2 * np.eye(num_classes) - 1
    targets = identity[labels[labelled]]
    before = predicted(labelled, targets)
    scores = []
    for row in state.candidates:
        members = row[row >= 0]
        if not len(members):
            scores.append(0)
            continue
        system = theta[np.ix_(labelled, labelled)] + noise * np.eye(len(labelled))
        cross = theta[np.ix_(labelled, members)]
        covariance = theta[np.ix_(members, members)] + noise * np.eye(len(members))
        covariance -= cross.T @ np.linalg.solve(system, cross)
        likelihood, changes = [], []
        for label in range(num_classes):
            of_set = np.repeat(identity[[label]], len(members), axis=0)
            each = [
                stats.multivariate_normal.logpdf(of_set[:, c], before[members, c], covariance)
                for c in range(num_classes)
            ]
            likelihood.append(sum(each))
            after = predicted(np.r_[labelled, members], np.concatenate([targets, of_set]))
            changes.append(np.abs(after - before).sum(axis=1)[references].mean())
        share = np.exp(np.array(likelihood) - max(likelihood))
        scores.append(share @ changes / share.sum())
    return np.array(scores)


@pytest.mark.parametrize(("kernel", "noise"), [("rbf", 0.1), ("rbf", 2.0), ("linear", 0.5)])
@pytest.mark.parametrize("set_size", [1, 3])
def test_processes_fitted_with_and_without(kernel, noise, set_size, monkeypatch):
    monkeypatch.setattr(kernel_solve, "MOST_VALUES", 64)
    state = fakes.make_state(num_images=26, num_sets=8, seed=4, set_size=set_size)
    sets, pool = state.candidates.copy(), state.pool.snapshot()
    sets[1, 1:], sets[2] = -1, -1
    labels = state.pool.labels.copy()
    labels[[3, 25]] = -2
    object.__setattr__(pool, "labels", labels)
    state = dataclasses.replace(
        state, candidates=sets, candidate_mask=(sets >= 0).any(axis=1), pool=pool
    )
    agent = agents.make("gp-emoc", kernel=kernel, noise=noise)
    found = agent.score(state)
    np.testing.assert_allclose(found, literal(state, kernel, noise), rtol=1e-6)
    if set_size == 1:
        real = [0, 3, 4]
        np.testing.assert_allclose(agent.score_images(state, sets[real, 0]), found[real])


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_some_reference_images(kernel):
    state = fakes.make_state(num_images=26, num_sets=8, seed=4)
    agent = agents.make("gp-emoc", kernel=kernel, references=7)
    rows = agent.rng(state, "reference images").choice(26, 7, replace=False)
    found = agent.score(state)
    np.testing.assert_allclose(found, literal(state, kernel, 0.1, rows), rtol=1e-6)
    assert not np.allclose(found, literal(state, kernel, 0.1), rtol=1e-3)


def test_the_bandwidth_of_features_that_are_mostly_or_all_the_same():
    features = np.zeros((30, 3))
    everything = np.arange(30)
    assert (gp_emoc.rbf_kernel(features)(everything, everything) == 1).all()
    features[4] = 2.0
    kernel = gp_emoc.rbf_kernel(features)(everything, everything)
    assert kernel[4, 0] == pytest.approx(np.exp(-0.5))
    many = np.random.default_rng(0).normal(size=(2000, 4))
    kernel = gp_emoc.rbf_kernel(many)(np.arange(2), np.arange(2, 4))
    assert ((kernel > 0.01) & (kernel < 1)).all()


def test_a_pools_features_are_not_copied_for_the_kernel():
    features = np.random.default_rng(0).normal(size=(20_000, 256)).astype(np.float32)
    tracemalloc.start()
    kernel = gp_emoc.rbf_kernel(features)
    found = kernel(np.arange(3), np.arange(20))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < features.nbytes
    assert found.dtype == np.float64
    np.testing.assert_allclose(
        found, gp_emoc.rbf_kernel(features.astype(np.float64))(np.arange(3), np.arange(20)), 1e-12
    )


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_states_that_tell_little(kernel):
    agent = agents.make("gp-emoc", kernel=kernel)
    one = fakes.make_state(classes=1, masked=(2,))
    assert (agent.score(one)[[0, 1, 3, 4, 5]] > 0).all()
    none = dataclasses.replace(one, probabilities=np.zeros((20, 0), np.float32), known_classes=())
    np.testing.assert_array_equal(agent.score(none), np.zeros(6))
    assert len(agent.score_images(one, np.arange(0))) == 0
    state = fakes.make_state()
    flat = dataclasses.replace(state, features=np.zeros_like(state.features))
    assert np.isfinite(agent.score(flat)).all()
    bare = state.pool.snapshot()
    object.__setattr__(bare, "labels", np.full(20, -1))
    assert np.isfinite(agent.score(dataclasses.replace(state, pool=bare))).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kernel=poly", r"kernel: expected one of \['rbf', 'linear'\], got 'poly'"),
        ("noise=0", "noise: expected a number above 0, got 0"),
        ("noise=True", "noise: expected a number above 0, got True"),
    ],
)
def test_bad_settings(spec, message):
    with pytest.raises(ValueError, match=message):
        agents.make(f"gp-emoc:{spec}")
