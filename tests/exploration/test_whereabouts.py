"""Images of a living folder leave and come back: what was said of them is never lost."""

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP
from tests.exploration.tasks import explore, first_set, say
from tests.exploration.test_saved import START, by_name, taken_up, task

pytestmark = pytest.mark.filterwarnings("ignore:task")
ALL = "ABCDEFGHIJ"


def without(names):
    return "".join(name for name in ALL if name not in names)


def told(exploration, names):
    """Returns the journal with names in place of indices: those of images that are gone, too."""
    names = [*names, *(known_by(image) for image in exploration.gone)]
    return [
        (entry.kind, [names[i] for i in entry.indices], list(entry.labels), list(entry.guesses))
        for entry in exploration.journal
    ]


def known_by(image):
    return next(n for n, known in zip(ALL, task(ALL).image_ids(), strict=True)
                if known == image.image_id)  # fmt: skip


@pytest.mark.parametrize("gone", ["C", "J", "A", "CDE", "CDEFGHIJ", "BJ"])
@pytest.mark.parametrize("days", [1, 2])
def test_entries_of_images_that_are_gone_stay_in_the_journal(gone, days):
    first = explore(0, task_=task(ALL, START))
    first.correct([2, 3, 9], ["fox", REJECT, "cat"])
    say(first, ["owl", SKIP])
    first.rename("owl", "eagle")
    now, before = without(gone), told(first, ALL)
    again = first
    for _ in range(days):
        again = taken_up(again, now, START)
        assert told(again, now) == before
        assert [known_by(image) for image in again.gone] == list(gone)
    assert len(again.labels) == len(again.state.pool.labels) == len(now)
    assert again.outcomes[-1].labelled == (again.labels >= 0).sum()
    back = taken_up(again, ALL, START)
    assert by_name(back, ALL) == by_name(first, ALL)
    assert told(back, ALL) == before
    assert not back.gone
    assert set(back.state.known_classes) == set(first.state.known_classes)


@pytest.mark.parametrize("when", ["away", "back"])
def test_what_is_taken_back_or_changed_while_an_image_is_away_counts_for_it(when):
    first = explore(0, task_=task(ALL, START))
    first.correct([2, 3], ["fox", "owl"])
    first.correct([3], ["cat"])
    again = taken_up(first, without("D"), START)
    if when == "back":
        again = taken_up(again, ALL, START)
    undone = again.undo()
    assert undone.labels == (0,)
    again.merge("fox", "dog")
    again.rename("owl", "eagle")
    if when == "away":
        say(again, [SKIP, "cat"])  # an update while the newest correction is about no image
        again = taken_up(again, ALL, START)
    assert by_name(again, ALL)["C"] == "dog"
    assert by_name(again, ALL)["D"] == "eagle"
    say(again, [SKIP, 0])
    again.undo()


@pytest.mark.parametrize("answered", [False, True])
@pytest.mark.parametrize("gone", [0, 1, 2])
def test_audit_images_that_come_back_are_audit_images(answered, gone):
    first = explore(0, task_=task(ALL, START), audit=3)
    audit = [ALL[i] for i in first.queries[0].indices]
    if answered:
        first.answer(first.queries[0], [0, 1, "fox"])
    now = without(audit[: gone + 1])
    away = taken_up(first, now, START)
    if not answered and away.queries:
        away.answer(away.queries[0], [0, 1, "fox"][gone + 1 :])
    assert (away.outcomes[-1].audit_accuracy is None) == (gone == 2)
    say(away, [0, 1])
    back = taken_up(away, ALL, START)
    for query in back.queries:  # those that were away when the others were answered
        assert query.choice is None
        assert [ALL[i] for i in query.indices] == [n for n in ALL if n in audit[: gone + 1]]
        back.answer(query, ["cat"] * len(query.indices))
    assert len(back.queries) == 0
    assert (len([e for e in back.journal if e.kind == "audit"]) == 1) == (answered or gone == 2)
    where = [ALL.index(name) for name in audit]
    if answered:
        assert [back._book.audited[i] for i in where] == [0, 1, 2]
    assert (back.labels[where] == SKIP).all()
    while not back.finished:
        indices = back.state.candidates[first_set(back)]
        assert not set(indices[indices >= 0].tolist()) & set(where)
        say(back, [0] * (indices >= 0).sum())
    again = taken_up(back, ALL, START)
    assert again.outcomes[-1].audit_accuracy == back.outcomes[-1].audit_accuracy


@pytest.mark.parametrize("label", [{"C": 0}, {"C": 1}, {}])
def test_a_folder_that_says_something_else_of_an_image_that_is_back_corrects_it(label):
    """And what it said before it left is nothing new."""
    first = explore(0, task_=task(ALL, {**START, "C": 0}))
    first.correct([2], ["fox"])
    away = taken_up(first, without("C"), START)
    back = taken_up(taken_up(away, without("CD"), START), ALL, {**START, **label})
    assert by_name(back, ALL)["C"] == ("dog" if label.get("C") == 1 else "fox")
    assert by_name(taken_up(back, ALL, {**START, **label}), ALL) == by_name(back, ALL)


def test_checkpoints_of_versions_that_kept_less_are_taken_up():
    """They kept what an image that is gone shows, by what it is recognised by."""
    first = explore(0, task_=task(ALL, START))
    first.correct([2, 3], ["fox", REJECT])
    away = taken_up(first, without("CDJ"), START)
    arrays = away.save()
    ids = {name: str(task(name).image_ids()[0]) for name in "CD"}
    arrays.pop("away")
    arrays["journal"], arrays["audit"] = np.array("[]"), np.zeros(0, np.int64)
    arrays["gone"] = np.array(f'{{"{ids["C"]}": "fox", "{ids["D"]}": -2}}')
    away.save = lambda: arrays
    still = taken_up(away, without("DJ"), START)
    assert by_name(still, without("DJ"))["C"] == "fox"
    back = taken_up(still, ALL, START)
    assert by_name(back, ALL)["C"] == "fox"
    assert by_name(back, ALL)["D"] == REJECT
    assert by_name(back, ALL)["J"] == SKIP


@pytest.mark.parametrize("seed", range(6))
def test_days_of_any_folders_end_as_if_no_image_had_ever_left(seed):
    rng = np.random.default_rng(seed)
    now, exploration, shown = ALL, explore(0, task_=task(ALL, START)), {"A": "cat", "B": "dog"}
    entries = 0
    for _ in range(8):
        for _ in range(2):
            name = str(rng.choice(list(now)))
            label = [*"xyz", "cat", REJECT, SKIP][rng.integers(6)]
            if rng.random() < 0.3 and not exploration.finished:
                indices, _ = say(exploration, label)
                shown |= {now[i]: label for i in indices}
            else:
                exploration.correct(now.index(name), label)
                shown[name] = label
        assert len(exploration.journal) > entries
        entries = len(exploration.journal)
        now = "".join(rng.permutation([n for n in ALL if rng.random() < 0.7] or ["A"]))
        exploration = taken_up(exploration, now, START)
        assert by_name(exploration, now) == {name: shown.get(name, SKIP) for name in now}
        entries = len(exploration.journal)
    exploration = taken_up(exploration, ALL, START)
    assert by_name(exploration, ALL) == {name: shown.get(name, SKIP) for name in ALL}
