"""Files that are either whole or not there: written aside, flushed to disk, then renamed."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from emoc_tf.storage.system_locks import lock

# Files are written aside under a name of their own, so that threads and machines never share one.
_ASIDE = re.compile(r"\..+\.\d+(-[0-9a-f]{8})?")


def write_bytes(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Writes a file atomically: a reader sees the old content or the new one, nothing between.

    On Windows, where an open file cannot be renamed, it is closed before. Its lock ends then, so
    that `remove_asides` of another process could remove it in between, which is an error here.

    Args:
        path: Where to.
        content: What.
        previous: Where the old file is kept; None replaces it. Killed between the two renamings,
            the process leaves the old file there and none at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(aside, "xb") as file:  # a file of its own, wherever a link may point
            # Held until the file has its name, or the process ends: see `remove_asides`.
            with contextlib.suppress(OSError):  # not every file system has locks
                lock(file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if os.name != "nt":
                _give_name(aside, path, previous)
        if os.name == "nt":
            _give_name(aside, path, previous)
    finally:
        aside.unlink(missing_ok=True)
    _flush_names(path.parent)


def _give_name(aside: Path, path: Path, previous: Path | None) -> None:
    if previous is not None:
        with contextlib.suppress(FileNotFoundError):  # there is none yet
            os.replace(path, previous)
    os.replace(aside, path)


def _flush_names(folder: Path) -> None:
    """Brings the names in a folder to disk, so that a renaming outlives a power cut."""
    if os.name == "nt":  # where folders cannot be opened
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, content: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, content.encode())


@contextlib.contextmanager
def held(file: Path) -> Iterator[None]:
    """Keeps an empty file for the time; named as others are aside, killed processes' are removed.

    Raises:
        OSError: It cannot be made.
    """
    opened = open(file, "xb")  # noqa: SIM115
    try:
        with opened:
            with contextlib.suppress(OSError):  # not every file system has locks
                lock(opened.fileno())
            yield
    finally:
        file.unlink(missing_ok=True)


def remove_asides(folder: Path) -> None:
    """Removes what killed processes left half written, and nothing that is being written."""
    for aside in folder.glob(".*"):
        if not _ASIDE.fullmatch(aside.name):
            continue
        if aside.is_symlink() or not is_held(aside):
            aside.unlink(missing_ok=True)


def is_held(file: Path) -> bool:
    """Returns whether a process has a lock on a file."""
    try:
        with open(file, "rb") as opened:
            return not lock(opened.fileno(), shared=True)
    except OSError:  # gone meanwhile, or on a file system without locks
        return False
