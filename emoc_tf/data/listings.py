"""Which files a folder or a list of images names, and with which labels; none is opened here."""

import csv
import io
import json
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

# Subfolders and labels of what nobody has labelled.
UNLABELLED = ("unlabelled", "unlabeled")
_NAMES = ("path", "label")  # of the columns or keys of a list
_NO_CLASS = ("", "-1", "-1.0")
_MISSING = ("nan", "NaN")  # as programs write it
# A file that marks a folder of decoded images, which is no class.
STORE_MARK = "emoc_store.json"
# A file that marks a folder of copies of images, such as an export: it may lie in their folder.
COPIES_MARK = ".emoc_copies"
# What systems leave behind, beside all that begins with a dot.
_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin")


class Listed(NamedTuple):
    """A file that may be an image.

    Attributes:
        path: Relative to the root, with `/` between folders.
        label: The name of its class; None where unknown.
    """

    path: str
    label: str | None


class LeftOut(NamedTuple):
    """A file that is not taken.

    Attributes:
        path: Relative to the root, with `/` between folders.
        reason: Why, in words.
    """

    path: str
    reason: str


def list_images(path: str | os.PathLike) -> tuple[Path, list[Listed], list[LeftOut]]:
    """Lists what may be images, sorted by path, and what is left out already.

    Args:
        path: A folder, or a CSV or JSON Lines file of paths and labels.

    Returns:
        The root that the paths are relative to, the files, and those left out. Of labels that
        differ in their Unicode form alone the first by path stands for all.

    Raises:
        ValueError: There is nothing at `path`, or the list cannot be understood.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"path: expected a path, got {path!r:.80}")
    root = Path(os.path.abspath(os.path.expanduser(path)))
    left_out: list[LeftOut] = []
    if root.is_dir():
        found = _folder(root, left_out)
    elif root.is_file():
        root, found = root.parent, _list(root)
    else:
        raise ValueError(
            f"path: expected a folder of images, or a CSV or JSON Lines file of paths and labels, "
            f"got {str(path)!r}, which is not there"
        )
    names: dict[str, str] = {}
    found = [
        Listed(file, None if label is None else names.setdefault(comparable(label), label))
        for file, label in sorted(found, key=lambda listed: listed.path)
    ]
    return root, found, left_out


def comparable(name: str) -> str:
    """Returns what names are compared by: composed and decomposed letters are the same (NFC)."""
    return unicodedata.normalize("NFC", name)


def is_hidden(name: str) -> bool:
    """Returns whether a file or folder is passed over for its name."""
    return name.startswith(".") or name.casefold() in _SYSTEM


def mark_copies(folder: Path) -> None:
    """Marks a folder of copies, which is read where it is named and not as a part of another."""
    (folder / COPIES_MARK).touch()


def class_ids(labels: Sequence[str | None]) -> tuple[tuple[str, ...], np.ndarray]:
    """Returns the names of the classes, sorted, and each image's class id, −1 where unknown."""
    names: dict[str, str] = {}
    for label in labels:
        if label is not None:
            names.setdefault(comparable(label), label)
    order = {form: i for i, form in enumerate(sorted(names))}
    found = [-1 if label is None else order[comparable(label)] for label in labels]
    ids = np.array(found, np.int64)
    ids.flags.writeable = False
    return tuple(names[form] for form in order), ids


def table(left_out: Iterable[LeftOut]) -> str:
    """Returns a line a file that is left out: its path and why."""
    rows = [(_printable(path), reason) for path, reason in left_out]
    width = max((len(path) for path, _ in rows), default=0)
    return "\n".join(f"{path:{width}}  {reason}" for path, reason in rows)


def _printable(text: str) -> str:
    """Returns text with what no terminal can show escaped."""
    shown = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in shown)


def _folder(root: Path, left_out: list[LeftOut]) -> list[Listed]:
    found = []

    def unreadable(error: OSError) -> None:
        inside = os.path.relpath(error.filename, root)
        left_out.append(LeftOut(inside, f"cannot be read: {error.strerror}"))

    real = os.path.realpath(root)
    for folder, folders, files in os.walk(root, onerror=unreadable):
        if STORE_MARK in files:
            folders.clear()
            continue
        inside = Path(folder).relative_to(root)
        if COPIES_MARK in files and inside.parts:
            folders.clear()
            left_out.append(LeftOut(inside.as_posix(), "copies, written by emoc_tf: read alone"))
            continue
        folders[:] = [name for name in folders if not is_hidden(name)]
        linked = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*linked, *(name for name in files if not is_hidden(name))]:
            file = os.path.join(folder, name)
            path = (inside / name).as_posix()
            if not _is_text(path):
                left_out.append(LeftOut(path, "its name is no UTF-8: rename it"))
            elif os.path.islink(file) and not _lies_in(file, real):
                left_out.append(
                    LeftOut(path, "a link out of the folder: copy the file, or name it in a list")
                )
            elif name in linked:
                left_out.append(LeftOut(path, "a link to a folder, which is read where it lies"))
            else:
                first = inside.parts[0] if inside.parts else None
                known = first is not None and first.casefold() not in UNLABELLED
                found.append(Listed(path, first if known else None))
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _lies_in(file: str, root: str) -> bool:
    try:
        return os.path.commonpath([os.path.realpath(file), root]) == root
    except (OSError, ValueError):
        return False


def _list(file: Path) -> list[Listed]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(
            f"{file}: expected UTF-8 text, got other bytes; save it as UTF-8"
        ) from None
    lines = re.split(r"\r\n|\r|\n", text)  # JSON may hold what else ends a line
    first = next((line for line in lines if line.strip()), "")
    json_lines = first.lstrip().startswith("{")
    rows = _json_rows(file, lines) if json_lines else _csv_rows(file, text, first)
    found: dict[tuple[str, str | None], Listed] = {}
    folders: dict[str, dict[str, str]] = {}
    for line, written, label in rows:
        if not isinstance(written, str) or not written.strip() or "\0" in written:
            raise ValueError(f"{file}, line {line}: expected a path, got {written!r}")
        for name, value in zip(_NAMES, (written, label), strict=True):
            if isinstance(value, str) and not _is_text(value):  # \ud800 in JSON
                raise ValueError(
                    f"{file}, line {line}: expected a {name} in UTF-8, got {value!r}; rename it"
                )
        path = _existing(file.parent, written, folders)
        listed = Listed(path, _name(label, f"{file}, line {line}"))
        found.setdefault((listed.path, listed.label and comparable(listed.label)), listed)
    return list(found.values())


def _csv_rows(file: Path, text: str, first: str) -> Iterable[tuple[int, Any, Any]]:
    # As spreadsheets of several languages write them.
    for delimiter in (",", ";", "\t"):
        cells = next(csv.reader([first], delimiter=delimiter), [])
        header = [cell.strip().casefold() for cell in cells]
        if "path" in header:
            break
    else:
        raise ValueError(
            f"{file}: expected a CSV file whose first line names the columns 'path' and 'label', "
            f"or JSON Lines with those keys, got {first[:80]!r}"
        )
    for name in _NAMES:
        if header.count(name) > 1:
            raise ValueError(
                f"{file}: expected one column {name!r}, got {header.count(name)}; rename the others"
            )
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    begun = False
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if begun:
                if any(cell.strip() for cell in row[len(header) :]):
                    raise ValueError(
                        f"{file}, line {reader.line_num}: expected {len(header)} cells as in the "
                        f"first line, got {len(row)}; quote what holds a {delimiter!r}"
                    )
                cells = dict(zip(header, row, strict=False))
                yield reader.line_num, cells.get("path"), cells.get("label")
            begun = True
    except csv.Error as error:
        raise ValueError(f"{file}, line {reader.line_num}: expected CSV, got {error}") from None


def _json_rows(file: Path, lines: list[str]) -> Iterable[tuple[int, Any, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_Pairs)
        except ValueError:
            row = None
        if not isinstance(row, _Pairs):
            raise ValueError(
                f'{file}, line {number}: expected {{"path": ..., "label": ...}}, got {line[:80]!r}'
            )
        found = {name: [v for key, v in row if key.strip().casefold() == name] for name in _NAMES}
        for name, values in found.items():
            if len(values) > 1:
                raise ValueError(
                    f"{file}, line {number}: expected one {name!r}, got {len(values)}; rename the "
                    f"others"
                )
        yield number, *(values[0] if values else None for values in found.values())


class _Pairs(list):
    """An object of JSON: of a `dict` the last of equal keys would count, without a word."""

    def __repr__(self) -> str:
        return repr(dict(self))


def _name(label: Any, place: str) -> str | None:
    """Returns the class of a label as a list has it: none where it is empty, -1 or NaN."""
    if label is None or label == -1 or (isinstance(label, float) and math.isnan(label)):
        return None
    if isinstance(label, list | dict | bool):
        raise ValueError(f"{place}: expected the name of one class as label, got {label!r}")
    name = str(int(label) if isinstance(label, float) and label.is_integer() else label).strip()
    if name in _MISSING:  # or a bread
        raise ValueError(
            f"{place}: expected the name of a class, or nothing where it is unknown, as label, got "
            f"{name!r}; leave it empty, or spell the name otherwise"
        )
    return None if name in _NO_CLASS or name.casefold() in UNLABELLED else name


def is_no_class(name: str) -> bool:
    """Returns whether a label, where it is read, is none or refused."""
    return name.casefold() in UNLABELLED or name in _NO_CLASS or name in _MISSING


def _existing(root: Path, written: str, folders: dict[str, dict[str, str]]) -> str:
    """Returns a path relative to the root, in the spelling that is there, if any is.

    Args:
        root: Where relative paths begin.
        written: The path as the list has it.
        folders: What was found to lie in folders, by comparable name; it is added to.
    """
    slashed = written.strip().replace("\\", "/")
    for spelling in (written, written.strip(), slashed):
        path = os.path.join(root, os.path.expanduser(spelling))
        if os.path.lexists(path):
            break
    else:
        # Other systems decompose letters.
        path = os.sep
        for name in Path(os.path.normpath(root / slashed)).parts[1:]:
            if not os.path.lexists(os.path.join(path, name)):
                if path not in folders:
                    inside = os.listdir(path) if os.path.isdir(path) else []
                    folders[path] = {comparable(other): other for other in inside}
                name = folders[path].get(comparable(name), name)
            path = os.path.join(path, name)
    return Path(os.path.relpath(path, root)).as_posix()
