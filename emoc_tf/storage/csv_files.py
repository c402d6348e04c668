"""CSV as all records and tables are written and read: one row a line, quoted where it must be."""

import csv
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def text(rows: Iterable[Sequence[Any]]) -> str:
    """Returns rows as CSV; numbers with all their digits, None as an empty cell."""
    lines: list[str] = []
    # Quoted is what holds a character of the line's end: file names may hold either of them.
    writer = csv.writer(types.SimpleNamespace(write=lines.append), lineterminator="\r\n")
    writer.writerows(rows)
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def rounded(row: Iterable[Any], digits: int = 6) -> list[Any]:
    """Returns a row with its floats as text of so many significant digits."""
    return [f"{cell:.{digits}g}" if isinstance(cell, float) else cell for cell in row]


def read_numbers(file: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the header and the rows of a CSV file of numbers, NaN where empty.

    A last line without its newline was cut short and is no record. Both are empty if there is no
    file.

    Raises:
        ValueError: It holds anything else.
    """
    try:
        content = file.read_text(encoding="utf-8") if file.exists() else ""
        lines = [line for line in content.splitlines(keepends=True) if line.endswith("\n")]
        header, *rows = list(csv.reader(lines)) or [[]]
        if any(len(row) != len(header) for row in rows):
            raise ValueError("rows of other lengths than the header")
        values = np.array([[float(cell or "nan") for cell in row] for row in rows], np.float64)
    except (ValueError, csv.Error) as error:
        raise unreadable(file, "columns of numbers", f"a file that fails: {error}") from None
    return tuple(header), values


def unreadable(file: Path, expected: str, got: str) -> ValueError:
    """Returns the error that a record is not what it should be, with the remedy."""
    return ValueError(
        f"{file}: expected {expected}, got {got}; move the run's folder away and it is run again"
    )
