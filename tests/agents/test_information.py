"""What labels of sets tell of a model, from samples of it, against enumeration and others."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import spearmanr
from skactiveml.pool import batch_bald

from emoc_tf.agents import information


def samples(count=8, images=4, classes=3, seed=0, spread=2.0):
    return spread * np.random.default_rng(seed).normal(size=(count, images, classes))


def softmax(logits):
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_joint_information_is_that_of_scikit_activeml():
    """The last row of its utilities has the information of all images, exact with C^K draws."""
    logits = samples()
    utilities = batch_bald(softmax(logits).copy(), 4, n_MC_samples=3**4)
    found = information.of_labels(logits, np.array([[0, 1, 2, 3]]), np.random.default_rng(0))
    np.testing.assert_allclose(found, np.nanmax(utilities[-1]), rtol=1e-4)
    alone = information.of_images(logits, np.arange(4)[:, None])
    np.testing.assert_allclose(alone, utilities[0], rtol=1e-4)


def spread_about_a_mean(spread, count=400):
    """Logits of images that share directions in which models differ, and some sets of them."""
    rng = np.random.default_rng(0)
    directions, weights = rng.normal(size=(24, 6)) / np.sqrt(6), rng.normal(size=(count, 6, 3))
    logits = 1.5 * rng.normal(size=(24, 3)) + spread * np.einsum("nd,tdc->tnc", directions, weights)
    return logits, np.stack([rng.choice(24, 4, replace=False) for _ in range(60)])


@pytest.mark.parametrize(("spread", "low", "high"), [(1e-3, 0.999, 1.001), (1.0, 1.1, 1.4)])
def test_the_gaussian_information_against_exact_enumeration(spread, low, high):
    """Equal where models hardly differ; too high where they do, in nearly the same order."""
    logits, sets = spread_about_a_mean(spread)
    exact = information.of_labels(logits, sets, np.random.default_rng(0))
    found = information.gaussian(logits, softmax(logits).mean(axis=0), sets)
    ratio = found * (1 - 1 / len(logits)) / exact  # covariances of samples divide by T − 1
    assert low < ratio.min() <= ratio.max() < high
    assert spearmanr(found, exact).statistic > 0.98


def test_information_of_images_is_a_sum():
    logits = samples()
    alone = information.of_images(logits, np.array([[0], [1], [3]]))
    together = information.of_images(logits, np.array([[0, 1, 3, -1], [-1, -1, -1, -1]]))
    np.testing.assert_allclose(together, [alone.sum(), 0])


def test_drawn_labels_come_close_to_all(monkeypatch):
    logits, sets = (
        samples(count=6, images=5),
        np.array([[0, 1, 2, 3], [1, 2, 3, 4], [0, 2, -1, -1]]),
    )
    exact = information.of_labels(logits, sets, np.random.default_rng(0))
    monkeypatch.setattr(information, "MOST_LABELLINGS", 0)
    monkeypatch.setattr(information, "DRAWS", 6000)
    drawn = information.of_labels(logits, sets, np.random.default_rng(0))
    np.testing.assert_allclose(drawn, exact, atol=0.05)
    again = information.of_labels(logits, sets, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)


def test_labels_tell_at_most_the_logarithm_of_the_samples():
    """Which is why large sets come out alike, and why it is not the default."""
    logits, sets = samples(count=5, images=40, spread=6.0), np.arange(40).reshape(2, 20)
    of_labels = information.of_labels(logits, sets, np.random.default_rng(0))
    assert np.ptp(of_labels) < 1e-3
    assert (of_labels <= np.log(5) + 1e-12).all()
    p = softmax(logits).mean(axis=0)
    assert np.ptp(information.gaussian(logits, p, sets)) > 1e-2


@pytest.mark.parametrize("images", [2, 6])
def test_gaussian_information_is_a_determinant(images):
    """Whether there are more samples than logits of a set, or fewer."""
    logits = samples(count=9, images=images)
    p = softmax(logits).mean(axis=0)
    flat = logits.reshape(9, -1)
    weights = np.zeros((flat.shape[1],) * 2)
    for k in range(images):
        own = slice(3 * k, 3 * k + 3)
        weights[own, own] = np.diag(p[k]) - np.outer(p[k], p[k])
    inner = np.eye(len(weights)) + np.cov(flat.T) @ weights
    found = information.gaussian(logits, p, np.array([[*range(images), -1], [-1] * (images + 1)]))
    np.testing.assert_allclose(found, [np.log(np.linalg.det(inner)) / 2, 0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [-np.eye(2), np.full((2, 2), np.nan)])
def test_a_matrix_that_is_none_of_a_set(bad):
    with pytest.raises(ValueError, match="information: expected a positive definite matrix"):
        information.half_log_det(bad.copy())


def test_samples_of_many_images_are_not_held_in_double_precision(monkeypatch):
    monkeypatch.setattr(information, "BLOCK_BYTES", 1 << 16)
    logits = np.random.default_rng(0).normal(size=(40, 3000, 5)).astype(np.float32)
    p, sets = softmax(logits[0]), np.arange(40).reshape(4, 10)
    rng, most = np.random.default_rng(0), {"of_labels": 0.8, "of_images": 0.6, "gaussian": 2.6}
    given = {"of_labels": (sets, rng), "of_images": (sets,), "gaussian": (p, sets)}
    for name, size in most.items():
        tracemalloc.start()
        getattr(information, name)(logits, *given[name])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < size * logits.nbytes, name
