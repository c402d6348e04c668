"""The update by a set against the whole system, solved with and without it."""

import tracemalloc

import numpy as np
import pytest

from emoc_tf.agents import kernel_solve


def dense_change(theta, labelled, members, ridge, set_ridge, of_labelled, of_set):
    """Least squares with labelled images and set, less least squares without the set."""

    def solution(rows, ridges, targets):
        system = theta[np.ix_(rows, rows)] + np.diag(ridges)
        return theta[:, rows] @ np.linalg.solve(system, targets)

    rows = np.concatenate([labelled, members]).astype(int)
    ridges = np.r_[np.full(len(labelled), ridge), np.full(len(members), set_ridge)]
    with_set = solution(rows, ridges, np.concatenate([of_labelled, of_set]))
    without = solution(labelled, np.full(len(labelled), ridge), of_labelled)
    return with_set - without, without


@pytest.mark.parametrize("count", [0, 1, 7, 20])
def test_the_whole_system_solved_directly(count, monkeypatch):
    monkeypatch.setattr(kernel_solve, "MOST_VALUES", 50)
    rng = np.random.default_rng(count)
    features = rng.normal(size=(40, 5))  # fewer than images: the kernel is singular
    theta = features @ features.T
    labelled, sets = np.arange(count), rng.integers(20, 40, (6, 4))
    sets[1, 2:], sets[2, :] = -1, [25, 25, 30, -1]
    ridges = rng.random(6) + 0.1
    updates = kernel_solve.SetUpdates(
        kernel_solve.linear_kernel(features), labelled, 0.3, sets, ridges
    )
    of_labelled, of_sets = rng.normal(size=(count, 3)), rng.normal(size=(6, 4, 3))
    steps = updates.solve(updates.innovations(of_labelled, of_sets))
    by_labelled = updates.by_labelled(of_labelled)
    found, without = np.zeros((6, 40, 3)), np.zeros((40, 3))
    for rows, left, explained in updates.blocks(np.arange(40)):
        assert left.shape[1] < 40
        without[rows] = explained.T @ by_labelled
        for index in range(6):
            found[index, rows] = (steps[index].T @ left[updates.place[index]]).T
    for index, row in enumerate(sets):
        real = row >= 0
        change, alone = dense_change(
            theta, labelled, row[real], 0.3, ridges[index], of_labelled, of_sets[index, real]
        )
        np.testing.assert_allclose(found[index], change, atol=1e-10)
        np.testing.assert_allclose(without, alone, atol=1e-10)


def updates_and_parts(kernel, labelled, ridge, sets):
    """All numbers that an update consists of."""
    rng = np.random.default_rng(1)
    updates = kernel_solve.SetUpdates(kernel, labelled, ridge, sets, np.full(len(sets), 0.3))
    targets = rng.normal(size=(len(labelled), 3))
    steps = updates.solve(updates.innovations(targets, rng.normal(size=(*sets.shape, 3))))
    alone = updates.by_labelled(targets)
    blocks = [(left, told.T @ alone) for _, left, told in updates.blocks(np.arange(60))]
    return steps, *(
        np.concatenate(each, axis)
        for each, axis in zip(zip(*blocks, strict=True), (1, 0), strict=True)
    )


@pytest.mark.parametrize("ridge", [1e-6, 0.3, 1e3])
@pytest.mark.parametrize("rank", [6, 2])
def test_fewer_features_than_labelled_images_give_the_same(ridge, rank):
    """As a kernel of images, each with each, which nothing is known of."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, rank)) @ rng.normal(size=(rank, 6))
    labelled, sets = np.arange(30), rng.integers(30, 60, (5, 4))
    sets[1, 2:] = -1
    linear = kernel_solve.linear_kernel(features)
    found = updates_and_parts(linear, labelled, ridge, sets)
    wanted = updates_and_parts(lambda one, other: linear(one, other), labelled, ridge, sets)
    for one, other in zip(found, wanted, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-9 * scale / min(1, ridge))


def peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_of_many_labelled_images():
    features = np.random.default_rng(0).normal(size=(1020, 3))
    labelled, sets = np.arange(1000), np.arange(1000, 1020).reshape(5, 4)
    linear, square = kernel_solve.linear_kernel(features), 8 * 1000**2

    def make(kernel):
        kernel_solve.SetUpdates(kernel, labelled, 0.3, sets, np.full(5, 0.3))

    assert peak(lambda: make(lambda one, other: linear(one, other))) < 1.5 * square
    assert peak(lambda: make(linear)) < 0.1 * square


def test_what_is_too_large_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(kernel_solve, "MOST_BYTES", 10_000)
    features = np.zeros((60, 3))
    linear, labelled, sets = kernel_solve.linear_kernel(features), np.arange(50), np.array([[51]])
    kernel_solve.SetUpdates(linear, labelled, 1.0, sets, np.ones(1))
    with pytest.raises(ValueError, match=r"at most 10,000 bytes, got 20,800 with 50 labelled"):
        kernel_solve.SetUpdates(lambda *_: 1 / 0, labelled, 1.0, sets, np.ones(1))


def test_rounding_is_jittered_and_nonsense_refused():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(8, 2)).astype(np.float32)
    singular = (half @ half.T).astype(float) * 1e6
    stack = np.stack([singular, np.eye(8)])
    for found, matrix in zip(kernel_solve.cholesky(stack), stack, strict=True):
        np.testing.assert_allclose(found @ found.T, matrix, atol=1e-3 * np.abs(matrix).max())
    np.testing.assert_array_equal(kernel_solve.cholesky(np.zeros((0, 0))), np.zeros((0, 0)))
    with pytest.raises(ValueError, match="kernel: expected a positive definite matrix"):
        kernel_solve.cholesky(-np.eye(3))
    for power in (-16, -11, -7):  # of what is missing to be positive definite
        almost = np.diag([1.0, 1.0, -(10.0**power)])
        np.testing.assert_allclose(
            kernel_solve.cholesky(almost.copy()) @ kernel_solve.cholesky(almost.copy()).T,
            almost, atol=max(1e-12, 200 * 10.0**power),
        )  # fmt: skip
    with pytest.raises(ValueError, match="kernel: expected finite values"):
        kernel_solve.cholesky(np.full((2, 2), np.nan))


def test_a_dense_layer_that_is_really_trained():
    """By gradient descent on squares with weight decay until nothing moves."""
    rng = np.random.default_rng(3)
    features = np.c_[rng.normal(size=(30, 4)), np.ones(30)]
    labelled, members = np.arange(12), np.array([[20, 22, 25]])
    targets, ridges = rng.normal(size=(30, 3)), np.where(np.arange(30) < 12, 2.0, 0.5)

    def trained(rows):
        seen, wanted, weights = features[rows], targets[rows], np.zeros((5, 3))
        weight = 1 / ridges[rows][:, None]
        rate = 1 / (1 + np.linalg.norm((weight * seen).T @ seen, 2))
        for _ in range(5000):
            weights -= rate * (weights + seen.T @ (weight * (seen @ weights - wanted)))
        return features @ weights

    change = trained(np.r_[labelled, members[0]]) - trained(labelled)
    updates = kernel_solve.SetUpdates(
        kernel_solve.linear_kernel(features), labelled, 2.0, members, np.array([0.5])
    )
    steps = updates.solve(updates.innovations(targets[labelled], targets[members]))
    ((_, left, _),) = updates.blocks(np.arange(30))
    np.testing.assert_allclose((steps[0].T @ left[updates.place[0]]).T, change, atol=1e-9)
