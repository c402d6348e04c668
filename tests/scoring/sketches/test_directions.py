"""Principal directions and how many each stage is given."""

import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.scoring.sketches import directions


def vectors(rng, count, size=12):
    """Vectors whose energy is in three known directions, and little elsewhere."""
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    scale = np.array([9.0, 5.0, 2.0, *[0.05] * (size - 3)])
    return (rng.normal(size=(count, size)) * scale) @ basis.T, basis


@pytest.mark.parametrize(("count", "size"), [(200, 12), (6, 12), (400, 600), (60, 600)])
def test_directions_of_the_most_energy_come_first(count, size):
    rng = np.random.default_rng(0)
    drawn, _ = vectors(rng, 2 * count, size)
    fitted, held_out = drawn[:count], drawn[count:]
    found = directions.spectrum_of(tf.constant(fitted), tf.constant(held_out), 0)
    kept = found.basis.shape[1]
    assert min(count, size, directions.MOST) <= kept <= directions.MOST
    np.testing.assert_allclose(found.basis.T @ found.basis, np.eye(kept), atol=1e-9)
    own = np.square(fitted @ found.basis).sum(axis=0)
    assert (np.diff(own) <= 1e-9 * own[0]).all()
    best = np.linalg.svd(fitted)[2][:3]
    np.testing.assert_allclose(np.abs(best @ found.basis[:, :3]), np.eye(3), atol=1e-6)
    for leading in (0, 1, 3):
        part = np.square(held_out @ found.basis[:, :leading]).sum() / np.square(held_out).sum()
        assert found.captured[leading] == pytest.approx(part)


def test_wide_spaces_lose_little_to_the_random_start():
    """Of a spectrum that falls slowly nearly the energy of the best directions is held."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.normal(size=(700, 700)))
    drawn = (rng.normal(size=(900, 700)) * np.arange(1, 701) ** -0.5) @ basis.T
    given = tf.constant(drawn, tf.float32)
    found = directions.spectrum_of(given, given, 0)
    best = np.cumsum(np.linalg.svd(drawn)[1] ** 2) / np.square(drawn).sum()
    for count in (4, 16, 64):
        assert found.captured[count] > 0.98 * best[count - 1]
    again = directions.spectrum_of(given, given, 0)
    np.testing.assert_array_equal(found.basis, again.basis)


def test_energy_is_that_of_other_vectors():
    """Of fewer vectors than dimensions all energy is held, of others it is not."""
    rng = np.random.default_rng(0)
    for size in (50, 200):
        fitted, held_out = rng.normal(size=(2, 8, size))
        found = directions.spectrum_of(tf.constant(fitted), tf.constant(held_out), 0)
        own = np.square(fitted @ found.basis[:, :8]).sum() / np.square(fitted).sum()
        assert own == pytest.approx(1)
        assert found.captured[8] < 0.4


@pytest.mark.parametrize("size", [8, 200])
def test_no_gradients_leave_nothing_out(size):
    nothing = tf.zeros((3, size))
    found = directions.spectrum_of(nothing, nothing, 0)
    assert np.isfinite(found.basis).all()
    assert found.captured[-1] == 1
    found = directions.spectrum_of(tf.zeros((300, size)), nothing, 0)
    assert np.isfinite(found.basis).all()
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
