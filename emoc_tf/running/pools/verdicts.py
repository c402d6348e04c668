"""Whose fault it is that an item ends badly: its own, its machine's, or that of all machines."""

import logging
from typing import Any

from emoc_tf.cluster import processes
from emoc_tf.running.attempts import Result
from emoc_tf.running.pools import events, ray_task
from emoc_tf.running.pools.events import AGAIN, DIED, FAILED, GONE
from emoc_tf.running.pools.machines import Machines

_LOG = logging.getLogger("emoc_tf")
REMEDY = "--allow_mixed works on both and marks the runs that moved"


class Verdicts:
    """Judges what tasks tell by what is known of their machines.

    Args:
        ray: The module.
        machines: Where the items of the tasks are.
    """

    def __init__(self, ray: Any, machines: Machines) -> None:
        self._ray, self._machines = ray, machines

    def of(self, task: Any, item: Any) -> ray_task.Event:
        """Returns the next event of a task as it counts for its item.

        What ends before the item has made a step may be the fault of its machine: `AGAIN` then.
        """
        kind, told = events.told(self._ray, task)
        if kind == ray_task.STEP and not getattr(told, "last", False):
            self._machines.step(item)
        if kind == DIED and not self._machines.live(self._machines.where(item)):
            return GONE, told
        if kind == ray_task.ELSEWHERE:
            # Where it is told without emoc_tf, or by another version of it, there are words alone.
            differing, by_processor = told if isinstance(told, tuple) else (told, False)
            reason = (
                f"ray: expected machines like the first one, got one with {'; '.join(differing)}"
            )
            self._machines.leave_out(item, f"{reason}; {REMEDY}" if by_processor else reason)
            return AGAIN, None
        if _ended_badly(kind, told) and self._machines.at_the_beginning(item):
            return self._judged(item, kind, told)
        return kind, told

    def _judged(self, item: Any, kind: str, told: Any) -> ray_task.Event:
        """Returns what becomes of an item that has ended before it made a step."""
        machines = self._machines
        reason = processes.last_line(told.error if isinstance(told, Result) else told)
        if not machines.begun(item):
            reason = f"no run begins there: {reason}"
            if not machines.proven(item):
                machines.leave_out(item, reason)
                return AGAIN, None
            if kind != DIED:
                return (AGAIN, None) if machines.breaks(item, reason) else (kind, told)
        where, again = machines.host(item), machines.fails(item)
        if kind == DIED:  # which is told, and counted unless others failed there too
            return (GONE if again and machines.tries(item) > 1 else DIED), told
        if not again:
            return kind, told
        _LOG.warning(
            "a run failed on %s before it made a step, and begins once more on another machine: %s",
            where, reason,
        )  # fmt: skip
        return AGAIN, None


def _ended_badly(kind: str, told: Any) -> bool:
    if kind == ray_task.RESULT:
        return isinstance(told, Result) and told.error is not None
    return kind in (ray_task.ERROR, FAILED, DIED)
