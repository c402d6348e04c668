"""How long another process is waited for: as long as it writes something."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from emoc_tf.storage.locks import FolderLock

# Seconds without a change in a folder after which the process that has it counts as stuck; an
# update step or a pretraining of a large model takes minutes.
LIMIT = 3600.0
PAUSE = 1.0


def stuck(lock: FolderLock, folder: Path) -> str | None:
    """Returns in a sentence that a folder's owner is stuck; None if it is not."""
    if time.time() - _last_change(folder) <= LIMIT:
        return None
    return (
        f"{lock.owner()} has {folder} and has written nothing into it for {LIMIT:.0f} s; end that "
        f"process"
    )


@contextlib.contextmanager
def held(lock: FolderLock, folder: Path) -> Iterator[None]:
    """Waits until a folder's lock is free and holds it.

    Raises:
        ValueError: Its owner is stuck.
    """
    while not lock.acquire():
        if sentence := stuck(lock, folder):
            raise ValueError(sentence)
        time.sleep(min(PAUSE, 0.2))
    try:
        yield
    finally:
        lock.release()


def _last_change(folder: Path) -> float:
    """Returns when a file of a folder was last written, in seconds since 1970."""
    times = [0.0]
    for file in [folder, *folder.glob("*"), *folder.glob(".*")]:
        try:
            times.append(file.stat().st_mtime)
        except FileNotFoundError:  # renamed meanwhile
            continue
    return max(times)
