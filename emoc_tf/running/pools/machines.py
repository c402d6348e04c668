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


class Machines:
    """What is known of the machines of a cluster.

    One that was checked, or on which an item has begun, is proven. On another one whatever hinders
    an item to begin is the machine's fault: it is left out from then on, and the item waits again.

    Args:
        nodes: Returns the machines that live.
    """

    def __init__(self, nodes: Callable[[], Sequence[Node]]) -> None:
        self._nodes = nodes
        self._proven: set[str] = set()
        self._left_out: set[str] = set()
        self._at: dict[Hashable, At] = {}

    def prove(self, ids: Iterable[str]) -> None:
        """Takes machines as those that items can be worked on."""
        self._proven.update(ids)

    def arrive(self, item: Hashable, at: At | None) -> None:
        """Takes note of where an item is; None: it is nowhere yet."""
        self._at.pop(item, None)
        if at is not None:
            self._at[item] = at

    def begin(self, item: Hashable) -> None:
        """Takes note that an item has begun where it is, which proves the machine."""
        self._proven.add(self._at[item].id)

    def where(self, item: Hashable) -> str | None:
        """Returns the machine that an item was at last, Ray's id; None where it never arrived."""
        return self._at[item].id if item in self._at else None

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
            self._left_out.add(at.id)
            _LOG.warning(
                "%s (node %s) gets no runs any more, and those that it was given wait for other "
                "machines: %s",
                at.host, at.id[:8], reason,
            )  # fmt: skip

    def live(self, node: str | None) -> bool:
        """Whether a machine lives, by Ray's id; one that nobody knows counts as living."""
        return node is None or node in {each.id for each in self._nodes()}

    def left(self, nodes: Sequence[Node]) -> list[Node]:
        """Returns those of some machines that are not left out."""
        return [node for node in nodes if node.id not in self._left_out]

    def options(self) -> dict[str, Any]:
        """Returns the options of a task that goes to none of those that are left out."""
        if not self._left_out:
            return {}
        return {"label_selector": {_LABEL: f"!in({','.join(sorted(self._left_out))})"}}
