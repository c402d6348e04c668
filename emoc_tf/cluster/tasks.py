"""Pieces of work, and the order in which they are handed out."""

import collections
from collections.abc import Hashable, Sequence, Set
from typing import NamedTuple


class Task(NamedTuple):
    """A piece of work.

    Attributes:
        method: Which method of what `serve` returned is called.
        arguments: With what; references to objects inside a list are passed on as they are.
        group: Tasks of a group go to one actor as long as others have work: what it has at hand
            serves them all.
    """

    method: str
    arguments: tuple
    group: Hashable = None


class AtOnceError(Exception):
    """What a task raises that is not tried on another machine: whoever asked does something."""


class Queue:
    """Tasks that wait, by group and in their order; some for another machine than one."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._groups: dict[Hashable, collections.deque[int]] = {}
        self._group_of = [task.group for task in tasks]
        for index, group in enumerate(self._group_of):
            self._groups.setdefault(group, collections.deque()).append(index)
        self._taken: collections.Counter = collections.Counter()
        self._elsewhere: dict[int, str] = {}  # where they are not to go to

    def __bool__(self) -> bool:
        return bool(self._groups or self._elsewhere)

    def take(self, group: Hashable, node: str = "") -> int | None:
        """Returns the next task: of a group, or else of the one that fewest have begun.

        Args:
            group: Of the task before.
            node: The machine that asks; None is returned if all that wait do for another one.
        """
        for index, other in self._elsewhere.items():
            if other != node:
                del self._elsewhere[index]
                return index
        if not self._groups:
            return None
        if group not in self._groups:
            group = min(self._groups, key=lambda each: self._taken[each])
            self._taken[group] += 1
        waiting = self._groups[group]
        index = waiting.popleft()
        if not waiting:
            del self._groups[group]
        return index

    def put_back(self, index: int) -> None:
        """Lets a task that was taken wait again, before the others of its group."""
        self._groups.setdefault(self._group_of[index], collections.deque()).appendleft(index)

    def put_elsewhere(self, index: int, node: str) -> None:
        """Lets a task that was taken wait for another machine than one."""
        self._elsewhere[index] = node

    def stuck(self, nodes: Set[str]) -> list[int]:
        """Takes the tasks that wait for another machine than one where there is no other."""
        found = [index for index, node in self._elsewhere.items() if not nodes - {node}]
        for index in found:
            del self._elsewhere[index]
        return found

    def drop_after(self, index: int) -> None:
        """Leaves the tasks after one undone."""
        self._elsewhere = {i: node for i, node in self._elsewhere.items() if i < index}
        left = {
            group: collections.deque(each for each in waiting if each < index)
            for group, waiting in self._groups.items()
        }
        self._groups = {group: waiting for group, waiting in left.items() if waiting}
