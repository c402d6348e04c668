"""Queries that are opened, answered and withdrawn in any order."""

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, Answer
from emoc_tf.exploration.oracle import Query
from tests.exploration.tasks import explore, first_set, restored, say

LABELS = [0, 1] + [-1] * 8


def ask_until(exploration, count):
    return [exploration.ask(first_set(exploration)) for _ in range(count)]


@pytest.mark.parametrize("sampler", ["uniform", "minibatch-cluster", "single_class"])
def test_open_queries_share_no_image(sampler):
    exploration = explore(LABELS, sampler=sampler)
    queries = ask_until(exploration, 4)
    asked = np.concatenate([query.indices for query in queries])
    assert sorted(asked) == list(range(2, 10))
    assert [query.number for query in queries] == [1, 2, 3, 4]
    assert not exploration.state.candidate_mask.any()
    assert (exploration.state.candidates == -1).all()
    assert not exploration.finished
    assert [query.number for query in exploration.queries] == [1, 2, 3, 4]


def test_sets_that_share_an_image_are_masked_and_others_are_as_they_were():
    exploration = explore([0, 1] + [-1] * 20, num_candidate_sets=8)
    before = exploration.state
    query = exploration.ask(3)
    after, shared = exploration.state, np.isin(before.candidates, query.indices).any(axis=1)
    assert 0 < shared.sum() < 8
    np.testing.assert_array_equal(after.candidate_mask, ~shared)
    np.testing.assert_array_equal(after.candidates[~shared], before.candidates[~shared])
    assert (after.candidates[shared] == -1).all()
    with pytest.raises(ValueError, match="choice: expected the index of one of the"):
        exploration.ask(3)
    assert before.candidate_mask.all()


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]])
def test_answers_come_in_any_order(order):
    exploration = explore(LABELS)
    queries = ask_until(exploration, 3)
    answers = [[0, "fox"], [SKIP, "owl"], [REJECT, 1]]
    named = []
    for step, i in enumerate(order, start=1):
        outcome = exploration.answer(queries[i], answers[i])
        assert outcome.step == step == exploration.state.step
        named += [a for a in answers[i] if isinstance(a, str)]
    assert exploration.queries == ()
    assert exploration.class_names == ("cat", "dog", *named)
    for query, answer in zip(queries, answers, strict=True):
        ids = [exploration.class_names.index(a) if isinstance(a, str) else a for a in answer]
        assert exploration.labels[query.indices].tolist() == ids


def test_a_query_tells_images_classes_and_what_the_model_predicts():
    exploration = explore(LABELS)
    query = exploration.ask(2)
    np.testing.assert_array_equal(query.images, exploration.episode.raw_images[query.indices])
    assert query.class_names == ("cat", "dog")
    assert query.choice == 2
    predicted = exploration.state.probabilities[query.indices].argmax(axis=1)
    assert query.guesses.tolist() == [exploration.state.known_classes[c] for c in predicted]
    assert exploration.ask(first_set(exploration)).number == 2


@pytest.mark.parametrize("last", [True, False])
def test_withdrawn_images_may_be_asked_about_again(last):
    exploration = explore(LABELS)
    told = []
    exploration.on_query = lambda: told.append(len(exploration.queries))
    queries = ask_until(exploration, 4 if last else 1)
    exploration.withdraw(queries[0])
    assert told == [*range(1, len(queries) + 1), len(queries) - 1]
    shown = exploration.state.candidates[exploration.state.candidate_mask]
    assert set(queries[0].indices) <= set(range(2, 10))
    if last:
        assert set(shown.ravel()) == set(queries[0].indices)
    assert (exploration.labels[queries[0].indices] == SKIP).all()
    assert exploration.journal == ()
    with pytest.raises(ValueError, match="query: expected one of the"):
        exploration.withdraw(queries[0])
    with pytest.raises(ValueError, match="query: expected one of the"):
        exploration.answer(queries[0], [0, 0])


def test_a_query_is_answered_once():
    exploration = explore(LABELS)
    query = exploration.ask(0)
    exploration.answer(query, [0, 1])
    before = exploration.state
    with pytest.raises(ValueError, match="expected one of the 0 open queries, got another"):
        exploration.answer(query, [1, 1])
    assert exploration.state is before


@pytest.mark.parametrize("other", [Query(0, indices=np.array([2, 3]), number=9), Query(None)])
def test_queries_of_others_are_refused(other):
    exploration = explore(LABELS)
    exploration.ask(0)
    for call in (lambda: exploration.answer(other, [0, 0]), lambda: exploration.withdraw(other)):
        with pytest.raises(ValueError, match="expected one of the 1 open queries"):
            call()


@pytest.mark.parametrize("wrong", [[0], [0, 9], 1, [0.5, 1], Answer([0, 2], "ab")])
def test_a_wrong_answer_changes_nothing(wrong):
    exploration = explore(LABELS)
    query = exploration.ask(1)
    before = exploration.state
    with pytest.raises(ValueError, match=r"oracle: |new_classes: "):
        exploration.answer(query, wrong)
    assert exploration.state is before
    assert exploration.journal == ()
    assert exploration.queries[0].classes is None
    exploration.answer(query, [0, 1])
    assert exploration.labels[query.indices].tolist() == [0, 1]


def test_an_oracle_is_told_the_classes_as_the_list_grows_and_shrinks():
    exploration = explore(LABELS, ["fox", 0], [1, SKIP], ["owl", "owl"])
    told = exploration._given_oracle.classes
    assert told == [("cat", "dog")]
    for _ in range(3):
        exploration.advance(first_set(exploration))
    assert told[1:] == [("cat", "dog", "fox"), ("cat", "dog", "fox", "owl")]
    exploration.rename(0, "lion")
    exploration.undo()
    exploration.undo()
    assert told[3:] == [
        ("lion", "dog", "fox", "owl"), ("cat", "dog", "fox", "owl"), ("cat", "dog", "fox"),
    ]  # fmt: skip


def test_nobody_is_asked_about_an_image_twice():
    exploration = explore([0, 1] + [-1] * 7, *[[0, REJECT]] * 3, ["fox"])
    for _ in range(4):
        exploration.advance(first_set(exploration))
    asked = [i for indices in exploration._given_oracle.asked for i in indices]
    assert sorted(asked) == list(range(2, 9))  # the one left over is a set as well
    assert exploration.finished


@pytest.mark.parametrize("skipped", [1, 3])
def test_skipped_images_come_last(skipped):
    exploration = explore([0, 1] + [-1] * 8)
    first = [say(exploration, [SKIP, SKIP])[0] for _ in range(skipped)]
    first = {i for indices in first for i in indices}
    others = set(range(2, 10)) - first
    for _ in range(len(others) // 2):
        assert set(say(exploration, [0, 1])[0]) <= others
    assert set(say(exploration, [SKIP, 1])[0]) <= first


def test_without_an_oracle_advance_says_what_to_call():
    exploration = explore(LABELS)
    with pytest.raises(RuntimeError, match="without one, call ask and answer"):
        exploration.advance(0)


class BrokenOffError(Exception):
    """In place of a full disk, or the end of the process."""


def break_off_after_answer(exploration, query, answer):
    def on_query():
        if any(each.classes is not None for each in exploration.queries):
            raise BrokenOffError

    exploration.on_query = on_query
    with pytest.raises(BrokenOffError):
        exploration.answer(query, answer)
    exploration.on_query = None


@pytest.mark.parametrize("again", [False, True])
def test_an_answer_that_is_not_learnt_yet_keeps_its_meaning(again):
    """Nothing that may bring other classes is said before it."""
    exploration = explore(LABELS)
    first, second = ask_until(exploration, 2)
    break_off_after_answer(exploration, first, ["fox", 0])
    if again:
        exploration = restored(exploration)
    for call in (
        lambda: exploration.answer(second, ["owl", 1]),
        lambda: exploration.correct([0], ["owl"]),
        lambda: exploration.ask(first_set(exploration)),
        lambda: exploration.withdraw(second),
        lambda: exploration.undo(),
    ):
        with pytest.raises(RuntimeError, match="query number 1, which has been answered"):
            call()
    with pytest.raises(ValueError, match="which it was answered with"):
        exploration.answer(exploration.queries[0], ["fox", 1])
    with pytest.raises(ValueError, match="has not been answered"):
        exploration.withdraw(first)
    exploration.answer(exploration.queries[0], ["fox", 0])
    exploration.answer(exploration.queries[0], ["owl", 1])
    assert exploration.class_names == ("cat", "dog", "fox", "owl")
    assert exploration.labels[first.indices].tolist() == [2, 0]
    assert exploration.labels[second.indices].tolist() == [3, 1]


@pytest.mark.parametrize("call", ["ask", "answer", "withdraw"])
def test_a_query_that_advance_began_ends_where_others_are_asked_or_answered(call):
    exploration = explore([0, 1] + [-1] * 12, KeyboardInterrupt(), [0, 1])
    query = exploration.ask(first_set(exploration))
    choice = first_set(exploration)
    with pytest.raises(KeyboardInterrupt):
        exploration.advance(choice)
    assert exploration.query.choice == choice
    if call == "ask":
        other = exploration.ask(choice)
    elif call == "answer":
        exploration.answer(query, [0, 1])
    else:
        exploration.withdraw(query)
    assert exploration.query is None
    again = restored(exploration)
    assert again.query is None
    np.testing.assert_array_equal(again.state.candidates, exploration.state.candidates)
    hidden = [i for each in again.queries for i in each.indices]
    assert not set(again.state.candidates.ravel()) & set(hidden)
    if call == "ask":
        exploration.answer(other, [1, 1])
    exploration.advance(first_set(exploration))


def test_before_reset_nothing_can_be_asked():
    from emoc_tf.exploration import Exploration
    from tests.exploration import tasks

    exploration = Exploration(tasks.config(), task=tasks.task(LABELS), model=tasks.model(2))
    for call in (exploration.ask, exploration.advance, lambda i: exploration.answer(Query(i), 0),
                 lambda i: exploration.withdraw(Query(i)), lambda i: exploration.correct([i], [0]),
                 lambda i: exploration.undo()):  # fmt: skip
        with pytest.raises(RuntimeError, match="expected a call of reset first"):
            call(0)


def test_the_list_of_a_query_is_that_of_when_it_was_asked():
    exploration = explore(LABELS)
    first, second = exploration.ask(first_set(exploration)), exploration.ask(first_set(exploration))
    exploration.answer(first, ["fox", "fox"])
    with pytest.raises(ValueError, match=r"answer: expected names of new classes .*got \[2, 2\]"):
        exploration.answer(second, Answer([2, 2], ["owl"]))
    exploration.answer(second, ["owl", "fox"])
    assert [exploration.class_names[c] for c in exploration.labels[second.indices]] == [
        "owl", "fox",
    ]  # fmt: skip


def test_an_id_of_a_class_that_was_taken_back_is_refused():
    exploration = explore(LABELS)
    exploration.answer(exploration.ask(first_set(exploration)), ["fox", "fox"])
    query = exploration.ask(first_set(exploration))
    assert query.class_names[2] == "fox"
    other = exploration.ask(first_set(exploration))
    exploration.undo()
    exploration.answer(other, ["owl", "owl"])
    assert exploration.class_names[2] == "owl"
    with pytest.raises(ValueError, match=r"got 2, which was 'fox' when it was asked and was taken"):
        exploration.answer(query, [2, 0])
    exploration.answer(query, ["owl", 0])


@pytest.mark.parametrize("change", ["rename", "merge"])
def test_names_of_when_it_was_asked_mean_what_their_classes_became(change):
    exploration = explore(LABELS)
    query = exploration.ask(first_set(exploration))
    guesses = query.guesses
    if change == "rename":
        exploration.rename(0, "lynx")
    else:
        exploration.merge(0, 1)
    outcome = exploration.answer(query, [query.class_names[c] for c in guesses])
    assert set(exploration.class_names) == {"dog", "lynx" if change == "rename" else "dog"}
    assert outcome.answer_accuracy == 1


def test_no_label_is_put_on_an_image_in_an_open_query():
    exploration = explore(LABELS)
    index = int(np.flatnonzero(exploration.labels < 0)[0])
    exploration.correct(index, 0)
    exploration.correct(index, None)
    query = next(
        exploration.ask(i)
        for i in np.flatnonzero(exploration.state.candidate_mask)
        if index in exploration.state.candidates[i]
    )
    with pytest.raises(ValueError, match=rf"images of no open query, got \[{index}\]"):
        exploration.undo()
    exploration.withdraw(query)
    exploration.undo()
    assert exploration.labels[index] == 0


def test_a_class_that_came_since_may_be_answered_by_its_id():
    exploration = explore(LABELS)
    first, second = exploration.ask(first_set(exploration)), exploration.ask(first_set(exploration))
    exploration.answer(first, ["fox", "fox"])
    exploration.answer(second, Answer([2, 0]))
    assert exploration.labels[second.indices].tolist() == [2, 0]
