"""Exclusive use of a folder by one process."""

import contextlib
import datetime
import json
import os
import platform
import time
from pathlib import Path
from types import TracebackType

from emoc_tf.storage.system_locks import NO_LINK, lock

NAME = ".lock"


class FolderLock:
    """A lock that the system gives up when its process ends, however it ends.

    The file `.lock` tells the owner; what holds is the system's lock on it (`flock`), so that a
    dead owner's file is no hindrance.

    Args:
        folder: Made if it is not there.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / NAME
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Takes the lock if nobody has it; returns whether it was taken."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            # No link is followed: nothing outside the folder is written to.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | NO_LINK, 0o644)
            if not lock(descriptor):
                owned = _is_owned(descriptor)
                os.close(descriptor)
                if owned:
                    return False
                time.sleep(0.001)  # somebody is only asking, see `held_elsewhere`
                continue
            if self._is_current(descriptor):
                break
            os.close(descriptor)  # the owner before removed the file meanwhile
        self._descriptor = descriptor
        since = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        owner = {"pid": os.getpid(), "host": platform.node(), "since": since}
        with contextlib.suppress(OSError):  # on a full disk the lock holds without its owner's name
            os.truncate(descriptor, 0)
            os.write(descriptor, json.dumps(owner).encode())
        return True

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Gives the lock up; nothing happens if it is not held."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            try:
                self._path.unlink(missing_ok=True)  # before unlocking: nobody else's is removed
            except PermissionError:  # Windows removes no open file; a free lock's is no hindrance
                pass
            finally:
                os.close(descriptor)

    def held_elsewhere(self) -> bool:
        """Returns whether somebody else has the lock at this moment; nothing is written."""
        if self._descriptor is not None:
            return False
        try:
            descriptor = os.open(self._path, os.O_RDONLY | NO_LINK)
        except FileNotFoundError:
            return False
        try:
            return _is_owned(descriptor)
        finally:
            os.close(descriptor)

    def owner(self) -> str:
        """Returns who has the lock and since when, as far as the file tells."""
        try:
            found = json.loads(self._path.read_text(encoding="utf-8"))
            return f"process {found['pid']} on {found['host']} since {found['since']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"

    def __enter__(self) -> "FolderLock":
        """Waits until the lock is free and takes it."""
        while not self.acquire():
            time.sleep(0.2)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def _is_owned(descriptor: int) -> bool:
    """Returns whether another one has an open lock file's lock.

    To ask is to share the lock for a moment, which keeps nobody out: owners have it alone.
    """
    return not lock(descriptor, shared=True)
