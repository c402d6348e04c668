"""What a grid asks of a pool, and the two pools of this machine."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from emoc_tf.cluster.connection import ends_at_once
from emoc_tf.running.pools import processes
from emoc_tf.running.pools.parcels import Parcels


@dataclass(frozen=True)
class Work:
    """What is done with the items of a pool, such as the runs of a grid.

    Attributes:
        here: Works on an item in this process and returns the result.
        serve: Called in another process; returns what is done there with an item, or raises why
            no item can be worked on there. It may be given `stepped`, a function without arguments,
            to be called whenever the item is safe so far.
        lost: Called with an item that is given up and the cause; returns the result.
        failed: The same with an error.
        parcels: How the files of items travel where no folder is common.
    """

    here: Callable[[Any], Any]
    serve: Callable[..., Callable[[Any], Any]]
    lost: Callable[[Any, str], Any]
    failed: Callable[[Any, Exception], Any]
    parcels: Parcels | None = None


# Called with an item and a cause.
Told = Callable[[Any, str], None]


class Pool:
    """Where items are worked on; a context, which ends what the pool began.

    Attributes:
        alone: Whether only this process writes to the console.
    """

    alone = False

    def place(self, output_dir: str | Path, allow_mixed: bool) -> dict[str, Any] | None:
        """Returns what bits depend on where items are worked on; None: as in this process.

        Args:
            output_dir: Where results go.
            allow_mixed: Whether that may differ from item to item.

        Raises:
            ValueError: It may not, but does, or nothing can be worked on.
        """
        return None

    def told(self) -> str:
        """Returns in words where items are worked on, empty for on this machine; after `place`."""
        return ""

    def run(self, work: Work, items: Sequence[Any], died: Told) -> Iterator[tuple[Any, Any]]:
        """Works on items.

        When a process dies, another takes its item; when that dies of the same item, the item is
        given up and the others continue.

        Args:
            work: What is done with them.
            items: Anything that can be pickled.
            died: Called with the item and the cause when a process died and another takes its item.

        Yields:
            Items with their results, in the order in which they end.

        Raises:
            ValueError: What is sent to other processes cannot be.
        """
        raise NotImplementedError

    def close(self, at_once: bool = False) -> None:
        """Ends what the pool began; `at_once` if this process has no time for more."""

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(at_once=ends_at_once(kind))


class Serial(Pool):
    """Works on items in this process, one after another."""

    alone = True

    def run(self, work: Work, items: Sequence[Any], died: Told) -> Iterator[tuple[Any, Any]]:
        """Works on items, see `Pool.run`."""
        return ((item, work.here(item)) for item in items)


class Processes(Pool):
    """Works on items in processes of this machine.

    Args:
        count: How many at most.
    """

    def __init__(self, count: int) -> None:
        self._count = count

    def run(self, work: Work, items: Sequence[Any], died: Told) -> Iterator[tuple[Any, Any]]:
        """Works on items, see `Pool.run`."""
        serve = partial(_serve, work.serve, work.failed)
        return processes.run(self._count, serve, items, died, work.lost)


def _serve(
    serve: Callable[[], Callable[[Any], Any]], failed: Callable[[Any, Exception], Any]
) -> Callable[[Any], Any]:
    """Returns what `serve` does; where it raises, each item fails of that."""
    try:
        return serve()
    except Exception as error:  # such as a data set that has vanished meanwhile
        return partial(_fail, failed, error)


def _fail(failed: Callable[[Any, Exception], Any], error: Exception, item: Any) -> Any:
    return failed(item, error)


def on_this_machine(num_workers: int) -> Pool:
    """Returns the pool of so many processes; this one works if there is no other."""
    return Serial() if num_workers == 1 else Processes(num_workers)
