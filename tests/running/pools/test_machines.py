"""What machines do to the items of a grid, as far as no cluster is needed: Ray is acted."""

import logging
from types import SimpleNamespace

import cloudpickle
import pytest

from emoc_tf.running.pools import on_ray, ray_task
from emoc_tf.running.pools.on_ray import OnRay
from emoc_tf.running.pools.pool import Work


class RayError(Exception):
    """Of Ray."""


NAMES = [
    "RayTaskError", "NodeDiedError", "OutOfMemoryError", "WorkerCrashedError", "ObjectLostError",
    "OutOfDiskError", "ObjectStoreFullError",
]  # fmt: skip
ERRORS = {name: type(name, (RayError,), {}) for name in NAMES}
DIES, NO_MEMORY, CRASHES = (ERRORS[name]() for name in NAMES[1:4])
LOST, BROKEN = ERRORS["ObjectLostError"](), ERRORS["RayTaskError"]("first\nno such module")
BROKEN.cause = ModuleNotFoundError("no such module")
BEGUN, STEP, DONE = (ray_task.BEGUN, None), (ray_task.STEP, None), (ray_task.RESULT, "done")
OTHER = (ray_task.ELSEWHERE, (["cpu A and B"], True))
OLD, NEW, LATE = "old", "new", "late"


class Ray:
    """Ray as far as tasks ask it.

    Args:
        script: By item, what each task of it does one after the other: where it is, and its events.
        gone: Machines that are there no more once an error was got.
    """

    exceptions = SimpleNamespace(RayError=RayError, **ERRORS)
    cloudpickle = cloudpickle

    def __init__(self, script, gone=()):
        self.script, self.gone, self.nodes, self.avoided = script, gone, {OLD, NEW, LATE}, []

    def remote(self, function):
        return self

    def options(self, label_selector=None, **_):
        self.avoided.append((label_selector or {}).get("ray.io/node-id", ""))
        return SimpleNamespace(remote=self._begin)

    def _begin(self, content, given):
        _, item = cloudpickle.loads(given)
        told = self.script[item].pop(0)
        if isinstance(told, Exception):
            raise told
        node, *events = told
        return iter([(ray_task.AT, (node, f"host of {node}")), *events])

    def wait(self, tasks, **_):
        return list(tasks), []

    def get(self, event):
        if isinstance(event, Exception):
            self.nodes -= set(self.gone)
            raise event
        return event

    def cancel(self, task, force):
        pass


WORK = Work(
    here=None, serve=len, lost=lambda item, cause: f"lost: {cause}",
    failed=lambda item, error: f"failed: {error}",
)  # fmt: skip


@pytest.fixture
def run(monkeypatch):
    def run(gone=(), **script):
        ray, deaths, pool = Ray(script, gone), [], OnRay("local")
        monkeypatch.setattr(on_ray, "ray", lambda: ray)
        nodes = lambda *_: [SimpleNamespace(id=node) for node in sorted(ray.nodes)]  # noqa: E731
        pool._connection = SimpleNamespace(nodes=nodes)
        pool._machines.prove([OLD, NEW])
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
    assert set(ray.avoided) == {""}


def test_what_no_machine_could_do_ends_all(run):
    for told in (BROKEN, (ray_task.ERROR, ValueError("no such module"))):
        with pytest.raises((ValueError, RayError), match="no such module"):
            run(one=[[OLD, told]], two=[[OLD, BEGUN, DONE]])


def test_no_room_for_what_is_sent_is_a_failure_of_the_item_at_hand(run):
    full = ERRORS["OutOfDiskError"]("Local disk is full\nTip: use df")
    told = ERRORS["RayTaskError"]("Traceback\nmore")
    told.cause = OSError(28, "No space left on device")
    results, deaths, _ = run(
        sent=[full],
        returned=[[OLD, BEGUN, full]],
        there=[[OLD, BEGUN, told]],
        here=[[OLD, BEGUN, (ray_task.FAILED, OSError("no space"))]],
        fine=[[OLD, BEGUN, STEP, DONE]],
    )
    no_room = "failed: ray: no room for the files of a run: "
    assert results == {
        "sent": f"{no_room}Local disk is full", "returned": f"{no_room}Local disk is full",
        "there": f"{no_room}[Errno 28] No space left on device", "here": "failed: no space",
        "fine": "done",
    }  # fmt: skip
    assert not deaths
