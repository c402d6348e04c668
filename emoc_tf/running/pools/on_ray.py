"""Items on the machines of a Ray cluster, a task each."""

import contextlib
import logging
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from emoc_tf.cluster import processes
from emoc_tf.cluster.connection import Connection, connect, ray, runtime
from emoc_tf.records.run_record import make_output_dir
from emoc_tf.running.attempts import Result
from emoc_tf.running.pools import events, ray_task
from emoc_tf.running.pools.events import AGAIN, DIED, FAILED, GONE
from emoc_tf.running.pools.machines import At, Machines, elsewhere
from emoc_tf.running.pools.pool import Pool, Told, Work
from emoc_tf.running.pools.verdicts import REMEDY, Verdicts
from emoc_tf.storage import atomic

FILES, OBJECTS = "files", "objects"
_LOG = logging.getLogger("emoc_tf")
# Seconds after which it looks whether what has to wait can begin, and whether a machine is left.
_PAUSE, _LOOK = 0.5, 10.0
_NOWHERE = 5  # deaths of an item's process of which nobody knows where, until it is given up


class OnRay(Pool):
    """Works on items on a Ray cluster; a machine that dies costs what was not saved.

    Args:
        address: `local`, `auto` or HOST:PORT, see `connect`.
        cpus: That an item reserves, and threads that it uses, at least 1.
        gpus: That an item reserves; a part of one, or a whole number.
        storage: `files`: all machines share the output folder. `objects`: what an item writes
            comes back through Ray after each step, and this process writes it.

    Raises:
        ValueError: A number is out of range, or the storage is another one.
    """

    def __init__(self, address: str, cpus: int = 1, gpus: float = 0, storage: str = FILES) -> None:
        if cpus < 1:
            raise ValueError(f"cpus_per_run: expected an integer of at least 1, got {cpus}")
        if gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            raise ValueError(
                f"gpus_per_run: expected a part of one GPU or a whole number of them, got {gpus}"
            )
        if storage not in (FILES, OBJECTS):
            raise ValueError(f"ray_storage: expected {FILES} or {OBJECTS}, got {storage!r}")
        self._address, self._cpus, self._gpus, self._storage = address, cpus, gpus, storage
        self._connection: Connection | None = None
        self._machines = Machines(lambda: self._connection.nodes(self._cpus, self._gpus))
        self._setting: ray_task.Setting | None = None
        self._seen: Path | None = None

    def place(self, output_dir: str | Path, allow_mixed: bool) -> dict[str, Any]:
        """Returns what bits depend on on the cluster, see `Pool.place`.

        Raises:
            ValueError: There is no cluster, its machines differ, or do not share the output folder.
            ValueError: The output folder cannot be written.
        """
        self._connection = self._connection or connect(self._address)
        there = [node.id for node in self._connection.nodes(self._cpus, self._gpus)]
        if self._storage == FILES:
            make_output_dir(output_dir)
            # Named as what is written aside, so that what a killed process left is known by it.
            name = f".seen.{os.getpid()}-{secrets.token_hex(4)}"
            self._seen = Path(output_dir).absolute() / name
        if self._setting is not None and self._setting.allow_mixed == allow_mixed:
            return dict(self._setting.place)  # machines that came since are met as runs begin
        with self._shown() as seen:
            place = processes.check(
                self._connection, self._cpus, self._gpus,
                file=seen, allow_mixed=allow_mixed, remedy=REMEDY,
            )  # fmt: skip
        self._machines.prove(there)
        self._setting = ray_task.Setting(
            os.getcwd(), tuple(sys.path), self._cpus, place, allow_mixed,
            data_dir=os.environ.get(ray_task.DATA_DIR),
        )  # fmt: skip
        return place

    @contextlib.contextmanager
    def _shown(self) -> Iterator[Path | None]:
        """Keeps a file for the time that whoever shares the output folder sees; yields its path."""
        with contextlib.ExitStack() as stack:
            seen = self._seen
            try:
                if seen is not None:
                    atomic.remove_asides(seen.parent)
                    stack.enter_context(atomic.held(seen))
            except OSError:  # runs that cannot write say so themselves
                seen = None
            yield seen

    def told(self) -> str:
        """Returns in words where items are worked on."""
        nodes = self._connection.nodes(self._cpus, self._gpus)
        at_once = sum(self._at_once(node.cpus, node.gpus) for node in nodes)
        machines = "1 machine" if len(nodes) == 1 else f"{len(nodes)} machines"
        return f"on Ray: {machines}, {at_once} runs at a time"

    def _at_once(self, cpus: float, gpus: float) -> int:
        by_cpus = int(cpus // self._cpus)
        return min(by_cpus, int(gpus / self._gpus)) if self._gpus else by_cpus

    def run(self, work: Work, items: Sequence[Any], died: Told) -> Iterator[tuple[Any, Any]]:
        """Works on items, see `Pool.run`.

        An item is given up when its process dies a second time without a step in between: one
        that needs too much memory does. A process that dies with its machine, however often, is
        not counted, and of those that nobody knows the machine of, four. A machine that comes later
        and gives other bits, or on which no item can begin, is left out, and what it was given
        waits for others. So does what fails before it makes a step, once.
        """
        waiting = list(items)
        stalled: dict[Any, str | None] = {}  # the machine that a process died on since a step
        nowhere: Counter = Counter()  # deaths of unknown machines since a step
        changed = looked = time.monotonic()
        with self._shown() as seen, contextlib.closing(self._tasks(work, seen)) as tasks:
            while waiting or tasks.flying:
                begun = [(item, tasks.begin(item)) for item in waiting]
                waiting = [item for item, state in begun if state is None]
                ended = [each for each in begun if each[1] not in (None, True)]
                yield from ended
                for item, (kind, told) in tasks.events():
                    changed = time.monotonic()
                    if kind == ray_task.LINE:
                        # What the item's process printed there: one of this machine prints it here.
                        print(told, flush=True)
                    elif kind == ray_task.STEP:
                        stalled.pop(item, None)
                        del nowhere[item]
                    elif kind == AGAIN:
                        waiting.append(item)
                    elif kind == GONE or (kind == DIED and self._may_die(item, stalled, nowhere)):
                        died(item, told)
                        waiting.append(item)
                    else:
                        yield item, _result(work, item, kind, told)
                if time.monotonic() - looked > _LOOK:
                    looked = time.monotonic()
                    waiting += tasks.starved()
                if time.monotonic() - changed > _LOOK:
                    changed = self._look()

    def _may_die(self, item: Any, stalled: dict[Any, str | None], nowhere: Counter) -> bool:
        """Takes note that the process of an item died; returns whether it is begun again."""
        node = self._machines.where(item)
        if node is None:  # its machine may have gone with it
            nowhere[item] += 1
            return nowhere[item] < _NOWHERE
        # A machine that goes may end its processes before it is known to be gone.
        again = not (item in stalled and self._machines.live(stalled[item]))
        stalled[item] = node
        return again

    def _tasks(self, work: Work, seen: Path | None) -> "_Tasks":
        setting = self._setting and replace(self._setting, file=str(seen) if seen else None)
        options = {
            "num_cpus": self._cpus,
            "num_gpus": self._gpus,
            "max_retries": 0,  # it is told, and only what the item itself ends of is given up
            "runtime_env": runtime(self._cpus),
            "num_returns": "streaming",
            "name": ray_task.work_on.__name__,
        }
        return _Tasks(work, setting, options, self._storage, self._machines)

    def _look(self) -> float:
        """Warns if nothing is left to work on; returns when it looks again from."""
        if self._machines.left(self._connection.nodes(self._cpus, self._gpus)):
            return time.monotonic()
        left_out = self._machines.left_out()
        _LOG.warning(
            "no machine lends %g CPUs and %g GPUs to runs any more%s: waiting for one",
            self._cpus, self._gpus, f" (left out: {'; '.join(left_out)})" if left_out else "",
        )  # fmt: skip
        return float("inf")

    def close(self, at_once: bool = False) -> None:
        """Ends the connection if it was made here, see `Connection.close`."""
        if self._connection is not None:
            self._connection.close(at_once)
            self._connection = None


def _result(work: Work, item: Any, kind: str, told: Any) -> Any:
    """Returns the result of an item that has ended."""
    if kind == ray_task.RESULT:
        return told
    if kind == DIED:
        return work.lost(item, told)
    return work.failed(item, told)


class _Tasks:
    """The tasks that are under way.

    Args:
        work: What is done with items.
        setting: Of the processes.
        options: Of the tasks.
        storage: See `OnRay`.
        machines: That they go to.

    Attributes:
        flying: Their items.

    Raises:
        ValueError: The work cannot be sent.
    """

    def __init__(
        self,
        work: Work,
        setting: ray_task.Setting,
        options: dict[str, Any],
        storage: str,
        machines: Machines,
    ) -> None:
        self._ray, self._setting, self._machines = ray(), setting, machines
        self._failed = work.failed
        self._parcels = work.parcels if storage == OBJECTS else None
        serve = work.serve if self._parcels is None else self._parcels.serve
        try:
            # What a script defines goes along whole; what a module does, by name.
            content = self._ray.cloudpickle.dumps(serve)
        except Exception as error:  # pickling runs code of the things' own
            raise ray_task.unsendable(error) from error
        try:
            # Once for all items: a script's own images may be part of it.
            self._content = self._ray.put(content)
        except events.full(self._ray) as error:
            raise events.no_room(error, "what all runs have in common") from error
        begin = processes.by_value(ray_task.work_anywhere)
        self._task = processes.remote(self._ray, begin, options["num_gpus"])
        self._options = options
        self.flying: dict[Any, Any] = {}
        self._avoided: dict[Any, frozenset[str]] = {}  # machines, by task
        self._verdicts = Verdicts(self._ray, machines)

    def begin(self, item: Any) -> Any:
        """Begins with an item; returns its result if it has ended already, None if it must wait.

        True: it has begun.
        """
        packed = item if self._parcels is None else self._parcels.pack(item)
        if packed is None or isinstance(packed, Result):
            return packed
        given = self._ray.cloudpickle.dumps((self._setting, packed))
        avoided = self._machines.avoided(item)
        task = self._task.options(**self._options, **elsewhere(avoided))
        self._machines.arrive(item, None)
        try:
            self.flying[begun := task.remote(self._content, given)] = item
            self._avoided[begun] = avoided
        except events.full(self._ray) as error:
            if self._parcels is not None:
                self._parcels.release(item)
            return self._failed(item, events.no_room(error))
        return True

    def events(self) -> Iterator[tuple[Any, ray_task.Event]]:
        """Yields what was told meanwhile, with its item; an item that has ended flies no more."""
        if not self.flying:
            time.sleep(_PAUSE)
            return
        self._ray.wait(list(self.flying), num_returns=1, timeout=_PAUSE)
        told, _ = self._ray.wait(list(self.flying), num_returns=len(self.flying), timeout=0)
        for task in told:
            item = self.flying[task]
            kind, content = self._verdicts.of(task, item)
            if kind == ray_task.AT:
                self._machines.arrive(item, At(*content))
                continue
            if kind == ray_task.BEGUN:
                self._machines.begin(item)
                continue
            if kind == ray_task.SAID:
                self._machines.say(item, *content)
                continue
            if kind == ray_task.STEP and content is not None:
                try:
                    self._parcels.unpack(item, content)
                except (OSError, ValueError) as error:  # such as a full disk
                    self._ray.cancel(task, force=True)
                    kind, content = FAILED, error
            if kind not in (ray_task.LINE, ray_task.STEP):
                self._end(task)
            yield item, (kind, content)

    def starved(self) -> list[Any]:
        """Ends tasks that wait for machines which are gone, though others are left; their items."""
        ended = []
        for task, item in list(self.flying.items()):
            waits = self._machines.where(item) is None
            if waits and self._machines.starved(self._avoided[task]):
                self._ray.cancel(task, force=True)
                self._end(task)
                ended.append(item)
        return ended

    def _end(self, task: Any) -> None:
        item = self.flying.pop(task)
        del self._avoided[task]
        if self._parcels is not None:
            self._parcels.release(item)

    def close(self) -> None:
        """Ends what is under way, at once."""
        for task in list(self.flying):
            self._ray.cancel(task, force=True)
            self._end(task)
