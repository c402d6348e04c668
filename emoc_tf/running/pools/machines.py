"""The machines of a cluster that items go to: one on which none can begin is left out."""

import logging
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

from emoc_tf.cluster.connection import Node

_LOG = logging.getLogger("emoc_tf")
_LABEL = "ray.io/node-id"  # which Ray gives to each machine


class At(NamedTuple):
    """A machine as a process on it tells it.

    Attributes:
        id: Ray's.
        host: Its name.
    """

    id: str
    host: str

    def __str__(self) -> str:
        return f"{self.host} (node {self.id[:8]})"


class Machines:
    """What is known of the machines of a cluster.

    One that was checked, or on which an item has begun, is proven. On another one whatever hinders
    an item to begin is the machine's fault: it is left out from then on, and the item waits again.

    A proven one may be of no use any more: its data set is gone, its disk is full. What fails there
    before a step waits for another machine, and others go there only if no other machine is left,
    until one makes a step there or the first fails elsewhere too.

    Args:
        nodes: Returns the machines that live and lend enough.
    """

    def __init__(self, nodes: Callable[[], Sequence[Node]]) -> None:
        self._nodes = nodes
        self._proven: set[str] = set()
        self._left_out: dict[str, str] = {}  # why
        self._said: set[tuple[str, str]] = set()  # on which machine, and what
        self._at: dict[Hashable, At] = {}
        self._begun: set[Hashable] = set()
        self._stepped: set[Hashable] = set()
        # Where items failed before a step, as long as they have made none; which items failed so
        # on a machine since somebody made a step there; and where none can begin any more.
        self._tried: dict[Hashable, set[str]] = {}
        self._suspected: dict[str, set[Hashable]] = {}
        self._broken: set[str] = set()

    def prove(self, ids: Iterable[str]) -> None:
        """Takes machines as those that items can be worked on."""
        self._proven.update(ids)

    def arrive(self, item: Hashable, at: At | None) -> None:
        """Takes note of where an item is; None: it is nowhere yet."""
        self._at.pop(item, None)
        self._begun.discard(item)
        self._stepped.discard(item)
        if at is not None:
            self._at[item] = at

    def say(self, item: Hashable, level: int, text: str) -> None:
        """Passes on what the process of an item says; what others there said too, once.

        Args:
            item: Which.
            level: Of the library's logger.
            text: In words.
        """
        host = self.host(item)
        if (host, text) not in self._said:
            self._said.add((host, text))
            _LOG.log(level, "%s: %s", host, text)

    def begin(self, item: Hashable) -> None:
        """Takes note that an item has begun where it is, which proves the machine."""
        self._proven.add(self._at[item].id)
        self._broken.discard(self._at[item].id)
        self._begun.add(item)

    def step(self, item: Hashable) -> None:
        """Takes note that an item has made a step where it is: nothing there hinders others.

        Where it failed before remains suspected.
        """
        self._stepped.add(item)
        self._tried.pop(item, None)
        self._suspected.pop(self.where(item), None)

    def forget(self, item: Hashable) -> None:
        """Forgets where an item failed before a step: it was its own fault."""
        self._tried.pop(item, None)
        for items in self._suspected.values():
            items.discard(item)

    def where(self, item: Hashable) -> str | None:
        """Returns the machine that an item was at last, Ray's id; None where it never arrived."""
        return self._at[item].id if item in self._at else None

    def host(self, item: Hashable) -> str:
        """Returns the machine that an item was at last, in words."""
        return str(self._at[item]) if item in self._at else "an unknown machine"

    def at_the_beginning(self, item: Hashable) -> bool:
        """Whether an item is somewhere and has made no step there."""
        return item in self._at and item not in self._stepped

    def begun(self, item: Hashable) -> bool:
        """Whether an item has begun where it is."""
        return item in self._begun

    def proven(self, item: Hashable) -> bool:
        """Whether what hinders an item to begin is not the fault of the machine that it is at."""
        return item not in self._at or self._at[item].id in self._proven

    def leave_out(self, item: Hashable, reason: str) -> None:
        """Leaves the machine out that an item could not begin on; says so, once.

        Args:
            item: That could not begin.
            reason: In words.
        """
        at = self._at[item]
        if at.id not in self._left_out:
            self._left_out[at.id] = f"{at}: {reason}"
            _LOG.warning(
                "%s gets no runs any more, and those that it was given wait for other machines: %s",
                at, reason,
            )  # fmt: skip

    def breaks(self, item: Hashable, reason: str) -> bool:
        """Takes note that an item could not begin on a proven machine.

        Args:
            item: That could not begin.
            reason: In words.

        Returns:
            Whether there is another machine for it, on which items can begin.
        """
        at = self._at[item]
        new, self._broken = at.id not in self._broken, self._broken | {at.id}
        found = bool(self._usable() - self._broken)
        if new and found:
            _LOG.warning(
                "%s gets no runs as long as other machines are left, and those that it was given "
                "wait for these: %s",
                at, reason,
            )  # fmt: skip
        return found

    def fails(self, item: Hashable) -> bool:
        """Takes note that an item failed, or its process died, before it made a step.

        Returns:
            Whether it is to be tried on another machine: after the first time if there is one,
            later only if others failed so on this machine, and not on another one.
        """
        node, suspected = self._at[item].id, self._suspected_by_others(item)
        tried = self._tried.setdefault(item, set())
        self._suspected.setdefault(node, set()).add(item)
        first = not tried
        tried.add(node)
        others = self._usable() - self._broken - tried
        again = bool(others if first else others - suspected) and (first or node in suspected)
        if not again:
            self.forget(item)
        return again

    def tries(self, item: Hashable) -> int:
        """Returns on how many machines an item has failed before a step."""
        return len(self._tried.get(item, ()))

    def live(self, node: str | None) -> bool:
        """Whether a machine lives, by Ray's id; one that nobody knows counts as living."""
        return node is None or node in {each.id for each in self._nodes()}

    def left(self, nodes: Sequence[Node]) -> list[Node]:
        """Returns those of some machines that are not left out."""
        return [node for node in nodes if node.id not in self._left_out]

    def left_out(self) -> list[str]:
        """Returns in words which machines are left out, and why, as far as they live."""
        return [why for node, why in self._left_out.items() if self.live(node)]

    def avoided(self, item: Hashable) -> frozenset[str]:
        """Returns the machines that an item is not to go to, as far as others are left to it."""
        bad = self._broken | self._tried.get(item, set())
        usable = self._usable()
        for avoided in (bad | self._suspected_by_others(item), bad):
            if usable - avoided:
                return frozenset(avoided | self._left_out.keys())
        return frozenset(self._left_out)

    def starved(self, avoided: frozenset[str]) -> bool:
        """Whether an item that avoids some machines has to wait, and need not."""
        usable = self._usable()
        return bool(usable) and not usable - avoided

    def _usable(self) -> set[str]:
        """Returns the machines that live and are not left out."""
        return {node.id for node in self.left(self._nodes())}

    def _suspected_by_others(self, item: Hashable) -> set[str]:
        """Returns the machines where other items failed before a step, and none made one since."""
        return {node for node, items in self._suspected.items() if items - {item}}


def elsewhere(avoided: frozenset[str]) -> dict[str, Any]:
    """Returns the options of a task of Ray that goes to none of some machines."""
    if not avoided:
        return {}
    return {"label_selector": {_LABEL: f"!in({','.join(sorted(avoided))})"}}
