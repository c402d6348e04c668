"""Principal directions and how many each stage is given."""

import numpy as np
import pytest

from emoc_tf.scoring.sketches import directions


def vectors(rng, count, size=12):
    """Vectors whose energy is in three known directions, and little elsewhere."""
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    scale = np.array([9.0, 5.0, 2.0, *[0.05] * (size - 3)])
    return (rng.normal(size=(count, size)) * scale) @ basis.T, basis


@pytest.mark.parametrize("count", [200, 6])
def test_directions_of_the_most_energy_come_first(count):
    rng = np.random.default_rng(0)
    drawn, _ = vectors(rng, 2 * count)
    fitted, held_out = drawn[:count], drawn[count:]
    found = directions.of_rows(fitted, held_out)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(found.basis.shape[1]), atol=1e-9)
    own = np.square(fitted @ found.basis).sum(axis=0)
    assert (np.diff(own) <= 1e-9).all()
    best = np.linalg.svd(fitted)[2][:3]
    np.testing.assert_allclose(np.abs(best @ found.basis[:, :3]), np.eye(3), atol=1e-6)
    for kept in (0, 1, 3):
        part = np.square(held_out @ found.basis[:, :kept]).sum() / np.square(held_out).sum()
        assert found.captured[kept] == pytest.approx(part)


def test_wide_spaces():
    rng = np.random.default_rng(0)
    drawn, _ = vectors(rng, 500, size=600)
    moment = drawn[:400].T @ drawn[:400]
    found = directions.of_moments(moment, drawn[400:].T @ drawn[400:])
    assert found.basis.shape == (600, directions.MOST)
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(256), atol=1e-9)
    best = np.linalg.eigh(moment)[1][:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(best.T @ found.basis[:, :3]), np.eye(3), atol=1e-3)
    few = directions.of_rows(drawn[:400], drawn[400:])
    np.testing.assert_allclose(few.captured[:4], found.captured[:4], atol=1e-3)


def test_energy_is_that_of_other_vectors():
    """Of fewer vectors than dimensions all energy is held, of others it is not."""
    rng = np.random.default_rng(0)
    fitted, held_out = rng.normal(size=(2, 8, 50))
    found = directions.of_rows(fitted, held_out)
    assert found.basis.shape == (50, 8)
    assert found.captured[-1] < 0.4


def test_no_gradients_leave_nothing_out():
    found = directions.of_rows(np.zeros((3, 8)), np.zeros((2, 8)))
    assert np.isfinite(found.basis).all()
    assert found.captured[-1] == 1
    found = directions.of_moments(np.zeros((4, 4)), np.zeros((4, 4)))
    assert found.captured[-1] == 1


def part(energy, captured, units=1):
    captured = np.asarray(captured, float)
    size = len(captured) - 1
    spectrum = directions.Spectrum(np.eye(size), captured)
    return directions.Part(energy, (spectrum,), units)


def test_directions_go_where_they_hold_most_for_what_they_cost():
    quick = 1 - 0.5 ** np.arange(41)
    slow = np.arange(41) / 40
    parts = [part(1.0, quick), part(1.0, slow), part(1.0, slow, units=50), part(1e-9, slow)]
    counts = directions.sizes(parts, 0.34, 10**6)
    assert counts[0][0] < counts[1][0] == 40
    assert counts[2][0] == counts[3][0] == directions.STEP
    lost = sum(
        own.energy * directions.left(own, count) for own, count in zip(parts, counts, strict=True)
    )
    assert 0.3 < lost / 3 <= 0.34


@pytest.mark.parametrize("most", [1, 60, 200])
def test_no_more_numbers_than_wanted(most):
    parts = [part(1.0, np.arange(41) / 40, units=3) for _ in range(3)]
    counts = directions.sizes(parts, 0.0, most)
    size = sum(directions.numbers(own, count) for own, count in zip(parts, counts, strict=True))
    least = 3 * 3 * directions.STEP
    assert size == max(least, most - most % (3 * directions.STEP))


def test_both_sides_of_a_wide_stage_grow_together():
    inputs = directions.Spectrum(np.eye(40), 1 - 0.7 ** np.arange(41))
    deltas = directions.Spectrum(np.eye(60), 1 - 0.9 ** np.arange(61))
    both = directions.Part(1.0, (inputs, deltas), 60)
    (counts,) = directions.sizes([both], 0.1, 10**6)
    assert directions.left(both, counts) <= 0.1
    assert counts[0] < counts[1] < 60
    assert directions.numbers(both, counts) == counts[0] * counts[1]
