"""Corrections and answers taken back: what the model has outputs for, and what it learns next."""

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, Answer
from tests.exploration.tasks import Still, explore, first_set, restored, say

LABELS = [0, 0, 1, 1] + [-1] * 10


def head(exploration):
    kernel, bias = exploration.state.model.layers[-1].get_weights()
    known = exploration.state.known_classes
    return {c: (*kernel[:, column], bias[column]) for column, c in enumerate(known)}


def last_call():
    return Still.calls[-1]


def check_learnt(exploration, novel):
    call, labels = last_call(), exploration.state.pool.labels
    labelled = np.flatnonzero(labels >= 0).tolist()
    assert call["novel"] == (novel or None)
    assert call["old"] == [i for i in labelled if i not in novel]
    assert call["labels"] == labels.tolist()


@pytest.mark.parametrize(
    ("labels", "novel"), [([1], [0]), (["fox"], [0]), ([SKIP], []), ([REJECT], [])]
)
def test_the_next_update_learns_what_was_corrected(labels, novel):
    exploration = explore(LABELS)
    calls = len(Still.calls)
    exploration.correct([0], labels)
    assert len(Still.calls) == calls  # not trained at once
    indices, _ = say(exploration, [1, 0])
    check_learnt(exploration, indices + novel)
    indices, _ = say(exploration, [0, 0])
    check_learnt(exploration, indices)  # once


@pytest.mark.parametrize("deep", [1, 2])
def test_what_was_taken_back_is_not_learnt_any_more(deep):
    exploration = explore(LABELS)
    said = [say(exploration, [1, "fox"])[0] for _ in range(deep)]
    for indices in reversed(said):
        entry = exploration.undo()
        assert entry.indices == tuple(indices)
    assert exploration.labels.tolist() == LABELS
    assert exploration.class_names == ("cat", "dog")
    indices, _ = say(exploration, [0, 1])
    check_learnt(exploration, indices)


def test_corrections_of_several_steps_are_learnt_together():
    exploration = explore(LABELS)
    exploration.correct([0, 5], [1, 0])
    exploration.correct([2, 0], [0, 0])
    exploration.undo()
    exploration.correct(np.array([3]), ["cat"])
    indices, _ = say(exploration, [0, SKIP])
    check_learnt(exploration, [indices[0], 3, 0, 5])


@pytest.mark.parametrize("answer", [[SKIP, SKIP], [REJECT, None]])
def test_a_step_without_labels_learns_corrections_or_nothing(answer):
    exploration = explore(LABELS)
    calls = len(Still.calls)
    say(exploration, answer)
    assert len(Still.calls) == calls
    assert exploration.journal[-1].kind == "answer"
    exploration.correct([1], [1])
    say(exploration, answer)
    check_learnt(exploration, [1])


@pytest.mark.parametrize("known", [LABELS, [1, 0] + [-1] * 8])
def test_a_merge_is_learnt_from_all_images(known):
    exploration = explore(known)
    exploration.merge(0, 1)
    say(exploration, [SKIP, SKIP])
    check_learnt(exploration, [])
    assert exploration.state.known_classes == (1,)


@pytest.mark.parametrize("new", [["fox", "owl"], ["fox", "fox"]])
def test_classes_appear_and_vanish_and_the_others_outputs_stay_bit_for_bit(new):
    exploration = explore(LABELS)
    start = head(exploration)
    exploration.correct([5, 6], new)
    grown = head(exploration)
    assert list(grown) == [0, 1, *range(2, 2 + len(set(new)))]
    assert {c: grown[c] for c in start} == start
    exploration.correct([5], ["cat"])
    left = head(exploration)
    assert (2 in left) == (new == ["fox", "fox"])
    assert left == {c: grown[c] for c in left}
    assert exploration.class_names == ("cat", "dog", *dict.fromkeys(new))
    exploration.undo()
    back = head(exploration)
    assert set(back) == set(grown)
    assert {c: back[c] for c in left} == left
    exploration.undo()
    assert head(exploration) == start
    assert exploration.class_names == ("cat", "dog")


@pytest.mark.parametrize("into", [0, 1])
def test_a_merge_keeps_the_output_of_the_class_that_stays(into):
    exploration = explore([0, 1, 2, -1, -1, -1], num_names=3)
    before = head(exploration)
    exploration.merge(1 - into, into)
    assert head(exploration) == {c: before[c] for c in (into, 2)}
    exploration.merge(into, 2)
    assert head(exploration) == {2: before[2]}
    exploration.undo()
    assert head(exploration)[2] == before[2]


@pytest.mark.parametrize("class_id", [0, 1])
def test_a_class_without_output_takes_that_of_the_one_merged_into_it(class_id):
    exploration = explore([0, 1, -1, -1, -1, -1], num_names=3)
    before = head(exploration)
    exploration.merge(class_id, 2)
    after = head(exploration)
    assert after == {2 if c == class_id else c: before[c] for c in before}
    assert exploration.class_names[class_id] == "fox"
    again = restored(exploration)
    assert head(again) == after


def test_split_makes_a_class_of_some_images():
    exploration = explore(LABELS)
    exploration.split([0, 2], "fox")
    assert exploration.labels.tolist() == [2, 0, 2, 1] + [SKIP] * 10
    assert exploration.state.known_classes == (0, 1, 2)
    exploration.undo()
    assert exploration.labels.tolist() == LABELS


def test_a_class_is_named_in_any_unicode_form():
    exploration = explore(LABELS)
    exploration.correct([5], ["cafe\u0301"])
    with pytest.raises(ValueError, match="name: expected a new name, got"):
        exploration.rename("cat", "caf\u00e9")
    exploration.merge("caf\u00e9", "cat")
    assert exploration.class_names[exploration.labels[5]] == "cat"


@pytest.mark.parametrize("name", ["cat", " cat", "cat ", "lion\n"])
@pytest.mark.parametrize("call", ["rename", "split"])
def test_a_name_is_that_of_one_class(name, call):
    exploration = explore(LABELS)
    exploration.rename(0, " lion ")
    exploration.merge(0, 1)
    exploration.undo()
    exploration.correct([5], ["cat"])
    assert exploration.class_names == ("lion", "dog", "cat")
    before = exploration.journal
    with pytest.raises(ValueError, match="name: expected a new name, got"):
        exploration.rename(1, name) if call == "rename" else exploration.split([0], name)
    assert exploration.journal == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.correct([0, 0], [1, 1]), "indices: expected different pool indices"),
        (lambda e: e.correct([0.5], [1]), "indices: expected different pool indices"),
        (lambda e: e.correct([[0]], [1]), "indices: expected different pool indices"),
        (lambda e: e.correct(0.0, 1), "indices: expected different pool indices"),
        (lambda e: e.correct([14], [1]), r"indices: expected pool indices in \[0, 14\)"),
        (lambda e: e.correct([-1], [1]), r"indices: expected pool indices in \[0, 14\)"),
        (lambda e: e.correct([True], [1]), "indices: expected different pool indices"),
        (lambda e: e.correct([0], [2]), r"labels: expected class ids in \[0, 2\)"),
        (lambda e: e.correct([0, 1], [1]), r"labels: expected \(2,\) integer class ids"),
        (lambda e: e.correct([0], [1.5]), "labels: expected integer class ids"),
        (lambda e: e.correct([0], Answer([2], ["", "x"])), "new_classes: expected names"),
        (lambda e: e.rename(2, "fox"), r"class_id: expected a class id in \[0, 2\) or .* got 2"),
        (lambda e: e.rename("Cat", "fox"), "class_id: expected a class id"),
        (lambda e: e.rename(True, "fox"), "class_id: expected a class id"),
        (lambda e: e.rename(0, " "), "name: expected a name, got ' '"),
        (lambda e: e.rename(0, 3), "name: expected a name, got 3"),
        (lambda e: e.split([0], None), "name: expected a name, got None"),
        (lambda e: e.split([99], "fox"), "indices: expected pool indices"),
        (lambda e: e.merge(0, 0), "into: expected another class than class_id"),
        (lambda e: e.merge(0, -1), r"into: expected a class id in \[0, 2\) or .*, got -1"),
        (lambda e: e.merge(0.0, 1), "class_id: expected a class id"),
        (lambda e: e.undo(), "undo: expected an answer or correction to take back"),
    ],
)
def test_what_is_none_is_refused_and_changes_nothing(call, message):
    exploration = explore(LABELS)
    before = exploration.state
    with pytest.raises(ValueError, match=message):
        call(exploration)
    assert exploration.state is before
    assert exploration.journal == ()
    assert exploration.class_names == ("cat", "dog")


@pytest.mark.parametrize("indices", [[], np.array([], int), ()])
def test_no_image_is_nothing_to_correct(indices):
    exploration = explore(LABELS)
    before = exploration.state
    exploration.correct(indices, [])
    assert exploration.state is before
    assert exploration.journal == ()


def test_images_of_an_open_query_are_not_corrected():
    exploration = explore(LABELS)
    query = exploration.ask(0)
    with pytest.raises(ValueError, match="images of no open query"):
        exploration.correct([0, query.indices[0]], [1, 1])
    exploration.correct([0], [1])
    assert exploration.queries == (query,)
    exploration.answer(query, [0, 0])
    exploration.correct(query.indices, [1, REJECT])


@pytest.mark.parametrize("label", [SKIP, None])
def test_an_image_that_was_rejected_comes_back(label):
    exploration = explore([0, 1, -1, -1])
    indices, _ = say(exploration, [REJECT, REJECT])
    assert exploration.finished
    assert exploration.state.pool.labels[indices].tolist() == [REJECT, REJECT]
    exploration.correct(indices, [label, label])
    assert sorted(exploration.state.candidates[first_set(exploration)]) == sorted(indices)


def test_what_advance_began_is_asked_anew_after_a_correction():
    exploration = explore(LABELS, KeyboardInterrupt(), [0, 1])
    with pytest.raises(KeyboardInterrupt):
        exploration.advance(1)
    told = []
    exploration.on_query = lambda: told.append(exploration.query)
    exploration.correct([0], [1])
    assert exploration.query is None
    assert told == [None]
    exploration.advance(1)


def test_corrections_are_saved_with_all_that_follows_from_them():
    exploration = explore(LABELS)
    say(exploration, ["fox", "owl"])
    exploration.undo()
    exploration.correct([0, 6], ["elk", REJECT])
    exploration.merge(0, 1)
    exploration.rename(2, "moose")
    again = restored(exploration)
    assert again.journal == exploration.journal
    assert again.class_names == exploration.class_names == ("dog", "dog", "moose")
    assert head(again) == head(exploration)
    np.testing.assert_array_equal(again.state.candidates, exploration.state.candidates)
    for each in (exploration, again):
        for _ in range(3):
            each.undo()
    assert again.labels.tolist() == exploration.labels.tolist() == LABELS
    assert again.class_names == ("cat", "dog")
