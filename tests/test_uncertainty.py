import numpy as np
import pytest

from emoc_tf import uncertainty

POSTERIOR = np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45], [1.0, 0.0, 0.0]])


def test_measures_on_hand_made_posteriors():
    np.testing.assert_allclose(uncertainty.max_score(POSTERIOR), [0.7, 0.45, 1])
    np.testing.assert_allclose(uncertainty.min_score(POSTERIOR), [0.1, 0.1, 0])
    np.testing.assert_allclose(uncertainty.margin(POSTERIOR), [0.5, 0, 1])
    by_hand = -(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)) / np.log(3)
    np.testing.assert_allclose(uncertainty.entropy(POSTERIOR)[[0, 2]], [by_hand, 0], atol=1e-15)
    assert uncertainty.entropy(np.full((1, 5), 0.2))[0] == pytest.approx(1)


def test_one_class():
    ones = np.ones((3, 1))
    assert list(uncertainty.margin(ones)) == [1, 1, 1]
    assert list(uncertainty.entropy(ones)) == [0, 0, 0]


def test_set_means_leave_padding_out():
    sets = np.array([[0, 2, -1], [1, 1, 2], [-1, -1, -1]])
    np.testing.assert_allclose(uncertainty.set_means(np.array([1.0, 2, 4]), sets), [2.5, 8 / 3, 0])


def test_set_spreads_are_standard_deviations_without_padding():
    sets = np.array([[0, 2, -1], [1, 1, 1], [-1, -1, -1]])
    np.testing.assert_allclose(
        uncertainty.set_spreads(np.array([1.0, 2, 4]), sets), [1.5, 0, 0], atol=1e-12
    )


def test_where_no_class_is_known_all_images_are_as_where_there_is_one():
    none, ones = np.zeros((3, 0), np.float32), np.ones((3, 1), np.float32)
    for measure in ("max_score", "min_score", "margin", "entropy"):
        found, expected = (getattr(uncertainty, measure)(each) for each in (none, ones))
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def test_set_mean_rows_leave_padding_out():
    rows = np.array([[1, 10], [2, 20], [4, 40]], np.float32)
    sets = np.array([[0, 2, -1], [1, 1, 2], [-1, -1, -1]])
    found = uncertainty.set_mean_rows(rows, sets)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [[2.5, 25], [8 / 3, 80 / 3], [0, 0]])
    assert uncertainty.set_mean_rows(rows[:, :0], sets).shape == (3, 0)
