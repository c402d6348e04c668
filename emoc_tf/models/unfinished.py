"""An array that is computed into a file for long: what an interrupted process did is taken up.

It lies in `.NAME.part`, which one process at a time has, and gets its name when it is whole. Beside
it `.NAME.part.rows` tells how many of its first rows were computed and brought to the disk.
"""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from emoc_tf.storage import atomic
from emoc_tf.storage.system_locks import lock

SECONDS = 10  # between two notes of how far it has come: what a killed process may lose


class Unfinished:
    """The array while it is computed.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, path: Path, alone: bool) -> None:
        """Only for `unfinished`."""
        self.path = path
        self._rows_file = path.with_name(f"{path.name}.rows") if alone else None
        self._array: np.memmap | None = None
        self._goes_on = False
        self._whole, self._ready = 0, dict[int, int]()  # first rows, and parts behind them
        self._noted, self._at = 0, time.monotonic()

    def begin(self, count: int, batch: int, first: Callable[[], np.ndarray]) -> int:
        """Returns at which row to begin, the first of a batch; there is always one.

        Args:
            count: Rows in the end.
            batch: Rows that are computed together.
            first: Computes those of the first batch: what lies there counts if it gives its bits.
        """
        there = None if self._told() < batch else opened(self.path)
        if there is not None:
            now = first()
            fits = there.shape == (count, *now.shape[1:]) and there.dtype == now.dtype
            self._goes_on = fits and np.array_equal(there[: len(now)], now)
        if self._goes_on:
            self._whole = self._noted = min(self._told(), count - 1) // batch * batch
        return self._whole

    def room(self, shape: tuple[int, ...], dtype: np.dtype) -> np.memmap:
        """Returns the array, to be written into."""
        if self._goes_on:
            self._array = np.load(self.path, mmap_mode="r+")
            return self._array
        self._forget()
        self._array = np.lib.format.open_memmap(self.path, "w+", dtype, shape)
        with open(self.path, "r+b") as file:
            reserve(file.fileno())
        return self._array

    def add(self, start: int, stop: int) -> None:
        """Takes note that some rows are there; parts may come in any order."""
        self._ready[start] = stop
        while self._whole in self._ready:
            self._whole = self._ready.pop(self._whole)
        if time.monotonic() - self._at > SECONDS:
            self.note()

    def note(self) -> bool:
        """Brings the rows that are there to the disk; returns whether any are of use later."""
        if self._rows_file is None:
            return False
        if self._array is None:  # what was there before is as it was
            return self._told() > 0 and opened(self.path) is not None
        if self._whole > self._noted:
            self._array.flush()
            # On a full disk less is taken up later; the array itself has its room already.
            with contextlib.suppress(OSError):
                atomic.write_text(self._rows_file, f"{self._whole}\n")
                self._noted = self._whole
        self._at = time.monotonic()
        return self._noted > 0

    def finish(self, file: Path) -> None:
        """Gives the array its name."""
        if self._array is not None:
            self._array.flush()
        os.replace(self.path, file)
        self._forget()

    def remove(self) -> None:
        """Removes all of it."""
        self.path.unlink(missing_ok=True)
        self._forget()

    def _told(self) -> int:
        try:
            return int(self._rows_file.read_text()) if self._rows_file else 0
        except (OSError, ValueError):
            return 0

    def _forget(self) -> None:
        if self._rows_file is not None:
            self._rows_file.unlink(missing_ok=True)


@contextlib.contextmanager
def unfinished(file: Path) -> Iterator[Unfinished]:
    """Gives what is to become a file, for as long as it is computed.

    If that is interrupted what was computed stays. Where another process is at the same file, it
    is another user's, or the file system has no locks, it is one of this process alone, of which
    nothing stays.

    Args:
        file: Its name in the end.

    Raises:
        OSError: There is no room.
    """
    path = file.with_name(f".{file.name}.part")
    with contextlib.ExitStack() as held:
        alone = False
        with contextlib.suppress(OSError):  # such as of another user's
            part = held.enter_context(open(path, "ab"))
            alone = _is_taken(path, part.fileno())
        if not alone:
            path = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
            held.enter_context(atomic.held(path))
        found = Unfinished(path, alone)
        try:
            yield found
        except BaseException:
            stays = False
            with contextlib.suppress(OSError):  # such as of a disk that fails
                stays = found.note()
            if not stays:
                found.remove()
            raise


def _is_taken(path: Path, descriptor: int) -> bool:
    """Locks an open file for this process; returns whether it has it, in its place."""
    try:
        # It may have got its name, or have been removed, meanwhile.
        return lock(descriptor) and _is_at(path, descriptor)
    except OSError:
        if not os.fstat(descriptor).st_size:  # else somebody is at it who has locks
            path.unlink(missing_ok=True)
        return False


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def left_over(folder: Path, names: str) -> list[Path]:
    """Returns unfinished files of some names, as a pattern, that no process is at."""
    return [path for path in folder.glob(f".{names}.part") if not atomic.is_held(path)]


def opened(file: Path) -> np.ndarray | None:
    """Returns the array that lies in a file, None if it is damaged or not there."""
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None


def reserve(file: int) -> None:
    """Takes the room of a file now; raises `OSError` where there is none.

    A mapped page for which none is found later ends the process, by a signal and without a word.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file, 0, os.fstat(file).st_size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise
