"""Images of an answer that was taken back, or that was not given, are asked about again."""

import numpy as np
import pytest

from emoc_tf import SKIP
from tests.exploration.tasks import explore, first_set

LABELS = [0, 1] + [-1] * 8


def test_images_of_an_answer_are_asked_about_again():
    exploration = explore(LABELS)
    queries = [exploration.ask(first_set(exploration)) for _ in range(2)]
    exploration.answer(queries[0], [0, SKIP])
    entry = exploration.undo()
    told = []
    exploration.on_query = lambda: told.append(len(exploration.queries))
    again = exploration.ask_again(entry)
    np.testing.assert_array_equal(again.indices, queries[0].indices)
    assert again.choice == queries[0].choice and len(again.guesses) == 2 and told == [2]
    shown = exploration.state.candidates[exploration.state.candidate_mask]
    assert not np.isin(shown, again.indices).any()
    with pytest.raises(ValueError, match="entry: expected one with an image that waits"):
        exploration.ask_again(entry)
    exploration.answer(again, ["owl", "owl"])
    assert exploration.state.step == 2


def test_only_what_waits_is_asked_about_again():
    exploration = explore(LABELS)
    query = exploration.ask(0)
    exploration.answer(query, [0, SKIP])
    (entry,) = [entry for entry in exploration.journal if entry.kind == "answer"]
    again = exploration.ask_again(entry)
    assert again.indices.tolist() == query.indices.tolist()[1:]


def test_an_audit_is_asked_about_again():
    exploration = explore(LABELS, audit=3)
    (audit,) = exploration.queries
    exploration.answer(audit, [0, 1, SKIP])
    (entry,) = [entry for entry in exploration.journal if entry.kind == "audit"]
    again = exploration.ask_again(entry)
    assert again.choice is None and again.indices.tolist() == audit.indices.tolist()[2:]
    exploration.answer(again, [1])
    assert exploration.outcomes[-1].audit_accuracy is not None
