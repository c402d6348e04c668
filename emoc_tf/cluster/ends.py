"""How tasks end badly: what they raise is tried on another machine before it counts."""

import collections
from collections.abc import Sequence, Set

from emoc_tf.cluster.connection import Node
from emoc_tf.cluster.tasks import AtOnceError, Queue, Task

DEATHS = 3  # of actors by one task, or in a row on a machine


class Ends:
    """What tasks of a call raised, and which actors died of them.

    Args:
        tasks: All.
        queue: Where they wait.

    Attributes:
        errors: What tasks raised wherever they were tried, by index.
    """

    def __init__(self, tasks: Sequence[Task], queue: Queue) -> None:
        self._tasks, self._queue = tasks, queue
        self.errors: dict[int, Exception] = {}
        self._deaths: collections.Counter = collections.Counter()
        self._failed: dict[int, tuple[Node, Exception]] = {}  # once, and where

    def die(self, index: int, node: Node, reason: str) -> None:
        """Takes note that an actor died of a task, which goes to another machine if there is one.

        Raises:
            RuntimeError: Too many did.
        """
        self._deaths[index] += 1
        if self._deaths[index] == DEATHS:
            raise RuntimeError(
                f"ray: {DEATHS} actors died of {told(index, self._tasks)} ({reason}); is there too "
                f"little memory?"
            )
        failed, _ = self._failed.get(index, (node, None))
        self._queue.put_elsewhere(index, failed.id)

    def fail(self, index: int, node: Node, error: Exception) -> None:
        """Takes note that a task raised an error: once it may be the fault of its machine."""
        if index in self._failed or isinstance(error, AtOnceError):
            self._give_up(index, self._failed.get(index, (node, error))[1])
        else:
            self._failed[index] = node, error
            self._queue.put_elsewhere(index, node.id)

    def end(self, index: int) -> tuple[Node, Exception] | None:
        """Takes note that a task was done; returns the machine where it had failed, and of what."""
        return self._failed.pop(index, None)

    def look(self, nodes: Set[str]) -> None:
        """Gives those up that wait for another machine, if only some are there."""
        for index in self._queue.stuck(nodes):
            if index in self._failed:
                self._give_up(index, self._failed[index][1])
            else:  # an actor died of it, and another one may not
                self._queue.put_back(index)

    def wanted(self, index: int) -> bool:
        """Whether a result counts: of those behind the first that raises none does."""
        return not self.errors or index < min(self.errors)

    def _give_up(self, index: int, error: Exception) -> None:
        self.errors[index] = error
        self._queue.drop_after(index)


def told(index: int, tasks: Sequence[Task]) -> str:
    """Returns a task in words."""
    return f"{tasks[index].method} {index + 1}/{len(tasks)}"
