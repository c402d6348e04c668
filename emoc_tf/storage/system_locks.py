"""Locks of the system on open files, which end with the process that has them."""

import os

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

# Where a link would be followed without a word.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def lock(descriptor: int, *, shared: bool = False) -> bool:
    """Locks an open file for this process at once; returns whether that could be done.

    Args:
        descriptor: Of the file.
        shared: Whether others may share the lock; otherwise it is had alone.

    Raises:
        OSError: The file system has no locks.
    """
    if fcntl is None:
        return _lock_by_portalocker(descriptor, shared)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_by_portalocker(descriptor: int, shared: bool) -> bool:
    import portalocker

    flags = portalocker.LockFlags.SHARED if shared else portalocker.LockFlags.EXCLUSIVE
    try:
        portalocker.lock(descriptor, flags | portalocker.LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        if isinstance(error.args[0] if error.args else None, BlockingIOError | PermissionError):
            return False
        raise OSError(f"no lock: {error}") from error
    return True


def cores() -> int:
    """Returns how many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows
        return os.cpu_count() or 1
