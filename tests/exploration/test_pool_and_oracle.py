import numpy as np
import pytest

from emoc_tf.exploration.oracle import LabelOracle, ask
from emoc_tf.exploration.pool import Pool


def make_pool():
    return Pool(np.zeros((6, 2, 2, 1), np.float32))


def test_labels_are_entered_once():
    pool = make_pool()
    assert list(pool.unlabelled) == [0, 1, 2, 3, 4, 5]
    pool.label(np.array([4, 1]), np.array([0, 2]))
    assert list(pool.labelled) == [1, 4]
    assert list(pool.labels) == [-1, 2, -1, -1, 0, -1]
    with pytest.raises(ValueError, match="indices: expected unlabelled images"):
        pool.label(np.array([3, 4]), np.array([1, 1]))
    with pytest.raises(ValueError, match="indices: expected distinct"):
        pool.label(np.array([3, 3]), np.array([1, 1]))
    with pytest.raises(ValueError, match="columns: expected at least 0, got -1"):
        pool.label(np.array([3]), np.array([-1]))
    assert list(pool.labels) == [-1, 2, -1, -1, 0, -1]


def test_nobody_else_can_write():
    pool = make_pool()
    snapshot = pool.snapshot()
    pool.label(np.array([0]), np.array([1]))
    assert (snapshot.labels == -1).all()
    for array in (pool.labels, pool.images, snapshot.labels, snapshot.images):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        snapshot.label(np.array([1]), np.array([1]))


def test_the_oracle_answers_with_class_ids():
    images, indices = np.zeros((2, 2, 2, 1)), np.array([2, 0])
    answer = ask(LabelOracle(np.array([7, 8, 9])), indices, images, "abcdefghij")
    assert list(answer.labels) == [9, 7]
    assert answer.new_classes == ()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ([1], r"oracle: expected \(2,\) integer class ids, .* got int64 of shape \(1,\)"),
        ([1.0, 2.0], r"oracle: expected integer class ids, .* got 1.0 of type float"),
        ([1, 10], r"oracle: expected class ids in \[0, 10\), -1 to skip .* got \[1, 10\]; a class"),
        ([1, -3], r"oracle: expected class ids in .* or -2 to reject it, got \[1, -3\]"),
        ([True, False], "oracle: expected integer class ids, .* got True of type bool"),
    ],
)
def test_bad_answers_get_one_sentence(answer, message):
    class Answering:
        def label(self, indices, images):
            return np.array(answer)

    with pytest.raises(ValueError, match=message):
        ask(Answering(), np.array([2, 0]), np.zeros((2, 2, 2, 1)), "abcdefghij")
