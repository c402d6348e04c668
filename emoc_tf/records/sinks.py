"""Where the rows of a record go: CSV files and TensorBoard."""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import tensorflow as tf

from emoc_tf.storage import atomic, csv_files

# What is known after a step, by name; each sink takes what it shows.
Row = Mapping[Any, Any]


class Sink(Protocol):
    """Something that shows rows as they come."""

    def begin(self, rows: Sequence[Row]) -> None:
        """Shows these rows and no others, whatever was there."""

    def write(self, row: Row) -> None:
        """Shows one row more."""

    def close(self) -> None:
        """Ends the showing; what was shown stays."""


class Table:
    """A CSV file with a header, to which a line is appended a row.

    Args:
        path: Of the file.
        columns: Names in the rows; what a row lacks is an empty cell.
        digits: Significant digits of floats; None for all that they have.
        durable: Whether each line is brought to disk, where nothing else holds it.
    """

    def __init__(
        self,
        path: Path,
        columns: Sequence[Any],
        digits: int | None = None,
        durable: bool = False,
    ) -> None:
        self._path, self._columns = path, columns
        self._digits, self._durable = digits, durable

    def begin(self, rows: Sequence[Row]) -> None:
        """Writes the file anew, whole or not at all."""
        cells = [self._columns, *map(self._cells, rows)]
        atomic.write_text(self._path, csv_files.text(cells))

    def write(self, row: Row) -> None:
        """Appends a line."""
        with open(self._path, "a", encoding="utf-8", newline="") as file:
            file.write(csv_files.text([self._cells(row)]))
            if self._durable:
                file.flush()
                os.fsync(file.fileno())

    def close(self) -> None:
        """Nothing is kept open."""

    def _cells(self, row: Row) -> list[Any]:
        cells = [row.get(name) for name in self._columns]
        return cells if self._digits is None else csv_files.rounded(cells, self._digits)


class Board:
    """Scalars for TensorBoard, by the row's `step`.

    Args:
        folder: For its files; removed and made anew by `begin`.
        names: What TensorBoard calls each number, by its name in the rows; None values are left
            out.
    """

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._folder, self._names = folder, names
        self._writer: Any = None

    def begin(self, rows: Sequence[Row]) -> None:
        """Starts a new file of events."""
        if self._folder.is_symlink():
            self._folder.unlink()  # nothing outside is touched
        shutil.rmtree(self._folder, ignore_errors=True)
        self._writer = tf.summary.create_file_writer(str(self._folder))
        for row in rows:
            self.write(row)

    def write(self, row: Row) -> None:
        """Adds the scalars of a row."""
        with self._writer.as_default(step=row["step"]):
            for name, shown in self._names.items():
                if row.get(name) is not None:
                    tf.summary.scalar(shown, float(row[name]))
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
