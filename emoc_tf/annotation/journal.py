"""The journal of what people say: one JSON object a line, on the disk before anybody is told."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

FILE = "answers.jsonl"


class NotSavedError(OSError):
    """Nothing was written, such as on a full disk; the text says why."""


class Journal:
    """A file that lines are only ever added to.

    A line counts once it is on the disk with its newline. What a killed process left behind the
    last newline was never told to anybody as saved: it is dropped when the file is opened. A line
    that cannot be written whole is taken off again.

    Args:
        path: Of the file; made if it is not there.
        write: Writes bytes to a descriptor, as `os.write`; tests hand in a disk that is full.

    Attributes:
        entries: What the lines say, in order.
        dropped: Bytes behind the last whole line that were dropped.

    Raises:
        ValueError: A line says nothing that can be read.
    """

    def __init__(self, path: Path, write: Callable[[int, Any], int] = os.write) -> None:
        self.path, self._write = path, write
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        content = path.read_bytes()
        self._size = content.rfind(b"\n") + 1
        self.dropped = len(content) - self._size
        self.entries = read(path, content[: self._size])
        self._is_clean = not self.dropped
        if is_new:
            _flush_folder(path.parent)

    def append(self, entry: Mapping[str, Any]) -> int:
        """Writes an entry to the disk; returns its number, from 0.

        Raises:
            NotSavedError: It could not be written; nothing of it is left.
        """
        line = json.dumps(entry, ensure_ascii=False).encode() + b"\n"
        try:
            self._clean()
            self._is_clean, left = False, memoryview(line)
            while left:
                left = left[self._write(self._descriptor, left) :]
            os.fsync(self._descriptor)
        except OSError as error:
            with contextlib.suppress(OSError):  # it is tried again before the next line
                self._clean()
            raise NotSavedError(error.errno, f"not saved: {error.strerror or error}") from error
        self._size += len(line)
        self._is_clean = True
        self.entries.append(json.loads(line))
        return len(self.entries) - 1

    def _clean(self) -> None:
        """Takes off what lies behind the last whole line."""
        if not self._is_clean:
            os.ftruncate(self._descriptor, self._size)
            os.fsync(self._descriptor)
            self._is_clean = True

    def close(self) -> None:
        """Closes the file."""
        os.close(self._descriptor)


class Follower:
    """Reads a journal that another process writes, as far as that one says it is safe.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._offset, self._count = path, 0, 0

    def read(self, most: int) -> list[dict[str, Any]]:
        """Returns the entries that have come since, up to a number of lines in all.

        Lines behind them may be taken off again. Raises `ValueError` as `read` does.
        """
        with open(self._path, "rb") as file:
            file.seek(self._offset)
            lines = [file.readline() for _ in range(most - self._count)]
        entries = read(self._path, b"".join(lines), self._count)
        self._offset += sum(map(len, lines))
        self._count += len(entries)
        return entries


def read(path: Path, content: bytes, before: int = 0) -> list[dict[str, Any]]:
    """Returns the entries of a journal; what lies behind the last newline is none.

    Args:
        path: Of the file, for errors.
        content: Of it.
        before: How many lines lie before.

    Raises:
        ValueError: A line says nothing that can be read.
    """
    lines = content.split(b"\n")[:-1]
    entries = []
    for number, line in enumerate(lines, before + 1):
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if not isinstance(entry, dict) or not isinstance(entry.get("kind"), str):
            raise ValueError(
                f"{path}, line {number}: expected a JSON object with a kind, got {line[:80]!r}; "
                f"the file was changed by another program: put a copy of it back"
            )
        entries.append(entry)
    return entries


def _flush_folder(folder: Path) -> None:
    """Brings the new file's name to the disk."""
    if os.name != "nt":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
