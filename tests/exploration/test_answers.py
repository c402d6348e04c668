"""How answers are read, whatever form they come in."""

import numpy as np
import pytest

from emoc_tf.exploration.answers import REJECT, SKIP, Answer, AnswerError, read

NAMES = ("cat", "dog")


class NAType:
    """As pandas' own: it has no truth value, and is no equal of anything."""

    def __bool__(self):
        raise TypeError("boolean value of NA is ambiguous")

    def __eq__(self, other):
        return self

    __hash__ = None


def masked(values, mask):
    return np.ma.masked_array(values, mask)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ([0, 1, 0], [0, 1, 0]),
        ((1, 1, 1), [1, 1, 1]),
        (np.array([1, 0, 1], np.uint8), [1, 0, 1]),
        (np.array([1, -1, -2], np.int16), [1, SKIP, REJECT]),
        ([SKIP, REJECT, np.int32(1)], [SKIP, REJECT, 1]),
        (None, [SKIP] * 3),
        ([None, 1, float("nan")], [SKIP, 1, SKIP]),
        ([NAType(), 1, NAType()], [SKIP, 1, SKIP]),
        (np.array([None, np.nan, 0], object), [SKIP, SKIP, 0]),
        (np.full(3, np.nan), [SKIP] * 3),
        (np.full(3, np.nan, np.float32), [SKIP] * 3),
        (masked([1, 99, 0], [False, True, False]), [1, SKIP, 0]),
        (masked([1, 1, 0], True), [SKIP] * 3),
        (masked([1, 1, 0], np.ma.nomask), [1, 1, 0]),
        (masked(["cat", "?", "dog"], [0, 1, 0]), [0, SKIP, 1]),
        (["cat", "dog", "cat"], [0, 1, 0]),
        (np.array(["dog", "dog", "cat"]), [1, 1, 0]),
        ([" dog", "cat\n", "dog"], [1, 0, 1]),
        (["dog", 0, None], [1, 0, SKIP]),
        ([0, "dog", REJECT], [0, 1, REJECT]),
        (np.array(["cat", float("nan"), 1], object), [0, SKIP, 1]),
        (Answer([0, 1, REJECT]), [0, 1, REJECT]),
        (Answer(["cat", None, "dog"]), [0, SKIP, 1]),
        (Answer(masked([0, 1, 1], [0, 0, 1])), [0, 1, SKIP]),
        (Answer(None), [SKIP] * 3),
    ],
)
def test_what_is_plainly_meant_is_taken(given, labels):
    answer = read(given, 3, NAMES)
    assert answer.labels.dtype == np.int64
    assert answer.labels.tolist() == labels
    assert answer.new_classes == ()


@pytest.mark.parametrize(
    ("given", "labels", "new"),
    [
        (["fox", "cat", "fox"], [2, 0, 2], ("fox",)),
        (["fox", "owl", None], [2, 3, SKIP], ("fox", "owl")),
        ([0, "owl ", " owl"], [0, 2, 2], ("owl",)),
        (Answer([2, 0, SKIP], ["fox"]), [2, 0, SKIP], ("fox",)),
        (Answer([3, 2, 3], ("fox", "owl")), [2, 3, 2], ("owl", "fox")),
        (Answer([2, 2, 1], np.array(["cat"])), [0, 0, 1], ()),  # it is in the list
        (Answer([2, 3, 3], ["fox", "fox"]), [2, 2, 2], ("fox",)),
        (Answer(["owl", "cat", REJECT], ["owl"]), [2, 0, REJECT], ("owl",)),
    ],
)
def test_new_classes_follow_the_list(given, labels, new):
    answer = read(given, 3, NAMES)
    assert (answer.labels.tolist(), answer.new_classes) == (labels, new)


@pytest.mark.parametrize("given", [1, np.int64(1), [1], "dog", ["dog"], np.array(1), Answer(1)])
def test_one_image_may_be_answered_without_a_list(given):
    assert read(given, 1, NAMES).labels.tolist() == [1]


@pytest.mark.parametrize("given", [None, float("nan"), [None], np.array([np.nan]), NAType()])
def test_one_image_is_skipped(given):
    assert read(given, 1, NAMES).labels.tolist() == [SKIP]


def test_names_with_spaces_at_their_ends_are_found():
    assert read([" cat", "cat", "dog"], 3, (" cat", "dog ")).labels.tolist() == [0, 0, 1]
    assert read(["cat ", "dog "], 2, ("cat", "cat ", "dog ")).labels.tolist() == [1, 2]


@pytest.mark.parametrize("listed", ["caf\u00e9", "cafe\u0301 "])
def test_names_in_the_other_unicode_form_are_found(listed):
    """Keyboards compose letters, and file systems decompose them."""
    answer = read(["caf\u00e9", "cafe\u0301", "the\u0301", "th\u00e9"], 4, ("dog", listed))
    assert answer.labels.tolist() == [1, 1, 2, 2]
    assert answer.new_classes == ("the\u0301",)
    answer = read(["caf\u00e9"], 1, ("dog",), {"cafe\u0301": 0})
    assert (answer.labels.tolist(), answer.new_classes) == ([0], ())


def test_of_two_classes_of_one_name_the_first_is_meant():
    assert read(["dog", "cat"], 2, ("cat", "dog", "dog")).labels.tolist() == [1, 0]


@pytest.mark.parametrize("given", [["fox"], ["owl"]])
def test_where_nothing_is_known_a_name_is_the_first_class(given):
    answer = read(given, 1, ())
    assert (answer.labels.tolist(), answer.new_classes) == ([0], tuple(given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0, 1], r"expected \(3,\) integer class ids.*shape \(2,\)"),
        ([[0, 1, 1]], r"shape \(1, 3\)"),
        ([0, [1], 1], r"expected \(3,\)"),
        (1, r"shape \(\)"),
        (np.zeros((3, 1), int), r"int64 of shape \(3, 1\)"),
        ([0, 1, 2], r"ids in \[0, 2\).*got \[0, 1, 2\]; a class that the list lacks"),
        ([0, 1, -3], r"got \[0, 1, -3\]"),
        ([0, 1, 2**70], r"expected class ids in \[0, 2\)"),
        (np.array([0, 1, 2**63], np.uint64), r"expected class ids in \[0, 2\)"),
        ([0, 1, 1.5], r"integer class ids.*1.5 of type float"),
        ([0, 1, True], r"True of type bool"),
        (np.array([True, False, True]), r"of type bool"),
        ([0, 1, 1j], r"of type complex"),
        ([0, 1, b"cat"], r"of type bytes"),
        ([0, "dog", 2], r"expected class ids in \[0, 2\) or names, got 2"),
        ([0, "dog", -3], r"got -3"),
        ([0, "dog", ""], "empty text"),
        (["cat", "dog", "  "], "empty text; None or -1 skips"),
        (Answer([0, 1, 3], ["fox"]), r"\[0, 3\)"),
        (Answer([0, 1, 2], "fox"), "new_classes: expected a sequence of names, got 'fox'"),
        (Answer([0, 1, 2], [""]), "new_classes: expected names, got ''"),
        (Answer([0, 1, 2], [7]), "new_classes: expected names, got 7"),
        (Answer([0, 1, 2], None), "new_classes: expected a sequence"),
        ({"cat": 0}, r"expected \(3,\)"),
    ],
)  # fmt: skip
def test_the_rest_is_refused(given, message):
    with pytest.raises(AnswerError, match=message):
        read(given, 3, NAMES)


@pytest.mark.parametrize(
    ("given", "labels", "new"),
    [
        ("cat", [0, 0, 0], ()), (" fox ", [2, 2, 2], ("fox",)), (SKIP, [SKIP] * 3, ()),
        (np.int64(REJECT), [REJECT] * 3, ()), ([0.0, np.nan, 1.0], [0, SKIP, 1], ()),
        (np.array([1, np.nan, np.nan], np.float32), [1, SKIP, SKIP], ()),
    ],
)  # fmt: skip
def test_one_word_may_stand_for_all_and_gaps_make_floats(given, labels, new):
    answer = read(given, 3, NAMES)
    assert (answer.labels.tolist(), answer.new_classes) == (labels, new)


@pytest.mark.parametrize("given", [[0.5, np.nan, 1.0], [np.nan, np.inf, 0.0], True, 1])
def test_half_meant_is_refused(given):
    with pytest.raises(AnswerError, match="oracle: expected"):
        read(given, 3, NAMES)
