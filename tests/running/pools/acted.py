"""Ray as it is acted for tests that need none: machines that go, tasks that tell and die."""

from types import SimpleNamespace

import cloudpickle

from emoc_tf.running.attempts import Result
from emoc_tf.running.pools import ray_task


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
BAD = ray_task.RESULT, Result("disk full")
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
        self.cancelled, self.sent = 0, []

    def put(self, content):
        self.sent.append(content)
        if isinstance(error := self.script.get("put"), Exception):
            raise error
        return len(self.sent)

    def remote(self, function):
        return self

    def options(self, label_selector=None, **_):
        self.avoided.append((label_selector or {}).get("ray.io/node-id", ""))
        return SimpleNamespace(remote=self._begin)

    def _begin(self, content, given):
        assert content == 1
        _, item = cloudpickle.loads(given)
        told = self.script[item].pop(0)
        if isinstance(told, Exception):
            raise told
        if not told:
            return Waiting()
        node, *events = told
        at = [] if node is None else [(ray_task.AT, (node, f"host of {node}"))]
        return iter([*at, *events])

    def wait(self, tasks, **_):
        return [task for task in tasks if not isinstance(task, Waiting)], []

    def get(self, event):
        if isinstance(event, Exception):
            self.nodes -= set(self.gone)
            raise event
        return event

    def cancel(self, task, force):
        self.cancelled += 1


class Waiting:
    """A task that gets no machine."""
