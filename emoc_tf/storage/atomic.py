"""Files that are either whole or not there: written aside, flushed to disk, then renamed."""

import os
from pathlib import Path


def write_bytes(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Writes a file atomically: a reader sees the old content or the new one, nothing between.

    Args:
        path: Where to.
        content: What.
        previous: Where the old file is kept; None replaces it. Killed between the two renamings,
            the process leaves the old file there and none at `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        aside.unlink(missing_ok=True)
        with open(aside, "xb") as file:  # a file of its own, wherever a link may point
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if previous is not None and path.exists():
            os.replace(path, previous)
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    _flush_names(path.parent)


def _flush_names(folder: Path) -> None:
    """Brings the names in a folder to disk, so that a renaming outlives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, content: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, content.encode())


def remove_asides(folder: Path) -> None:
    """Removes what a killed process left half written; for a folder that nobody else writes to."""
    for aside in folder.glob(".*.*.[0-9]*"):
        aside.unlink(missing_ok=True)
