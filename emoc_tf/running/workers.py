"""Runs side by side, in processes that are replaced when they die."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

# TensorFlow does not survive a fork.
_CONTEXT = multiprocessing.get_context("spawn")


class _Worker:
    """A process and what it is working on."""

    def __init__(self, serve: Callable, argument: Any) -> None:
        self.pipe, other_end = _CONTEXT.Pipe()
        self.process: BaseProcess = _CONTEXT.Process(
            target=_work, args=(other_end, serve, argument), daemon=True
        )
        self.process.start()
        other_end.close()  # so that the death of the process ends the pipe
        self.item: Any = None

    def give(self, item: Any) -> None:
        self.item = item
        with contextlib.suppress(OSError):  # it is dead, which its pipe will tell
            self.pipe.send(item)

    def cause_of_death(self) -> str:
        self.process.join()
        code = self.process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def run(
    count: int,
    serve: Callable[[Any], Callable[[Any], Any]],
    argument: Any,
    items: Sequence[Any],
    died: Callable[[Any, str], None],
    lost: Callable[[Any, Any, str], Any],
) -> Iterator[tuple[Any, Any]]:
    """Works on items in processes; each process keeps its threads as a single one would have them.

    When a process dies, another takes its item; when that dies of the same item, the item is given
    up and the others go on. The processes end with the generator, and with their parent.

    Args:
        count: How many processes at most.
        serve: Called in each process with `argument`; returns the function that is called with each
            item. A module's own function, since it is sent by name.
        argument: Anything that can be pickled.
        items: The same.
        died: Called with the item and the cause when a process died and another takes its item.
        lost: Called with an item that is given up, `argument` and the cause; returns the result.

    Yields:
        Items with their results, in the order in which they end.
    """
    waiting, deaths = deque(items), Counter[Any]()
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.item is not None for worker in workers):
            idle = [worker for worker in workers if worker.item is None]
            while waiting and (idle or len(workers) < count):
                if not idle:
                    idle.append(_Worker(serve, argument))
                    workers.append(idle[-1])
                idle.pop().give(waiting.popleft())
            busy = {worker.pipe: worker for worker in workers if worker.item is not None}
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]
                item, worker.item = worker.item, None
                try:
                    result = worker.pipe.recv()
                except (EOFError, OSError):
                    workers.remove(worker)
                    deaths[item] += 1
                    cause = worker.cause_of_death()
                    if deaths[item] == 1:
                        died(item, cause)
                        waiting.appendleft(item)
                        continue
                    result = lost(item, argument, cause)
                yield item, result
    finally:
        for worker in workers:
            worker.process.terminate()
        for worker in workers:
            worker.process.join()


def _work(pipe: connection.Connection, serve: Callable, argument: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it too, and ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    work = serve(argument)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        pipe.send(work(item))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
