"""The books: what the entries of a journal come to."""

import json

import numpy as np
import pytest

from emoc_tf.exploration.journal import Book, Entry

SKIP, REJECT = -1, -2


def book(labels=(0, 1, -1, -1, -1, -1), names=("cat", "dog"), known=(0, 1)):
    return Book(np.array(labels), names, known)


def answer(indices, labels, *new, kind="answer"):
    return Entry(kind, 1, tuple(indices), tuple(labels), new)


def undo(opened):
    opened.enter(Entry("undo", 1, of=(opened.last_said(),)))


def merge(class_id, into):
    return Entry("merge", 1, class_id=class_id, into=into)


def rename(class_id, name):
    return Entry("rename", 1, class_id=class_id, name=name)


def contents(opened):
    return opened.labels.tolist(), opened.class_names, opened.known, opened.audited


def test_answers_label_and_discover():
    opened = book()
    opened.enter(answer([2, 4], [1, 2], "fox"))
    opened.enter(answer([3, 5], [SKIP, REJECT]))
    assert opened.labels.tolist() == [0, 1, 1, SKIP, 2, REJECT]
    assert opened.class_names == ["cat", "dog", "fox"]
    assert opened.known == [0, 1, 2]
    assert opened.skipped.tolist() == [0, 0, 0, 1, 0, 0]
    assert opened.columns().tolist() == [0, 1, 1, SKIP, 2, REJECT]
    assert opened.entries[0].first_class == 2


@pytest.mark.parametrize("known", [(1, 0), (1,), ()])
def test_columns_are_in_order_of_discovery(known):
    opened = Book(np.array([SKIP] * 3), ("cat", "dog"), known)
    opened.enter(answer([2, 0], [2, 0], "fox"))
    assert opened.known == [*known, 2] + [0] * (0 not in known)
    assert [opened.known[column] for column in opened.columns()[[2, 0]]] == [2, 0]


SAID = {
    "answer": answer([2, 3], [0, 1]),
    "answer with a new class": answer([2, 3], [2, 0], "fox"),
    "answer with two": answer([2, 3], [3, 2], "fox", "owl"),
    "skip": answer([2, 3], [SKIP, SKIP]),
    "reject": answer([2], [REJECT]),
    "correction": answer([0, 4], [1, 1], kind="correct"),
    "correction to nothing": answer([0, 1], [SKIP, REJECT], kind="correct"),
    "correction with a new class": answer([0, 1], [2, 2], "fox", kind="correct"),
    "renaming": rename(0, "lion"),
    "merging": merge(0, 1),
    "merging back": merge(1, 0),
}


@pytest.mark.parametrize("name", SAID)
@pytest.mark.parametrize("before", [None, "answer with a new class", "merging"])
def test_what_is_taken_back_was_never_said(name, before):
    opened, entry = book(), SAID[name]
    if before == "merging" and name.startswith("merging"):
        return  # ids are resolved before they are merged
    if before is not None:
        opened.enter(SAID[before])
        if before != "merging" and entry.new_classes:
            entry = answer(entry.indices, [label + (label > 1) for label in entry.labels],
                           *(f"other {n}" for n in entry.new_classes), kind=entry.kind)  # fmt: skip
    then = json.loads(json.dumps(contents(opened)[:3])), opened.skipped.tolist()
    opened.enter(entry)
    undo(opened)
    labels, names, known = then[0]
    assert contents(opened)[:2] == (labels, names)
    assert sorted(opened.known) == sorted(known)
    assert opened.skipped.tolist() == then[1]


@pytest.mark.parametrize("first", SAID)
@pytest.mark.parametrize("second", ["answer", "renaming", "correction to nothing", "reject"])
def test_undo_twice_is_the_beginning(first, second):
    opened, fresh = book(), book()
    opened.enter(SAID[first])
    opened.enter(SAID[second])
    undo(opened)
    undo(opened)
    assert contents(opened)[:2] == contents(fresh)[:2]
    assert sorted(opened.known) == [0, 1]
    assert opened.last_said() is None
    assert opened.skipped.tolist() == [0] * 6


def test_undo_goes_over_what_was_taken_back_and_what_was_learnt():
    opened = book()
    opened.enter(answer([2], [0]))
    opened.enter(Entry("learn", 1, of=(0,)))
    opened.enter(answer([3], [1]))
    undo(opened)
    assert opened.last_said() == 0
    opened.enter(answer([4], [1]))
    assert opened.last_said() == 4
    assert opened.unlearnt() == [4]
    undo(opened)
    undo(opened)
    assert opened.labels.tolist() == [0, 1] + [SKIP] * 4
    assert [entry.kind for entry in opened.live()] == ["learn"]


def test_outputs_that_stay_keep_their_place_when_others_come_back():
    opened = book((SKIP,) * 6, (), ())
    opened.enter(answer([0, 1], [0, 1], "cat", "dog"))
    opened.enter(answer([2], [2], "fox"))
    opened.enter(answer([0], [1], kind="correct"))  # no cat is left
    assert opened.known == [1, 2]
    undo(opened)
    assert opened.known == [1, 2, 0]
    assert opened.columns().tolist() == [2, 0, 1, SKIP, SKIP, SKIP]


@pytest.mark.parametrize("label", [SKIP, REJECT, 1])
def test_a_class_without_images_loses_its_output_and_keeps_its_id(label):
    opened = book()
    opened.enter(answer([2], [2], "fox"))
    opened.enter(answer([2], [label], kind="correct"))
    assert opened.known == [0, 1]
    assert opened.class_names == ["cat", "dog", "fox"]
    opened.enter(answer([3], [2]))
    assert opened.known == [0, 1, 2]


def test_classes_known_at_the_start_keep_their_outputs():
    opened = book()
    opened.enter(answer([0, 1], [REJECT, SKIP], kind="correct"))
    assert opened.known == [0, 1]


def test_ids_stay_when_a_class_in_the_middle_of_the_list_is_taken_back():
    """Answers about audit images are not taken back, and may have named a class behind it."""
    opened = book()
    opened.enter(answer([2], [2], "fox"))
    opened.enter(answer([5], [3], "owl", kind="audit"))
    undo(opened)
    assert opened.class_names == ["cat", "dog", "fox", "owl"]
    assert opened.known == [0, 1]
    assert opened.audited == {5: 3}
    opened.enter(answer([3, 4], [2, 4], "elk"))
    assert opened.class_names == ["cat", "dog", "fox", "owl", "elk"]
    assert opened.known == [0, 1, 2, 4]
    undo(opened)
    assert opened.class_names == ["cat", "dog", "fox", "owl"]


def test_a_new_class_may_take_the_id_of_one_that_was_taken_back():
    opened = book()
    opened.enter(answer([2], [2], "fox"))
    undo(opened)
    opened.enter(answer([3], [2], "owl"))
    assert (opened.class_names, opened.labels[3]) == (["cat", "dog", "owl"], 2)
    opened.enter(answer([4], [3], "elk"))
    undo(opened)
    assert opened.class_names == ["cat", "dog", "owl"]


@pytest.mark.parametrize("order", [[(0, 1), (1, 2)], [(1, 2), (0, 2)], [(1, 0), (0, 2)]])
def test_merges_of_merged_classes(order):
    opened = book((0, 1, 2, SKIP), ("cat", "dog", "fox"), (0, 1, 2))
    for class_id, into in order:
        opened.enter(merge(class_id, into))
    assert opened.labels.tolist() == [2, 2, 2, SKIP]
    assert opened.class_names == ["fox"] * 3
    assert opened.known == [2]
    opened.enter(answer([3], [order[0][0]]))  # an old id stands for the class
    assert opened.labels[3] == 2
    opened.enter(rename(2, "wolf"))
    assert opened.class_names == ["wolf"] * 3
    for _ in range(4):
        undo(opened)
    assert opened.labels.tolist() == [0, 1, 2, SKIP]
    assert opened.class_names == ["cat", "dog", "fox"]
    assert sorted(opened.known) == [0, 1, 2]


@pytest.mark.parametrize("known", [(0, 1), (1, 0)])
def test_a_class_without_output_takes_that_of_the_one_merged_into_it(known):
    opened = Book(np.array([0, 1, SKIP]), ("cat", "dog", "fox"), known)
    opened.enter(merge(0, 2))
    assert opened.known == [2 if c == 0 else c for c in known]
    assert opened.labels.tolist() == [2, 1, SKIP]


@pytest.mark.parametrize("label", [1, REJECT])
def test_audit_images_are_corrected_where_they_are(label):
    opened = book()
    opened.enter(answer([4, 5], [0, SKIP], kind="audit"))
    assert opened.audited == {4: 0}
    opened.enter(answer([5, 4, 2], [label, SKIP, 1], kind="correct"))
    assert opened.audited == {5: label}
    assert opened.labels.tolist() == [0, 1, 1, SKIP, SKIP, SKIP]
    undo(opened)
    assert opened.audited == {4: 0}
    assert opened.labels.tolist() == [0, 1] + [SKIP] * 4


def test_audit_images_follow_merges_and_their_undoing():
    opened = book()
    opened.enter(answer([4, 5], [0, REJECT], kind="audit"))
    opened.enter(merge(0, 1))
    assert opened.audited == {4: 1, 5: REJECT}
    undo(opened)
    assert opened.audited == {4: 0, 5: REJECT}


@pytest.mark.parametrize("name", SAID)
def test_entries_are_json(name):
    opened = book()
    opened.enter(SAID[name])
    entry = opened.entries[0]
    again = Entry.from_dict(json.loads(json.dumps(entry.to_dict())))
    assert again == entry
    replayed = book()
    replayed.replay([again, Entry.from_dict({"kind": "undo", "step": 3, "of": [0]})])
    assert contents(replayed)[:2] == contents(book())[:2]


def test_all_fields_of_an_entry_are_json():
    entry = Entry(
        "answer", 3, (4, 2), (0, 7), ("elk",), 7, (0, 0), 5, (1, 2), "x", 0, 0, "2026", 4, 0
    )  # fmt: skip
    told = entry.to_dict()
    assert len(told) == len(vars(entry))  # 0 is something
    assert Entry.from_dict(json.loads(json.dumps(told))) == entry
    assert Entry("learn", 1).to_dict() == {"kind": "learn", "step": 1}


@pytest.mark.parametrize("guesses", [(), (5, 6, 7)])
def test_entries_follow_their_images(guesses):
    entry = Entry("answer", 1, (3, 1, 2), (0, SKIP, 1), guesses=guesses)
    moved = entry.of_images({2: 0, 3: 9})
    assert moved.indices == (9, 0)
    assert moved.labels == (0, 1)
    assert moved.guesses == ((5, 7) if guesses else ())
