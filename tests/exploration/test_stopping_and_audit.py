"""Audits, and rules that say when to stop."""

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, ExplorationConfig, Task
from emoc_tf.exploration import Exploration
from emoc_tf.exploration.outcome import wilson
from tests.exploration.tasks import Still, config, explore, first_set, model, restored, say, task
from tests.exploration.test_saved import Files

LABELS = [0, 1] + [-1] * 12


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [  # scipy.stats.binomtest(right, count).proportion_ci(method="wilson")
        (5, 10, 0.2365931, 0.7634069),
        (9, 10, 0.5958500, 0.9821238),
        (0, 20, 0.0, 0.1611252),
        (1, 1, 0.2065493, 1.0),
    ],
)
def test_wilson(right, count, low, high):
    assert wilson(right, count) == pytest.approx((low, high), abs=1e-6)


def predicted(exploration, indices):
    state = exploration.state
    columns = state.probabilities[indices].argmax(axis=1)
    return [state.known_classes[column] for column in columns]


@pytest.mark.parametrize("audit", [1, 5, 11])
@pytest.mark.parametrize("asked", [False, True])
def test_audit_images_are_in_no_set_and_never_learnt(audit, asked):
    answers = [[0] * audit] if asked else []
    exploration = explore(LABELS, *answers, audit=audit)
    if asked:
        images = set(exploration.journal[0].indices)
        assert exploration.queries == ()
    else:
        query = exploration.queries[0]
        images = set(query.indices.tolist())
        assert query.choice is None
        np.testing.assert_array_equal(query.images, exploration.episode.raw_images[query.indices])
        exploration.answer(query, [0] * audit)
    assert len(images) == audit
    assert images <= set(range(2, 14))
    seen = set()
    while not exploration.finished:
        indices, _ = say(exploration, [0, "fox"][: min(2, 12 - audit - len(seen))])
        seen |= set(indices)
    assert seen == set(range(2, 14)) - images
    assert (exploration.labels[sorted(images)] == SKIP).all()
    assert (exploration.state.pool.labels[sorted(images)] == SKIP).all()
    for call in Still.calls:
        assert not images & {*call["old"], *(call["novel"] or ())}


@pytest.mark.parametrize("seed", [0, 1])
def test_audits_are_a_function_of_the_seed(seed):
    first, second = (explore(LABELS, audit=4, root=seed).queries[0].indices for _ in range(2))
    assert first.tolist() == second.tolist()
    assert first.tolist() != explore(LABELS, audit=4, root=seed + 2).queries[0].indices.tolist()


def test_audit_accuracy_counts_what_has_a_class():
    exploration = explore(LABELS, audit=5)
    assert exploration.first.audit_accuracy is None
    query = exploration.queries[0]
    right = predicted(exploration, query.indices)
    said = [SKIP, REJECT, right[2], 1 - right[3], "owl"]
    outcome = exploration.answer(query, said)
    assert outcome.audit_accuracy == pytest.approx(1 / 3)
    assert (outcome.audit_low, outcome.audit_high) == pytest.approx(wilson(1, 3))
    assert outcome.step == 0
    assert exploration.state.known_classes == (0, 1)  # an audit discovers nothing
    assert exploration.class_names == ("cat", "dog", "owl")
    images = query.indices
    exploration.correct(images[[0, 1]], right[:2])
    assert (exploration.labels[images] == SKIP).all()
    assert exploration.journal[-1].kind == "correct"
    _, outcome = say(exploration, [SKIP, SKIP])
    assert outcome.audit_accuracy == pytest.approx(3 / 5)
    exploration.undo()
    exploration.undo()
    _, outcome = say(exploration, [SKIP, SKIP])
    assert outcome.audit_accuracy == pytest.approx(1 / 3)
    again = restored(exploration)
    assert again.first.audit_accuracy == pytest.approx(1 / 3)


@pytest.mark.parametrize("said", [[SKIP] * 3, [REJECT] * 3, None])
def test_without_a_class_in_it_an_audit_tells_nothing(said):
    exploration = explore(LABELS, audit=3)
    outcome = exploration.answer(exploration.queries[0], said)
    assert (outcome.audit_accuracy, outcome.audit_low, outcome.audit_high) == (None, None, None)


def test_an_audit_is_not_withdrawn():
    exploration = explore(LABELS, audit=3)
    with pytest.raises(ValueError, match="of a candidate set"):
        exploration.withdraw(exploration.queries[0])


@pytest.mark.parametrize("audit", [12, 13])
def test_an_audit_leaves_images_to_ask_about(audit):
    with pytest.raises(ValueError, match=f"audit: expected fewer than the 12 images.*got {audit}"):
        Exploration(config(audit=audit), task=task(LABELS))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_right_wants_sets_in_a_row(count):
    exploration = explore([0, 1] + [-1] * 20, stop_when=f"right={count}")
    assert exploration.first.stopped is None

    def answer(right, skip=False):
        query = exploration.ask(first_set(exploration))
        guesses = query.guesses.tolist()
        said = guesses if right else [guesses[0], 1 - guesses[1]]
        return exploration.answer(query, [said[0], SKIP] if skip else said).stopped

    assert answer(False) is None
    found = [answer(True, skip=i == 0) for i in range(count)]
    assert found[:-1] == [None] * (count - 1)
    assert found[-1] == f"the model had the answers of {count} sets in a row right"
    assert answer(False) is None  # one can go on, and it is no longer so


@pytest.mark.parametrize("now", ["corrected to another class", "corrected to the guess", "merged"])
def test_what_counts_as_right_is_what_is_said_today(now):
    exploration = explore([0, 1] + [-1] * 20, stop_when="right=2")
    query = exploration.ask(first_set(exploration))
    guesses = query.guesses.tolist()
    right = now == "corrected to another class"
    exploration.answer(query, guesses if right else [guesses[0], 1 - guesses[1]])
    if now == "merged":
        exploration.merge(1, 0)
    else:
        said = [1 - guess for guess in guesses] if right else guesses
        exploration.correct(query.indices, said)
    query = exploration.ask(first_set(exploration))
    stopped = exploration.answer(query, query.guesses.tolist()).stopped
    assert (stopped is None) == right


@pytest.mark.parametrize("count", [1, 3])
def test_no_new_wants_sets_in_a_row(count):
    exploration = explore([0, 1] + [-1] * 20, stop_when=f"right=9, no_new={count}")
    assert say(exploration, ["fox", 0])[1].stopped is None
    found = [say(exploration, [2, 1])[1].stopped for _ in range(count)]
    assert found[:-1] == [None] * (count - 1)
    assert found[-1] == f"no new class in {count} sets in a row"
    assert restored(exploration).first.stopped == found[-1]
    assert not exploration.finished
    assert say(exploration, [0, "owl"])[1].stopped is None


@pytest.mark.parametrize(("share", "stops"), [("0.5", True), ("0.51", False), (".25", True)])
def test_audit_wants_a_share(share, stops):
    exploration = explore(LABELS, audit=2, stop_when=f"audit={share}")
    query = exploration.queries[0]
    right = predicted(exploration, query.indices)
    said = [right[0], 1 - right[1]]
    outcome = exploration.answer(query, said)
    assert (outcome.stopped is not None) == stops
    if stops:
        assert outcome.stopped == f"audit accuracy 0.500 has reached {float(share):g}"


@pytest.mark.parametrize(
    "text",
    ["", "audit", "audit=0", "audit=1.5", "right=0", "right=1.5", "no_new=-1", "none=1", "right=",
     "right=2;no_new=3", "right=2,", "audit=90%", "right=2 no_new=3"],
)  # fmt: skip
def test_other_rules_are_refused(text):
    with pytest.raises(ValueError, match="stop_when: expected audit=SHARE, right=SETS or no_new"):
        config(stop_when=text)


@pytest.mark.parametrize("text", ["audit=1", "right>=2", " audit=.9 , right=3 ,no_new=1"])
def test_rules_are_read_as_they_are_meant(text):
    assert config(stop_when=text).stop_when == text


@pytest.mark.parametrize("rule", ["audit=0.9", "audit=.01,right=2", "no_new=2, audit>=1"])
@pytest.mark.parametrize("folder", [False, True])
def test_an_audit_rule_without_an_audit_is_refused_when_it_is_made(rule, folder):
    given = Task(Files("ABCDEFGHIJ")) if folder else task([0, 1] + [-1] * 12)
    message = r"^stop_when: expected audit=\S+ beside images that are audited.*got audit=0"
    with pytest.raises(ValueError, match=message):
        Exploration(config(stop_when=rule), task=given, model=model(2))
    with pytest.raises(ValueError, match=message):  # also where images are drawn
        Exploration(ExplorationConfig(dataset="cifar100", data_dir="/nowhere", stop_when=rule))
    assert Exploration(config(stop_when=rule, audit=3), task=given, model=model(2))


@pytest.mark.parametrize("rule", ["right={}", "no_new={}", "audit=0.5,right={}"])
@pytest.mark.parametrize("audit", [1, 5])
def test_more_sets_in_a_row_than_images_wait_are_refused(rule, audit):
    most = 12 - audit
    with pytest.raises(ValueError, match=f"^stop_when: expected .* of at most {most} sets in a"):
        explore(LABELS, audit=audit, stop_when=rule.format(most + 1))
    assert explore(LABELS, audit=audit, stop_when=rule.format(most))
    names = "ABCDEFGH"  # a folder may have more on another day
    assert explore(0, task_=Task(Files(names)), audit=audit, stop_when=rule.format(99))


NOBODY = "each image that waits was skipped since something was last said"


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("sampler", ["uniform", "cluster"])
@pytest.mark.parametrize("audit", [0, 2])
def test_all_that_is_skipped_is_told_and_one_can_go_on(size, sampler, audit):
    exploration = explore(
        LABELS, *[[1] * 2][: audit // 2], set_size=size, sampler=sampler, audit=audit
    )
    exploration._oracle = None

    def skipped():
        seen = set()
        while True:
            indices, outcome = say(exploration, SKIP)
            seen |= set(indices)
            if outcome.stopped:
                assert outcome.stopped == NOBODY
                return seen
            assert exploration.state.step < 100

    waiting = set(range(2, 14)) - set(exploration._audit.tolist())
    assert skipped() == waiting
    again = restored(exploration)
    assert again.first.stopped == NOBODY
    assert say(exploration, SKIP)[1].stopped == NOBODY
    images, outcome = say(exploration, REJECT)
    assert outcome.stopped is None
    assert skipped() == waiting - set(images)
    exploration.correct(images, SKIP)  # they may be told now
    assert say(exploration, SKIP)[1].stopped is None
    exploration.undo()
    images, outcome = say(exploration, "owl")
    assert outcome.stopped is None


def test_images_in_open_queries_may_still_be_answered():
    exploration = explore([0, 1] + [-1] * 4)
    query = exploration.ask(first_set(exploration))
    assert say(exploration, [SKIP, SKIP])[1].stopped is None
    assert exploration.answer(query, [SKIP, None]).stopped == NOBODY
