"""Labels as lists: CSV and JSON Lines, an image a line."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoc_tf.records.labels import LabelledImage, RunLabels
from emoc_tf.records.placing import Pictures, check_new
from emoc_tf.storage import atomic, csv_files

# What `ImageFolder` reads comes first.
LIST_COLUMNS = (
    "path", "label", "sha256", "image", "data_index", "kind", "answer", "step", "chosen_set",
    "guess", "time",
)  # fmt: skip


def write_csv(labels: RunLabels, pictures: Pictures, output: Path) -> None:
    """Writes a CSV file; `ImageFolder` and spreadsheets read it."""
    write_rows(rows(labels.labelled, pictures, output), LIST_COLUMNS, output, "csv")


def write_jsonl(labels: RunLabels, pictures: Pictures, output: Path) -> None:
    """Writes JSON Lines; `ImageFolder` reads them."""
    write_rows(rows(labels.labelled, pictures, output), LIST_COLUMNS, output, "jsonl")


def rows(images: Sequence[LabelledImage], pictures: Pictures, output: Path) -> list[dict[str, Any]]:
    """Returns a line for each image, for a file at `output`."""
    return [
        {name: getattr(each, name) for name in LIST_COLUMNS}
        | {"path": path_in_list(each.path, each.index, pictures.folder, output)}
        for each in images
    ]


def path_in_list(path: str | None, index: int, folder: Path | None, output: Path) -> str:
    """Returns how a list names an image.

    Args:
        path: Of its file, relative to the folder of images; None if it comes from no file.
        index: Takes the place of the path then.
        folder: Of images, if it is known.
        output: The list. In the folder of images paths are relative to it, elsewhere absolute;
            where there is no such folder any more they stay as they were in it.
    """
    if path is None:
        return str(index)
    if folder is None or not folder.is_dir():
        return path
    absolute, beside = os.path.abspath(folder / path), os.path.abspath(output.parent)
    inside = os.path.commonpath([os.path.abspath(folder), beside]) == os.path.abspath(folder)
    return Path(os.path.relpath(absolute, beside) if inside else absolute).as_posix()


def write_rows(
    lines: Sequence[Mapping[str, Any]], columns: Sequence[str], output: Path, ending: str
) -> None:
    """Writes lines as a CSV or a JSON Lines file, whole or not at all.

    Args:
        lines: By column.
        columns: In their order.
        output: Where to; there is nothing yet.
        ending: `csv` or `jsonl`.
    """
    check_new(output)
    if ending == "csv":
        cells = [[line[name] for name in columns] for line in lines]
        text = csv_files.text([columns, *cells])
    else:
        chosen = ({name: line[name] for name in columns} for line in lines)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in chosen)
    atomic.write_text(output, text)
