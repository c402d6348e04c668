"""What machines do to the items of a grid, as far as no cluster is needed: Ray is acted."""

import logging
from types import SimpleNamespace

import cloudpickle
import pytest

from emoc_tf.running.attempts import Result
from emoc_tf.running.pools import on_ray, ray_task
from emoc_tf.running.pools.on_ray import OnRay
from emoc_tf.running.pools.pool import Work
from tests.running.pools.acted import (
    BAD,
    BEGUN,
    BROKEN,
    CRASHES,
    DIES,
    DONE,
    ERRORS,
    LATE,
    LOST,
    NEW,
    NO_MEMORY,
    OLD,
    OTHER,
    STEP,
    Ray,
)

WORK = Work(
    here=None, serve=len, lost=lambda item, cause: f"lost: {cause}",
    failed=lambda item, error: f"failed: {error}",
)  # fmt: skip


@pytest.fixture
def run(monkeypatch):
    def run(gone=(), nodes=(OLD, NEW, LATE), prove=(), **script):
        ray, deaths, pool = Ray(script, gone), [], OnRay("local")
        ray.nodes = set(nodes)
        monkeypatch.setattr(on_ray, "ray", lambda: ray)
        listed = lambda *_: [SimpleNamespace(id=node) for node in sorted(ray.nodes)]  # noqa: E731
        pool._connection = SimpleNamespace(nodes=listed)
        pool._machines.prove([OLD, NEW, *prove])
        found = dict(pool.run(WORK, list(script), lambda *told: deaths.append(told)))
        return found, deaths, ray

    return run


def test_a_machine_that_dies_is_never_the_fault_of_its_item(run):
    results, deaths, _ = run(
        often=[[OLD, BEGUN, DIES]] * 5 + [[OLD, BEGUN, DONE]],
        at_once=[[NEW, DIES]] * 3 + [[OLD, BEGUN, DONE]],
        between=[[OLD, BEGUN, CRASHES], [OLD, BEGUN, DIES], [OLD, BEGUN, DIES], [OLD, DONE]],
    )
    assert set(results.values()) == {"done"}
    assert [cause for _, cause in deaths].count("with its machine") == 10


@pytest.mark.parametrize("error", [CRASHES, LOST, NO_MEMORY])
def test_a_process_that_ends_before_its_machine_is_known_to_be_gone_is_not_counted(run, error):
    # The first time the machine is still there, and gone when the next process dies.
    results, _, _ = run([LATE], item=[[LATE, BEGUN, error], [OLD, BEGUN, error], [OLD, DONE]])
    assert results == {"item": "done"}
    results, _, _ = run([LATE], item=[[LATE, BEGUN, error]] * 4 + [[OLD, BEGUN, DONE]])
    assert results == {"item": "done"}


@pytest.mark.parametrize(
    ("error", "cause"),
    [(NO_MEMORY, "for lack of memory"), (CRASHES, "killed or crashed"), (LOST, "ObjectLostError")],
)
def test_an_item_that_ends_its_own_process_is_given_up(run, error, cause):
    results, deaths, _ = run(
        item=[[OLD, BEGUN, error], [NEW, BEGUN, DIES], [OLD, BEGUN, error]],
        slow=[[OLD, BEGUN, error], [NEW, BEGUN, STEP, error], [OLD, BEGUN, DONE]],
    )
    assert results == {"item": f"lost: {cause}", "slow": "done"}
    assert len(deaths) == 4


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (OTHER, "expected machines like the first one, got one with cpu A and B; --allow_mixed"),
        ((ray_task.ELSEWHERE, (["keras 1 and 2"], False)), "got one with keras 1 and 2$"),
        (
            (ray_task.ELSEWHERE, ["no emoc_tf of this kind"]),
            "got one with no emoc_tf of this kind$",
        ),
        (BROKEN, "no run begins there: no such module"),
        (CRASHES, "no run begins there: killed or crashed"),
        (NO_MEMORY, "no run begins there: for lack of memory"),
        ((ray_task.ERROR, ValueError("no such thing")), "no run begins there: no such thing"),
    ],
)
def test_a_wrong_machine_that_joins_later_is_left_out_and_its_items_wait_again(
    run, caplog, wrong, told
):
    with caplog.at_level(logging.WARNING, "emoc_tf"):
        results, deaths, ray = run(
            one=[[LATE, wrong], [OLD, BEGUN, DONE]],
            two=[[LATE, wrong], [NEW, BEGUN, DONE]],
            three=[[OLD, BEGUN, STEP, DONE]],
        )
    assert results == dict.fromkeys(("one", "two", "three"), "done")
    assert not deaths
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("host of late (node late) gets no runs any more")
    assert told in f"{line}$"
    assert ray.avoided == ["", "", "", "!in(late)", "!in(late)"]


def test_a_machine_that_joins_later_and_is_right_is_like_the_others(run):
    results, _, ray = run(
        killed=[[LATE, BEGUN, CRASHES], [LATE, BEGUN, CRASHES]], fine=[[LATE, BEGUN, DONE]]
    )
    assert results == {"killed": "lost: killed or crashed", "fine": "done"}
    assert ray.avoided == ["", "", "!in(late)"]  # the second time another one is tried first


MISSING = ray_task.ERROR, FileNotFoundError("no such folder")
FAILED = ray_task.FAILED, OSError("disk full")


@pytest.mark.parametrize("told", [BROKEN, MISSING], ids=["a module", "data"])
def test_what_no_machine_can_do_is_a_failure_of_each_item(run, told):
    results, deaths, ray = run(
        one=[[OLD, told], [NEW, told], [LATE, told], [OLD, told]], two=[[OLD, told]] * 3
    )
    assert {result.partition(": ")[0] for result in results.values()} == {"failed"}
    assert not deaths
    assert ray.avoided[-1] == "!in(late)"  # the others are as good as each other


@pytest.mark.parametrize("told", [BROKEN, MISSING], ids=["a module", "data"])
def test_machines_without_what_an_item_needs_swallow_none(run, caplog, told):
    """Two of three, which were right when they were asked."""
    with caplog.at_level(logging.WARNING, "emoc_tf"):
        results, deaths, ray = run(
            prove=[LATE],
            one=[[OLD, told], [NEW, told], [LATE, BEGUN, STEP, DONE]],
            two=[[NEW, told], [LATE, BEGUN, STEP, DONE]],
            three=[[OLD, told], [OLD, told], [LATE, BEGUN, STEP, DONE]],
        )
    assert results == dict.fromkeys(("one", "two", "three"), "done")
    assert not deaths
    assert len(caplog.messages) == 2  # one of each machine
    for line in caplog.messages:
        assert "gets no runs as long as other machines are left, and those" in line
        assert "no run begins there: no such" in line
    assert ray.avoided[-1] == "!in(new,old)"


@pytest.mark.parametrize(
    ("told", "failed"),
    [(FAILED, "failed: disk full"), (BAD, Result("disk full")), (NO_MEMORY, "lost: for lack of m")],
    ids=["a file", "a run", "memory"],
)
def test_what_fails_before_a_step_waits_once_more_for_another_machine(run, told, failed):
    results, _, ray = run(
        nodes=[OLD, NEW],
        once=[[OLD, BEGUN, told], [NEW, BEGUN, STEP, DONE]],
        twice=[[OLD, BEGUN, told], [NEW, BEGUN, told]],
        later=[[OLD, BEGUN, STEP, (ray_task.FAILED, OSError("later"))]],
    )
    assert str(results.pop("twice")).startswith(str(failed))
    assert results == {"once": "done", "later": "failed: later"}
    assert ray.avoided == ["", "", "", "!in(old)", "!in(old)"]


@pytest.mark.parametrize("told", [FAILED, BAD, NO_MEMORY], ids=["a file", "a run", "memory"])
def test_two_machines_on_which_all_fail_before_a_step_swallow_none(run, told):
    results, _, ray = run(
        prove=[LATE],
        one=[[OLD, BEGUN, told], [NEW, BEGUN, told], [LATE, BEGUN, STEP, DONE]],
        two=[[NEW, BEGUN, told], [OLD, BEGUN, told], [LATE, BEGUN, STEP, DONE]],
        three=[[LATE, BEGUN, STEP, DONE]],
    )
    assert results == dict.fromkeys(("one", "two", "three"), "done")
    assert ray.avoided[-1] == "!in(new,old)"


def test_items_that_fail_wherever_they_go_end_among_those_that_are_fine(run):
    results, *_ = run(
        bad=[[OLD, BEGUN, FAILED], [NEW, BEGUN, FAILED]],
        worse=[[NEW, BEGUN, FAILED], [OLD, BEGUN, FAILED]],
        fine=[[OLD, BEGUN, STEP, STEP, STEP, DONE]],
        good=[[NEW, BEGUN, STEP, STEP, STEP, DONE]],
    )
    assert results.pop("bad") == results.pop("worse") == "failed: disk full"
    assert set(results.values()) == {"done"}


def test_a_machine_is_suspected_until_something_makes_a_step_there(run):
    steps, line = [STEP] * 9, (ray_task.LINE, "a line")
    for cleared, avoided in (([], "!in(old)"), (steps, "")):
        results, _, ray = run(
            nodes=[OLD, NEW],
            item=[[OLD, BEGUN, line, line, FAILED], [NEW, BEGUN, STEP, DONE]],
            other=[[OLD, BEGUN, STEP, *cleared, DONE]],
            later=[[NEW, BEGUN, *steps, DIES], [NEW, BEGUN, DONE]],
        )
        assert set(results.values()) == {"done"}
        assert ray.avoided[-1] == avoided


def test_where_no_other_machine_is_left_what_fails_has_failed(run):
    results, _, ray = run(
        nodes=[OLD],
        file=[[OLD, BEGUN, FAILED]], result=[[OLD, BEGUN, BAD]], data=[[OLD, MISSING]],
        dead=[[OLD, BEGUN, NO_MEMORY]] * 2,
    )  # fmt: skip
    assert results == {
        "file": "failed: disk full", "result": Result("disk full"),
        "data": "failed: no such folder", "dead": "lost: for lack of memory",
    }  # fmt: skip
    assert set(ray.avoided) == {""}


def test_what_waits_for_machines_that_have_gone_goes_where_it_can(run, monkeypatch):
    monkeypatch.setattr(on_ray, "_LOOK", 0.0)
    results, _, ray = run(
        [NEW, LATE],
        item=[[OLD, BEGUN, FAILED], [], [OLD, BEGUN, FAILED]],  # it gets no machine: none is left
        other=[[NEW, BEGUN, STEP, STEP, DIES], [OLD, BEGUN, STEP, DONE]],
    )
    assert results == {"item": "failed: disk full", "other": "done"}
    assert "!in(old)" in ray.avoided
    assert ray.avoided[-1] == ""


def test_deaths_at_unknown_places_are_not_counted_to_two_nor_endlessly(run):
    results, deaths, _ = run(
        item=[[None, CRASHES]] * 4 + [[OLD, BEGUN, CRASHES], [NEW, BEGUN, STEP, DONE]],
        slow=([[None, CRASHES]] * 4 + [[OLD, BEGUN, STEP, DIES]]) * 2 + [[OLD, DONE]],
        never=[[None, CRASHES]] * 5,
    )
    assert results == {"item": "done", "slow": "done", "never": "lost: killed or crashed"}
    assert len(deaths) == 5 + 10 + 4


def test_what_all_items_have_in_common_is_sent_once(run):
    results, _, ray = run(**{name: [[OLD, BEGUN, DONE]] for name in "abc"})
    assert set(results.values()) == {"done"}
    assert [cloudpickle.loads(content) for content in ray.sent] == [WORK.serve]
    with pytest.raises(OSError, match=r"^ray: no room for what all runs have in common: disk full"):
        run(put=ERRORS["ObjectStoreFullError"]("disk full\nmore"))


def test_what_the_library_says_on_a_machine_is_passed_on_once(run, caplog):
    second = ray_task.SAID, (logging.INFO, "slower")
    for level in (logging.WARNING, logging.INFO):
        first = ray_task.SAID, (level, "slow")
        with caplog.at_level(logging.INFO, "emoc_tf"):
            results, *_ = run(
                one=[[OLD, BEGUN, first, STEP, second, DONE]], two=[[OLD, BEGUN, first, DONE]],
                three=[[NEW, BEGUN, first, DONE]],
            )  # fmt: skip
        assert set(results.values()) == {"done"}
        assert sorted((record.levelno, record.getMessage()) for record in caplog.records) == sorted(
            [(level, f"host of {node} (node {node}): slow") for node in (OLD, NEW)]
            + [(logging.INFO, "host of old (node old): slower")]
        )
        caplog.clear()


def test_no_room_for_what_is_sent_is_a_failure_of_the_item_at_hand(run):
    full = ERRORS["OutOfDiskError"]("Local disk is full\nTip: use df")
    told = ERRORS["RayTaskError"]("Traceback\nmore")
    told.cause = OSError(28, "No space left on device")
    results, deaths, ray = run(
        sent=[full],
        returned=[[OLD, BEGUN, STEP, full]],
        there=[[OLD, BEGUN, STEP, told]],
        here=[[OLD, BEGUN, STEP, (ray_task.FAILED, OSError("no space"))]],
        fine=[[OLD, BEGUN, STEP, DONE]],
    )
    no_room = "failed: ray: no room for the files of a run: "
    assert results == {
        "sent": f"{no_room}Local disk is full", "returned": f"{no_room}Local disk is full",
        "there": f"{no_room}[Errno 28] No space left on device", "here": "failed: no space",
        "fine": "done",
    }  # fmt: skip
    assert not deaths
    assert ray.cancelled == 1  # what was told and is lost: it may live
