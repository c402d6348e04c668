"""An actor of a crew, and how it may end."""

from typing import Any, NamedTuple

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
