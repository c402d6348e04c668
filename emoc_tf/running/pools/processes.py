"""Items side by side, in processes of this machine that are replaced when they die."""

import concurrent.futures
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection
from typing import Any

from pebble import ProcessExpired, ProcessPool

from emoc_tf.running import quiet

# TensorFlow does not survive a fork.
_CONTEXT = multiprocessing.get_context("spawn")

# What a worker process was sent, and what it does with an item.
_content: bytes
_work_on: Callable[[Any], Any] | None = None


def run(
    count: int,
    serve: Callable[[], Callable[[Any], Any]],
    items: Sequence[Any],
    died: Callable[[Any, str], None],
    lost: Callable[[Any, str], Any],
) -> Iterator[tuple[Any, Any]]:
    """Works on items in processes; each process keeps its threads as a single one would have them.

    When a process dies, another takes its item; when that dies of the same item, the item is given
    up and the others continue. The processes end with the generator, and with their parent.

    Args:
        count: How many processes at most.
        serve: Called in each process; returns the function that is called with each item. A
            module's own function, or a partial one, since it is sent by name.
        items: Anything that can be pickled.
        died: Called with the item and the cause when a process died and another takes its item.
        lost: Called with an item that is given up and the cause; returns the result.

    Yields:
        Items with their results, in the order in which they end.

    Raises:
        ValueError: What is sent cannot be found by name in another process.
    """
    try:
        # As bytes: what they name is imported once TensorFlow has been loaded quietly.
        content = pickle.dumps(serve)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise _unsendable(error) from error
    pool = _pool(count, content)
    try:
        waiting = {pool.schedule(_work, args=[item]): item for item in items}
        given_up = set()
        while waiting:
            ended, _ = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in ended:
                item = waiting.pop(future)
                try:
                    result = future.result()
                except ProcessExpired as error:
                    cause = _cause(error.exitcode)
                    if item not in given_up:
                        given_up.add(item)
                        died(item, cause)
                        waiting[pool.schedule(_work, args=[item])] = item
                        continue
                    result = lost(item, cause)
                yield item, result
    finally:
        pool.stop()
        pool.join()


def _unsendable(error: Exception) -> ValueError:
    return ValueError(
        f"num_workers: expected policies, environments and so on that worker processes can import "
        f"by name, got {type(error).__name__}: {error}; define them at the top of a module, or of "
        f"a script whose work is under `if __name__ == '__main__':`, or take num_workers=1"
    )


def _cause(exit_code: int | None) -> str:
    code = exit_code or 0
    return signal.Signals(-code).name if code < 0 else f"exit status {code}"


def _pool(count: int, content: bytes) -> ProcessPool:
    return ProcessPool(count, context=_CONTEXT, initializer=_begin, initargs=(content,))


def _begin(content: bytes) -> None:
    global _content
    _content = content
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _work(item: Any) -> Any:
    # All that may fail, or take the process's life, belongs to an item.
    global _work_on
    if _work_on is None:
        quiet.load_tensorflow()
        try:
            serve = pickle.loads(_content)
        except Exception as error:
            raise _unsendable(error) from error
        _work_on = serve()
    return _work_on(item)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
