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
from emoc_tf.cluster.ends import DEATHS, Ends, told
from emoc_tf.cluster.members import Death, Member, cause, differs
from emoc_tf.cluster.tasks import Queue, Task

_LOG = logging.getLogger("emoc_tf.cluster")

# Seconds in which at least one actor has to be ready; the first thing that it does is to load
# TensorFlow.
_LIMIT = 300.0
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
        # The same of actors that died at work, since one there had done something.
        self._died: dict[str, list[float]] = collections.defaultdict(list)
        # A machine that joins later, or was good once, and is of no use hinders nobody: it is left
        # out. Why, by its id; and those of the first on which no actor has begun yet.
        self._left_out: dict[str, str] = {}
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
            ValueError: No actor began, machines that were there from the first differ in what
                decides bits, or no machine is left.
            RuntimeError: Actors die of a task wherever it goes; or another call has begun since.
            Exception: What the first of the tasks raised that fail, on another machine too if there
                is one; those before it are done then.
        """
        queue = Queue(tasks)
        ends = Ends(tasks, queue)
        with self._lock:
            self._turn = turn = object()
            for member in self._members:
                member.index = None
                host = member.node.host
                if member.ready and (reason := differs(host, self._place, None, self.alike)):
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
                found, since = self._round(tasks, queue, ends, since)
            yield from found
        if ends.errors:
            raise ends.errors[min(ends.errors)]

    def _round(
        self, tasks: Sequence[Task], queue: Queue, ends: Ends, since: float
    ) -> tuple[list[tuple[int, Any]], float]:
        """Hands tasks out, takes what has ended; returns results, and when an actor was ready."""
        found: list[tuple[int, Any]] = []
        ends.look({member.node.id for member in self._members})
        for member in self._members:
            if queue and member.ready and member.reference is None:
                member.index = queue.take(member.group, member.node.id)
                if member.index is None:
                    continue
                task = tasks[member.index]
                member.group = task.group
                member.reference = member.handle.work.remote(task.method, *task.arguments)
        for member, result, problem in self._ended():
            if member not in self._members:  # its machine was left out just now
                continue
            index, member.index, member.reference = member.index, None, None
            if isinstance(problem, Death):
                self._bury(member, None if index is None else (index, tasks), problem)
                if index is not None:
                    ends.die(index, member.node, problem.reason)
                self._ask(member.node)
                self._fill()
            elif not member.ready:
                self._admit(member, result, problem)
            elif index is not None and problem is not None:
                ends.fail(index, member.node, problem)
            elif index is not None:
                self._died[member.node.id].clear()
                if failed := ends.end(index):
                    self._leave_out_at_work(*failed, queue)
                if ends.wanted(index):
                    found.append((index, result))
        if time.monotonic() > self._again:
            self._fill()
        self._check_left()
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

    def _listed(self, node: Node) -> bool:
        return node.id in {each.id for each in self._nodes()}

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
            reason = differs(host, place, self._place, self.alike)
        if reason:
            self._members.remove(member)
            ray().kill(member.handle)
            self._leave_out(member.node, reason, problem)
            return
        self._place = place
        member.ready = True
        self._failed[member.node.id].clear()
        self._first.discard(member.node.id)

    def _leave_out(self, node: Node, reason: str, problem: Any = None) -> None:
        """Begins no actor on a machine any more and says so, once.

        Raises:
            ValueError: It is one of the first, and none has ever begun there.
        """
        if node.id in self._first:
            raise ValueError(reason) from problem
        if node.id not in self._left_out:
            self._left_out[node.id] = reason
            _LOG.warning("%s (node %s) gets no work: %s", node.host, node.id[:8], reason)

    def _leave_out_at_work(self, node: Node, problem: Exception, queue: Queue) -> None:
        """Leaves a machine out on which something fails that does not fail elsewhere."""
        reason = f"{type(problem).__name__}: {processes.last_line(problem)}"
        self._leave_out(node, f"ray: {node.host} fails where another machine does not: {reason}")
        for member in [member for member in self._members if member.node.id == node.id]:
            self._members.remove(member)
            ray().kill(member.handle)
            if member.index is not None:
                queue.put_back(member.index)

    def _check_left(self) -> None:
        """Raises `ValueError` if there are machines, and all of them are left out."""
        if self._members or not self._left_out or self._nodes():
            return
        living = {node.id for node in self._connection.nodes(self._cpus, self._gpus)}
        if reasons := [why for node, why in self._left_out.items() if node in living]:
            raise ValueError(f"ray: no machine is left that works; {'; '.join(reasons)}")

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
                where, told(*work), problem.reason,
            )  # fmt: skip
            others = any(m.ready and m.node.id != member.node.id for m in self._members)
            if self._too_many(self._died[member.node.id]) and others and self._listed(member.node):
                host = member.node.host
                self._leave_out(member.node, f"ray: actors die on {host}: {problem.reason}")
        elif member.ready:
            _LOG.warning("%s died with nothing in flight: %s", where, problem.reason)
        elif self._listed(member.node) and self._too_many(self._failed[member.node.id]):
            host = member.node.host
            self._leave_out(member.node, f"ray: no actor begins on {host}: {problem.reason}")

    def _too_many(self, deaths: list[float]) -> bool:
        """Takes note of a death now; whether it is not that of a machine which is still listed."""
        deaths.append(time.monotonic())
        return len(deaths) >= DEATHS and deaths[-1] - deaths[0] > processes.SETTLES


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
