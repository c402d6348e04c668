"""An actor of a crew, what it has to be like, and how it may end."""

from typing import Any, NamedTuple

from emoc_tf.cluster import processes
from emoc_tf.cluster.connection import Node


class Member:
    """An actor.

    Attributes:
        handle: Ray's.
        node: Where it lives.
        reference: Of what it is doing; None while it waits.
        index: Which of the tasks that is; None for its beginning, for telling that it lives, and
            for work of a call that was broken off.
        ready: Whether it has begun.
        group: Of the task that it did last.
    """

    def __init__(self, handle: Any, node: Node, reference: Any) -> None:
        self.handle, self.node, self.reference = handle, node, reference
        self.index: int | None = None
        self.ready, self.group = False, None


class Death(NamedTuple):
    """An actor, or what it had returned, is gone.

    Attributes:
        reason: Ray's, in a line.
    """

    reason: str


def cause(error: Exception, errors: Any) -> Exception | Death:
    """Returns what a task raised, or that its actor died.

    Args:
        error: As Ray raised it.
        errors: Ray's, a module.
    """
    if isinstance(error, errors.RayTaskError):
        return error.cause if isinstance(error.cause, Exception) else error
    if not isinstance(error, errors.RayError):
        return error
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Death(f"{type(error).__name__}: {lines[0] if lines else 'no reason given'}")


def differs(host: str, place: dict[str, Any], others: dict[str, Any] | None, alike: bool) -> str:
    """Returns in words where an actor would give other bits, as far as that counts.

    Args:
        host: Where it is.
        place: What its bits depend on, as `processes.place_here` returns it.
        others: The same of the actors that are there; None without one.
        alike: Whether it has to give the bits of this process.
    """
    here = processes.place_here()
    if differing := processes.differences(here, place, allow_mixed=True):
        return (
            f"ray: expected the versions of this process on {host}, got, here and there, "
            f"{'; '.join(differing)}"
        )
    # Variables and threads are handed on; how many GPUs a process sees decides nothing.
    same = {name: here[name] for name in ("variables", "intra_op_threads")}
    if set(place["gpus"]) == set(here["gpus"]):
        same["gpus"] = here["gpus"]
    if alike and (differing := processes.differences(here, place | same)):
        return (
            f"ray: expected machines that give the bits of this process, got {host} with, "
            f"here and there, {'; '.join(differing)}; run the command on a machine of their "
            f"kind"
        )
    if differing := processes.differences(others or place, place):
        return (
            f"ray: expected machines with the same versions and processor, got {host} with "
            f"{'; '.join(differing)}"
        )
    return ""
