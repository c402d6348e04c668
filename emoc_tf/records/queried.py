"""Which images a run asked about and what was said of them: `queried.csv`, and the journal's file.

All of it is derived from the journal, which a checkpoint holds, so that the files are made again
whenever a run is resumed.
"""

import csv
import io
import itertools
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from emoc_tf.exploration.answers import REJECT, SKIP
from emoc_tf.exploration.episode import Episode
from emoc_tf.exploration.journal import Book, Entry
from emoc_tf.exploration.loop import Exploration
from emoc_tf.exploration.whereabouts import Gone
from emoc_tf.records.sinks import Row, Table
from emoc_tf.storage import atomic
from emoc_tf.storage.csv_files import unreadable

QUERIED, JOURNAL, IMAGES = "queried.csv", "journal.jsonl", "images.csv"
QUERIED_COLUMNS = (
    "step", "chosen_set", "image", "data_index", "path", "kind", "answer", "class_id",
    "class_name", "guess_id", "guess_name", "taken_back", "entry",
)  # fmt: skip
IMAGE_COLUMNS = ("image", "path", "sha256", "answer", "label")
# Entries that say what images show, by what `queried.csv` calls them.
_KINDS = {"answer": "query", "audit": "audit", "correct": "correction"}
# Entries after which lines that are written already say something else.
_REWRITING = ("undo", "rename", "merge")
# An entry that nobody said.
_LEARN = "learn"


@dataclass(frozen=True)
class _Said:
    """A class that was named, while its id could still come to mean another one.

    The id of a class that is taken back goes to the next new class.
    """

    class_id: int
    name: str
    born: int | None  # the entry that brought the class; None if it was there at the start


class AnswerRows:
    """The lines of `queried.csv`: one for each image of each entry that says what it shows.

    Args:
        episode: Whose journal it is.
        gone: Images that are not there any more, see `Exploration.gone`.
        paths: Where their files were last, by what they are recognised by.
    """

    def __init__(
        self, episode: Episode, gone: Sequence[Gone] = (), paths: Mapping[str, str] | None = None
    ) -> None:
        self._episode = episode
        names, known = episode.task.class_names, episode.classes[: episode.num_known]
        self._count = len(episode.task.labels)
        start = np.array([image.start for image in gone], np.int64)
        self._book = Book(np.append(episode.task.labels, start), names, known, self._count)
        # In a store images keep their places when their files are gone.
        self._away = frozenset(getattr(episode.task.images, "gone", ()))
        self._gone_paths = [(paths or {}).get(image.image_id) for image in gone]
        self._born: dict[int, int] = {}
        self._drafts: list[tuple[Row, _Said | None, _Said | None]] = []

    @property
    def num_entries(self) -> int:
        """How many entries were entered."""
        return len(self._book.entries)

    def enter(self, entry: Entry) -> None:
        """Takes the next entry of the journal."""
        number, known_before = self.num_entries, set(self._book.known)
        names_before = list(self._book.class_names)
        self._book.enter(entry)
        for class_id, name in enumerate(entry.new_classes, entry.first_class or 0):
            if names_before[class_id : class_id + 1] != [name]:  # else the entry before brought it
                self._born[class_id] = number
        if entry.kind not in _KINDS:
            return
        for place, (index, label) in enumerate(zip(entry.indices, entry.labels, strict=True)):
            said = guess = None
            if label >= 0:
                said = self._said(label, self._book.class_names)
            if entry.guesses and 0 <= entry.guesses[place] < len(names_before):
                guess = self._said(entry.guesses[place], names_before)
            row = {
                "step": entry.step,
                "chosen_set": entry.choice,
                "image": index if self._is_there(index) else None,
                "path": self._path(index),
                "kind": _KINDS[entry.kind],
                "answer": _answer(label, known_before),
                "entry": number,
            }
            if self._episode.source_indices is not None:
                row["data_index"] = int(self._episode.source_indices[index])
            self._drafts.append((row, said, guess))

    def _is_there(self, index: int) -> bool:
        return index < self._count and index not in self._away

    def _path(self, index: int) -> str | None:
        there = index < self._count
        return self._episode.path(index) if there else self._gone_paths[index - self._count]

    def line(self, entry: Entry) -> str:
        """Returns the line of `journal.jsonl` of an entry.

        `gone` tells, by index, the files of images that are not there any more.
        """
        told = entry.to_dict()
        if gone := {str(i): self._path(i) for i in entry.indices if not self._is_there(i)}:
            told["gone"] = gone
        return json.dumps(told, ensure_ascii=False) + "\n"

    def _said(self, class_id: int, names: list[str]) -> _Said:
        return _Said(class_id, names[class_id], self._born.get(class_id))

    def rows(self, start: int = 0) -> list[Row]:
        """Returns the lines as they are now, from a number on."""
        undone = {number for e in self._book.entries if e.kind == "undo" for number in e.of}
        rows = []
        for row, said, guess in self._drafts[start:]:
            told = {**row, "taken_back": int(row["entry"] in undone)}
            told["class_id"], told["class_name"] = self._now(said, undone)
            told["guess_id"], told["guess_name"] = self._now(guess, undone)
            rows.append(told)
        return rows

    def __len__(self) -> int:
        return len(self._drafts)

    def _now(self, said: _Said | None, undone: set[int]) -> tuple[int | None, str | None]:
        """Returns the id and the name that a class has now, or those of then if it is no more."""
        if said is None:
            return None, None
        if said.born in undone or self._born.get(said.class_id) != said.born:
            return said.class_id, said.name
        class_id = self._book.resolve(said.class_id)
        return class_id, self._book.class_names[class_id]

    def images(self) -> list[Row]:
        """Returns the lines of `images.csv`: files, and labels that the task came with.

        Classes have the names of now. An image without a file and a label has no line.
        """
        images, labels = self._episode.task.images, self._episode.task.labels
        paths, hashes = getattr(images, "paths", None), getattr(images, "sha256", None)
        rows: list[Row] = []
        for index, label in enumerate(labels.tolist()):
            if paths is None and label == SKIP:
                continue
            row: dict[str, object] = {
                "image": index if self._is_there(index) else None,
                "answer": {SKIP: "", REJECT: "reject"}.get(label, "class"),
            }
            if paths is not None:
                row["path"] = paths[index]
            if hashes is not None:
                row["sha256"] = hashes[index]
            if label >= 0:
                row["label"] = self._book.class_names[self._book.resolve(label)]
            rows.append(row)
        return rows


def _answer(label: int, known: set[int]) -> str:
    if label in (SKIP, REJECT):
        return "skip" if label == SKIP else "reject"
    return "class" if label in known else "new class"


class AnswerFiles:
    """Files of a run folder that tell what was asked and said.

    `queried.csv` has a line for each image that was asked about, in order; it is equal byte for
    byte for equal seeds. In runs of a task `journal.jsonl` has the journal, an entry a line, and
    `images.csv` the files and labels that the task came with. What was said of images that are not
    there any more stays, with their last paths: in `queried.csv` and `images.csv` they have no
    index, in the journal indices that no image has, and the key `gone`.

    Args:
        folder: Of the run.
        exploration: Whose journal it is; there is an episode.
    """

    def __init__(self, folder: Path, exploration: Exploration) -> None:
        self._folder, self._exploration = folder, exploration
        self._table = Table(folder / QUERIED, QUERIED_COLUMNS)
        self._kept = self._lines_of_gone()
        self._keep_longer_journal()
        self.begin()

    def begin(self) -> None:
        """Writes all files anew, each whole or not at all."""
        self._is_whole = False
        self._episode = self._exploration.episode
        paths = {row["sha256"][:32]: row["path"] for row in self._kept}
        self._rows = AnswerRows(self._episode, self._exploration.gone, paths)
        for entry in self._exploration.journal:
            self._rows.enter(entry)
        self._rewrite()
        if self._is_task:
            lines = map(self._rows.line, self._exploration.journal)
            atomic.write_text(self._folder / JOURNAL, "".join(lines))
        self._is_whole = True

    def _keep_longer_journal(self) -> None:
        """Keeps a journal that tells more than the checkpoint: it is about to be written over.

        So it is where the newest checkpoint was damaged, or a process ended before it was written.
        """
        exploration, file = self._exploration, self._folder / JOURNAL
        if not self._is_task or not file.exists():
            return
        text = file.read_text(encoding="utf-8", errors="replace")
        written = sum(f'"kind": "{_LEARN}"' not in line for line in text.split("\n")[:-1])
        unlearnt = [q for q in (exploration.query, *exploration.queries) if q is not None]
        known = sum(entry.kind != _LEARN for entry in exploration.journal)
        known += sum(query.classes is not None for query in unlearnt)
        if written <= known:
            return
        names = (f"journal.kept-{number}.jsonl" for number in itertools.count(1))
        kept = next(path for name in names if not (path := self._folder / name).exists())
        os.replace(file, kept)
        warnings.warn(
            f"{file}: {written - known} of its entries are not in the checkpoint, which was "
            f"damaged or not written any more, and do not count; {kept.name} keeps them",
            stacklevel=4,
        )

    def _lines_of_gone(self) -> list[dict[str, str]]:
        """Returns the lines of `images.csv` of images that are not there any more."""
        task, file = self._exploration.task, self._folder / IMAGES
        hashes = None if task is None else getattr(task.images, "sha256", None)
        if hashes is None or not file.exists():
            return []
        there = set(hashes)
        try:
            lines = read_texts(file, IMAGE_COLUMNS)
        except ValueError as error:
            kept = file.with_name(f"{file.name}.broken")
            os.replace(file, kept)
            warnings.warn(f"{error}; it is kept as {kept.name}, and made again", stacklevel=4)
            return []
        return [{**line, "image": ""} for line in lines if line["sha256"] not in there]

    def write(self) -> None:
        """Brings the files up to date after a step, an answer, a correction or an undoing.

        Where it failed, as on a full disk, the next call writes them anew.
        """
        if self._exploration.episode is not self._episode or not self._is_whole:
            self.begin()
            return
        self._is_whole = False
        new = self._exploration.journal[self._rows.num_entries :]
        written = len(self._rows)
        for entry in new:
            self._rows.enter(entry)
        if self._is_task:
            with open(self._folder / JOURNAL, "a", encoding="utf-8") as file:
                file.writelines(map(self._rows.line, new))
        if any(entry.kind in _REWRITING for entry in new):
            self._rewrite()
        else:
            for row in self._rows.rows(written):
                self._table.write(row)
        self._is_whole = True

    @property
    def _is_task(self) -> bool:
        return self._exploration.task is not None

    def _rewrite(self) -> None:
        self._table.begin(self._rows.rows())
        if self._is_task:
            rows = [*self._rows.images(), *self._kept]
            Table(self._folder / IMAGES, IMAGE_COLUMNS).begin(rows)


def read_texts(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Returns the lines of a CSV file as `AnswerFiles` writes it, text by column.

    A last line without its newline was cut short and is none.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds anything else.
    """
    try:
        text = file.read_bytes().decode("utf-8")
        rows = list(csv.reader(io.StringIO(text, newline="")))
        if not text.endswith("\n"):
            rows = rows[:-1]
        if not rows or tuple(rows[0]) != columns:
            raise ValueError(f"columns {rows[0] if rows else 'that are missing'}")
        return [dict(zip(columns, row, strict=True)) for row in rows[1:]]
    except (ValueError, csv.Error) as error:
        raise unreadable(file, f"columns {list(columns)}", f"a file that fails: {error}") from None
