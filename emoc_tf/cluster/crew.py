"""Actors of a Ray cluster that share work out; what an actor loses by dying is done again.

Nothing of TensorFlow is imported here: it is loaded in each actor once its threads are set.
"""

import collections
import logging
import math
import pickle
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from emoc_tf.cluster import processes
from emoc_tf.cluster.connection import Connection, Node, on_node, ray, variables
from emoc_tf.cluster.members import Death, Member, cause
from emoc_tf.cluster.tasks import Queue, Task

_LOG = logging.getLogger("emoc_tf.cluster")

# Seconds in which at least one actor has to be ready; the first thing that it does is to load
# TensorFlow.
_LIMIT = 300.0
_DEATHS = 3  # of actors by one task, or in a row on a machine before any work
_PAUSE = 5.0  # seconds until an actor begins anew where the last one did not begin


class Crew:
    """Actors on all machines of a cluster, as many as reserve its CPUs, or one for each GPU.

    Args:
        connection: To the cluster; it is closed with the crew.
        serve: A module's own function without arguments, called in each actor once TensorFlow is
            there; it returns the object whose methods tasks name.
        cpus: CPUs that an actor reserves, and threads that its operations use.

    Attributes:
        alike: Whether actors have to give the bits of this process, not only those of one another.
        closed: Whether it was ended.

    Raises:
        ValueError: No machine lends so many.
    """

    def __init__(self, connection: Connection, serve: Callable[[], Any], cpus: int = 1) -> None:
        self._connection, self._cpus, self.alike, self.closed = connection, cpus, False, False
        self._serve = pickle.dumps(serve)
        self._members: list[Member] = []
        # Whose turn it is: the actors are shared by all calls of a process.
        self._lock, self._turn = threading.Lock(), object()
        self._place: dict[str, Any] | None = None
        # When actors of a machine, by its id, did not begin, since the last one that did.
        self._failed: dict[str, list[float]] = collections.defaultdict(list)
        self._again = math.inf
        self._gpus = int(any(node.gpus >= 1 for node in connection.nodes()))
        # A machine that joins later and is of no use hinders nobody: it is left out.
        self._left_out: set[str] = set()
        self._first = {node.id for node in self._nodes()}
        if not self._first:
            lent = ", ".join(f"{n.host} with {n.cpus:g}" for n in connection.nodes())
            raise ValueError(
                f"cpus: expected as many as a machine of the cluster lends, got {cpus} for "
                f"{lent or 'no machine'}; TF_NUM_INTRAOP_THREADS tells how many a process uses"
            )

    def __len__(self) -> int:
        """How many actors the cluster has room for."""
        return sum(self._room(node) for node in self._nodes())

    def run(self, tasks: Sequence[Task]) -> Iterator[tuple[int, Any]]:
        """Does tasks, in any order; yields the index of each and its result as they come.

        Raises:
            ValueError: No actor began, or machines that were there from the first differ in what
                decides bits.
            RuntimeError: Actors die of a task wherever it goes; or another call has begun since.
            Exception: What the first of the tasks raised that fail; those before it are done then.
        """
        queue = Queue(tasks)
        deaths: collections.Counter = collections.Counter()
        errors: dict[int, Exception] = {}
        with self._lock:
            self._turn = turn = object()
            for member in self._members:
                member.index = None
                if member.ready and (reason := self._differs(member, self._place)):
                    raise ValueError(reason)
            self._fill()
        since = time.monotonic()
        while True:
            with self._lock:
                if self._turn is not turn:
                    raise RuntimeError(
                        "ray: expected the results of a call to be taken before the next one "
                        "begins, got another call; calls of several threads need a lock around them"
                    )
                if not queue and all(member.index is None for member in self._members):
                    break
                found, since = self._round(tasks, queue, deaths, errors, since)
            yield from found
        if errors:
            raise errors[min(errors)]

    def _round(
        self,
        tasks: Sequence[Task],
        queue: Queue,
        deaths: collections.Counter,
        errors: dict[int, Exception],
        since: float,
    ) -> tuple[list[tuple[int, Any]], float]:
        """Hands tasks out, takes what has ended; returns results, and when an actor was ready."""
        found: list[tuple[int, Any]] = []
        for member in self._members:
            if queue and member.ready and member.reference is None:
                member.index = queue.take(member.group)
                task = tasks[member.index]
                member.group = task.group
                member.reference = member.handle.work.remote(task.method, *task.arguments)
        for member, result, problem in self._ended():
            index, member.index, member.reference = member.index, None, None
            if isinstance(problem, Death):
                self._bury(member, None if index is None else (index, tasks), problem)
                if index is not None:
                    deaths[index] += 1
                    if deaths[index] == _DEATHS:
                        raise RuntimeError(
                            f"ray: {_DEATHS} actors died of {_told(index, tasks)} "
                            f"({problem.reason}); is there too little memory?"
                        )
                    queue.put_back(index)
                self._ask(member.node)
                self._fill()
            elif not member.ready:
                self._admit(member, result, problem)
            elif index is not None and problem is not None:
                errors[index] = problem
                queue.drop_after(index)
            elif index is not None and (not errors or index < min(errors)):
                found.append((index, result))
        if time.monotonic() > self._again:
            self._fill()
        if any(member.ready for member in self._members):
            since = time.monotonic()
        elif time.monotonic() - since > _LIMIT:
            raise ValueError(
                f"ray: expected an actor with {self._cpus} free CPUs within {_LIMIT:.0f} s, "
                f"got none; what else reserves CPUs of the cluster?"
            )
        return found, since

    def close(self) -> None:
        """Ends the actors, and the connection if it was made for them."""
        self.closed = True
        if ray().is_initialized():
            for member in self._members:
                ray().kill(member.handle)
        self._members = []
        self._connection.close()

    def _nodes(self) -> list[Node]:
        nodes = self._connection.nodes(self._cpus, self._gpus)
        return [node for node in nodes if node.id not in self._left_out]

    def _room(self, node: Node) -> int:
        return int(min(node.cpus // self._cpus, node.gpus if self._gpus else node.cpus))

    def _fill(self) -> None:
        """Starts actors where there is room: at the beginning, for dead ones, on new machines."""
        have = collections.Counter(member.node.id for member in self._members)
        self._again = math.inf
        for node in self._nodes():
            failed = self._failed[node.id]
            if failed and time.monotonic() < failed[-1] + _PAUSE:
                self._again = min(self._again, failed[-1] + _PAUSE)
                continue
            for _ in range(self._room(node) - have[node.id]):
                self._members.append(self._begin(node))

    def _begin(self, node: Node) -> Member:
        own = variables(self._cpus) | {"TF_NUM_INTRAOP_THREADS": str(self._cpus)}
        actor = ray().remote(_Actor).options(
            num_cpus=self._cpus, num_gpus=self._gpus, max_restarts=0, max_task_retries=0,
            scheduling_strategy=on_node(node), runtime_env={"env_vars": own},
        )  # fmt: skip
        handle = actor.remote()
        return Member(handle, node, handle.begin.remote(self._cpus, self._serve))

    def _admit(self, member: Member, place: Any, problem: Exception | None) -> None:
        """Takes an actor into the crew if it gives the bits that the others give.

        Raises:
            ValueError: It does not, or could not begin, on a machine that was there from the first.
        """
        host = member.node.host
        if problem is not None:
            reason = f"ray: expected emoc_tf on {host}, got {type(problem).__name__}: {problem}"
        else:
            reason = self._differs(member, place)
        if reason:
            self._members.remove(member)
            ray().kill(member.handle)
            self._leave_out(member.node, reason, problem)
            return
        self._place = place
        member.ready = True
        self._failed[member.node.id].clear()

    def _leave_out(self, node: Node, reason: str, problem: Any = None) -> None:
        """Begins no actor on a machine any more and says so, once; raises if it is of the first."""
        if node.id in self._first:
            raise ValueError(reason) from problem
        if node.id not in self._left_out:
            self._left_out.add(node.id)
            _LOG.warning("%s (node %s) gets no work: %s", node.host, node.id[:8], reason)

    def _differs(self, member: Member, place: dict[str, Any]) -> str:
        """Returns in words where an actor would give other bits, as far as that counts."""
        host, here = member.node.host, processes.place_here()
        if differing := processes.differences(here, place, allow_mixed=True):
            return (
                f"ray: expected the versions of this process on {host}, got, here and there, "
                f"{'; '.join(differing)}"
            )
        # Variables and threads are handed on; how many GPUs a process sees decides nothing.
        same = {name: here[name] for name in ("variables", "intra_op_threads")}
        if set(place["gpus"]) == set(here["gpus"]):
            same["gpus"] = here["gpus"]
        if self.alike and (differing := processes.differences(here, place | same)):
            return (
                f"ray: expected machines that give the bits of this process, got {host} with, "
                f"here and there, {'; '.join(differing)}; run the command on a machine of their "
                f"kind"
            )
        if differing := processes.differences(self._place or place, place):
            return (
                f"ray: expected machines with the same versions and processor, got {host} with "
                f"{'; '.join(differing)}"
            )
        return ""

    def _ended(self) -> list[tuple[Member, Any, "Exception | Death | None"]]:
        """Waits for an actor; returns those that are done, with what they returned or raised."""
        busy = {m.reference: m for m in self._members if m.reference is not None}
        if not busy:
            time.sleep(0.1)
            self._fill()
            return []
        ended, _ = ray().wait(list(busy), num_returns=1, timeout=1.0)
        found = []
        for reference in ended:
            try:
                found.append((busy[reference], ray().get(reference), None))
            except Exception as error:
                found.append((busy[reference], None, cause(error, ray().exceptions)))
        return found

    def _ask(self, node: Node) -> None:
        """Asks the actors that wait on a machine whether they live, before one gets a task.

        They may have gone with the one that is known to be dead, and a task is given up that too
        many die of.
        """
        for member in self._members:
            if member.node.id == node.id and member.ready and member.reference is None:
                member.reference = member.handle.answer.remote()

    def _bury(
        self, member: Member, work: tuple[int, Sequence[Task]] | None, problem: "Death"
    ) -> None:
        """Tells, once, that an actor died and of what work it was at."""
        self._members.remove(member)
        ray().kill(member.handle)
        where = f"an actor on {member.node.host} (node {member.node.id[:8]})"
        if work is not None:
            _LOG.warning(
                "%s died with %s in flight, which is computed again elsewhere: %s",
                where, _told(*work), problem.reason,
            )  # fmt: skip
        elif member.ready:
            _LOG.warning("%s died with nothing in flight: %s", where, problem.reason)
        elif member.node.id in {node.id for node in self._nodes()}:
            failed = self._failed[member.node.id]
            failed.append(time.monotonic())
            # Of a machine that is gone this is told too, as long as it is listed.
            if len(failed) >= _DEATHS and failed[-1] - failed[0] > processes.SETTLES:
                host = member.node.host
                self._leave_out(member.node, f"ray: no actor begins on {host}: {problem.reason}")


class _Actor:
    """What lives in the actor's process."""

    def begin(self, threads: int, serve: bytes) -> dict[str, Any]:
        """Loads TensorFlow with its threads set, then the rest; returns what bits depend on."""
        processes.prepare(threads)
        self._served = pickle.loads(serve)()
        return processes.place_here()

    def answer(self) -> None:
        """Tells that it lives."""

    def work(self, method: str, *arguments: Any) -> Any:
        """Does a task."""
        return getattr(self._served, method)(*arguments)


def _told(index: int, tasks: Sequence[Task]) -> str:
    return f"{tasks[index].method} {index + 1}/{len(tasks)}"
