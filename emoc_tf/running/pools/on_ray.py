"""Items on the machines of a Ray cluster, a task each."""

import logging
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from emoc_tf.cluster import processes
from emoc_tf.cluster.connection import Connection, connect, ray, runtime
from emoc_tf.records.run_record import make_output_dir
from emoc_tf.running.attempts import Result
from emoc_tf.running.pools import ray_task
from emoc_tf.running.pools.pool import Pool, Told, Work

FILES, OBJECTS = "files", "objects"
# What else than a task's own events may happen to an item.
DIED, FAILED = "died", "failed"
_LOG = logging.getLogger("emoc_tf")
# Seconds after which it looks whether what has to wait can begin, and whether a machine is left.
_PAUSE, _LOOK = 0.5, 10.0
REMEDY = "--allow_mixed works on both and marks the runs that moved"


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
        self._setting: ray_task.Setting | None = None

    def place(self, output_dir: str | Path, allow_mixed: bool) -> dict[str, Any]:
        """Returns what bits depend on on the cluster, see `Pool.place`.

        Raises:
            ValueError: There is no cluster, its machines differ, or do not share the output folder.
            ValueError: The output folder cannot be written.
        """
        self._connection = self._connection or connect(self._address)
        seen = None
        if self._storage == FILES:
            make_output_dir(output_dir)
            seen = Path(output_dir).absolute() / f".seen.{secrets.token_hex(4)}"
            seen.touch()
        try:
            place = processes.check(
                self._connection, self._cpus, self._gpus,
                file=seen, allow_mixed=allow_mixed, remedy=REMEDY,
            )  # fmt: skip
        finally:
            if seen is not None:
                seen.unlink(missing_ok=True)
        self._setting = ray_task.Setting(
            os.getcwd(), tuple(sys.path), self._cpus, place, allow_mixed
        )
        return place

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

        An item is given up when its process dies a second time without a step in between: what
        happens to machines is not its fault.
        """
        tasks = _Tasks(work, self._setting, self._options(), self._storage)
        waiting, stalled = list(items), set()
        changed = time.monotonic()
        try:
            while waiting or tasks.flying:
                begun = [(item, tasks.begin(item)) for item in waiting]
                waiting = [item for item, state in begun if state is None]
                yield from ((item, state) for item, state in begun if isinstance(state, Result))
                for item, (kind, told) in tasks.events():
                    changed = time.monotonic()
                    if kind == ray_task.LINE:
                        print(told, flush=True)
                    elif kind == ray_task.STEP:
                        stalled.discard(item)
                    elif kind == DIED and item not in stalled:
                        stalled.add(item)
                        died(item, told)
                        waiting.append(item)
                    else:
                        yield item, _result(work, item, kind, told)
                if time.monotonic() - changed > _LOOK:
                    changed = self._look()
        finally:
            tasks.close()

    def _options(self) -> dict[str, Any]:
        return {
            "num_cpus": self._cpus,
            "num_gpus": self._gpus,
            "max_retries": 0,  # it is told, and only what the item itself ends of is given up
            "runtime_env": runtime(self._cpus),
            "num_returns": "streaming",
        }

    def _look(self) -> float:
        """Warns if nothing is left to work on; returns when it looks again from."""
        if self._connection.nodes(self._cpus, self._gpus):
            return time.monotonic()
        _LOG.warning(
            "no machine of the cluster lends %g CPUs and %g GPUs any more: waiting for one",
            self._cpus, self._gpus,
        )  # fmt: skip
        return float("inf")

    def close(self, at_once: bool = False) -> None:
        """Ends the connection if it was made here, see `Connection.close`."""
        if self._connection is not None:
            self._connection.close(at_once)
            self._connection = None


def _result(work: Work, item: Any, kind: str, told: Any) -> Any:
    """Returns the result of an item that has ended; raises what no other item would escape."""
    if kind == ray_task.RESULT:
        return told
    if kind == DIED:
        return work.lost(item, told)
    if kind == FAILED:
        return work.failed(item, told)
    raise told


class _Tasks:
    """The tasks that are under way.

    Args:
        work: What is done with items.
        setting: Of the processes.
        options: Of the tasks.
        storage: See `OnRay`.

    Attributes:
        flying: Their items.

    Raises:
        ValueError: The work cannot be sent.
    """

    def __init__(
        self, work: Work, setting: ray_task.Setting, options: dict[str, Any], storage: str
    ) -> None:
        self._ray, self._setting = ray(), setting
        self._parcels = work.parcels if storage == OBJECTS else None
        serve = work.serve if self._parcels is None else self._parcels.serve
        try:
            # What a script defines goes along whole; what a module does, by name.
            self._content = self._ray.cloudpickle.dumps(serve)
        except Exception as error:  # pickling runs code of the things' own
            raise ray_task.unsendable(error) from error
        self._task = self._ray.remote(ray_task.work_on).options(**options)
        self.flying: dict[Any, Any] = {}

    def begin(self, item: Any) -> Result | bool | None:
        """Begins with an item; returns its result if it has ended already, None if it must wait."""
        packed = item if self._parcels is None else self._parcels.pack(item)
        if packed is None or isinstance(packed, Result):
            return packed
        self.flying[self._task.remote(self._content, self._setting, packed)] = item
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
            kind, content = self._event(task)
            if kind == ray_task.STEP and content is not None:
                try:
                    self._parcels.unpack(item, content)
                except OSError as error:  # such as a full disk
                    self._ray.cancel(task, force=True)
                    kind, content = FAILED, error
            if kind not in (ray_task.LINE, ray_task.STEP):
                self._end(task)
            yield item, (kind, content)

    def _event(self, task: Any) -> ray_task.Event:
        errors = self._ray.exceptions
        try:
            kind, told = self._ray.get(next(task))
        except errors.RayTaskError as error:  # of what is ours: no other item would escape it
            return ray_task.ERROR, error
        except errors.NodeDiedError:
            return DIED, "with its machine"
        except errors.OutOfMemoryError:
            return DIED, "for lack of memory"
        except errors.WorkerCrashedError:
            return DIED, "killed or crashed"
        except (errors.RayError, StopIteration) as error:
            return DIED, type(error).__name__
        if kind == ray_task.ELSEWHERE:
            return FAILED, ValueError(
                f"ray: expected machines like the first one, got {told[0]} with "
                f"{'; '.join(told[1])}; {REMEDY}"
            )
        return kind, told

    def _end(self, task: Any) -> None:
        item = self.flying.pop(task)
        if self._parcels is not None:
            self._parcels.release(item)

    def close(self) -> None:
        """Ends what is under way, at once."""
        for task in list(self.flying):
            self._ray.cancel(task, force=True)
            self._end(task)
