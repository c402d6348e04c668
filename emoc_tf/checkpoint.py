"""Files that are either whole or not there: written aside, flushed to disk, then renamed."""

import io
import os
import zipfile
from pathlib import Path

import numpy as np


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file atomically: a reader sees the old content or the new one, nothing between."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(aside, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Writes a UTF-8 text file atomically."""
    write_bytes(path, content.encode())


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays atomically as `.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote; nothing in the file is executed.

    Raises:
        ValueError: The file is no `.npz` of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(
            f"{path}: expected a .npz file of arrays, got one that fails: {error}"
        ) from error
