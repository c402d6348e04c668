import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, labels, reference
from tests.scoring import models

POSTERIOR = np.array(
    [
        [0.55, 0.40, 0.05],
        [0.01, 0.45, 0.54],
        [0.90, 0.05, 0.05],
        [0.10, 0.60, 0.30],
    ]
)


def test_a_sets_label_is_the_most_likely_for_all_of_it():
    """argmax_c Σ log p(c|x'): in the first set it is no image's own most likely label."""
    sets = np.array([[0, 1], [2, 3], [1, -1], [3, 0]])
    by_hand = [0.40 * 0.45, 0.90 * 0.10, 0.54, 0.60 * 0.40]
    found = labels.most_likely_set_labels(np.log(POSTERIOR) + 3.0, sets)
    assert list(found) == [1, 0, 2, 1]
    assert [
        np.prod(POSTERIOR[row[row >= 0], label]) for row, label in zip(sets, found, strict=True)
    ] == pytest.approx(by_hand)


def test_zero_posteriors_do_not_hide_a_label():
    """In float32 the softmax of these logits is 0 for all but one class of each image."""
    logits = np.array([[300.0, 290, 0], [0.0, 290, 300]], np.float32)
    assert list(labels.most_likely_set_labels(logits, np.array([[0, 1]]))) == [1]


def test_scores_use_that_label():
    """Also where it is no image's own."""
    model = models.make("dense")
    images = models.images(4, model.input_shape[1:])
    mixed = models.images(200, model.input_shape[1:], seed=4)
    logits = reference.outputs(model, mixed)
    own = logits.argmax(axis=1)
    pairs = [
        (a, b)
        for a in range(0, 100)
        for b in range(100, 200)
        if labels.most_likely_set_labels(logits, np.array([[a, b]]))[0] not in (own[a], own[b])
    ]
    assert pairs
    sets = np.array(pairs[:3])
    expected = [
        reference.scores(model, images, mixed[row], np.full(2, label)).sum()
        for row, label in zip(sets, labels.most_likely_set_labels(logits, sets), strict=True)
    ]
    np.testing.assert_allclose(reference.set_scores(model, images, mixed, sets), expected)
    np.testing.assert_allclose(
        EMOCScorer(model).set_scores(images, mixed, sets), expected, rtol=1e-4
    )


def test_sums_leave_padding_out():
    sets = np.array([[0, 2], [1, -1], [-1, -1]])
    np.testing.assert_array_equal(labels.sum_over_sets(np.array([1.0, 2, 4]), sets), [5, 2, 0])
    rows = labels.sum_over_sets(np.array([[1.0, 0], [2, 1], [4, 2]]), sets)
    np.testing.assert_array_equal(rows, [[5, 2], [2, 1], [0, 0]])
