"""The journal of an episode: all that was said about images, and what the model learnt of it.

It is the source of truth. `Book` is its replay: which class each image has, which classes there
are, and which of them the model has outputs for.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from emoc_tf.exploration.answers import REJECT, SKIP

# What may be taken back.
_SAID = ("answer", "correct", "rename", "merge")


@dataclass(frozen=True)
class Entry:
    """One line of the journal.

    Attributes:
        kind: `answer` of a query, `audit` for the answer about audit images, `correct` for labels
            changed later, `rename` and `merge` of classes, `undo` of an entry, `learn` for an
            update of the model.
        step: Update steps there had been.
        indices: Pool indices of the images it is about; those from the pool's size on are of images
            that are not there any more, see `Exploration.gone`.
        labels: Class id, `SKIP` or `REJECT` of each of them.
        new_classes: Names of classes that the list lacked.
        first_class: Class id of the first of them; the others follow.
        guesses: Class id that the model had predicted for each image, `SKIP` for a class that was
            taken back since; empty if it knew none.
        choice: Index of the candidate set.
        of: Numbers of the entries that were taken back or learnt.
        name: The new name of a class.
        class_id: The class that was renamed or merged.
        into: The class that it was merged into.
        time: When, as ISO 8601 text; None in simulations, which are a function of their seed.
        pseudo_labels: How many images were learnt beside, as the model named them; None without
            that setting.
        pseudo_labels_wrong: How many of them are of another class; None where nobody knows.
    """

    kind: str
    step: int
    indices: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()
    new_classes: tuple[str, ...] = ()
    first_class: int | None = None
    guesses: tuple[int, ...] = ()
    choice: int | None = None
    of: tuple[int, ...] = ()
    name: str | None = None
    class_id: int | None = None
    into: int | None = None
    time: str | None = None
    pseudo_labels: int | None = None
    pseudo_labels_wrong: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields that say something as JSON values."""
        told = {"kind": self.kind, "step": self.step}
        for field in dataclasses.fields(self)[2:]:
            value = getattr(self, field.name)
            if value is not None and value != ():
                told[field.name] = list(value) if isinstance(value, tuple) else value
        return told

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Returns what `to_dict` was called of."""
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in told.items()})

    def of_images(self, place: Mapping[int, int]) -> Self:
        """Returns the entry for images at other indices; those that have none are left out."""
        kept = [i for i, index in enumerate(self.indices) if index in place]
        changes = {"indices": tuple(place[self.indices[i]] for i in kept)}
        for name in ("labels", "guesses"):
            values = getattr(self, name)
            changes[name] = tuple(values[i] for i in kept) if values else values
        return dataclasses.replace(self, **changes)


class Book:
    """What the journal says.

    Args:
        labels: (n,) class ids at the start, `SKIP` where unknown, `REJECT` where rejected.
        class_names: By class id.
        known: Class ids that the model has outputs for at the start, in their order.
        in_pool: How many of the images are in the pool; those behind them are not there any more,
            and a class of theirs alone has no output. None: all.

    Attributes:
        entries: The journal.
        labels: (n,) class ids now.
        class_names: Names by class id; one that was merged into another bears that one's name.
        born: Number of the entry that each class of the list came with, −1 at the start: the id of
            a class that was taken back may be given to another one.
        known: Class ids in the order of the model's outputs. A class that was found and has no
            image left, since what was said of it was taken back or corrected, is not among them.
        skipped: (n,) how often each image was skipped.
        audited: Class id, or `REJECT`, of each audit image by index; not in `labels`, since they
            are never learnt. A correction of such an image changes it here.
    """

    def __init__(
        self,
        labels: np.ndarray,
        class_names: Sequence[str],
        known: Sequence[int],
        in_pool: int | None = None,
    ) -> None:
        self._in_pool = len(labels) if in_pool is None else in_pool
        self._start = labels.astype(np.int64), tuple(class_names), tuple(known)
        self.entries: list[Entry] = []
        self._begin()

    def _begin(self) -> None:
        labels, class_names, known = self._start
        self.labels = labels.copy()
        self.class_names, self.known = list(class_names), list(known)
        self.born = [-1] * len(class_names)
        self.skipped = np.zeros(len(labels), np.int64)
        self.audited: dict[int, int] = {}
        self._audit: set[int] = set()
        self._lasting = set(known)
        self._same_as: dict[int, int] = {}

    @property
    def start(self) -> tuple[np.ndarray, tuple[str, ...], tuple[int, ...]]:
        """Labels, class names and known classes at the start."""
        return self._start

    @property
    def pool_labels(self) -> np.ndarray:
        """Class ids now of the images in the pool, (n_pool,)."""
        return self.labels[: self._in_pool]

    def resolve(self, class_id: int) -> int:
        """Returns the class that another one was merged into, over and over; else itself."""
        while class_id in self._same_as:
            class_id = self._same_as[class_id]
        return class_id

    def columns(self) -> np.ndarray:
        """Returns (n_pool,) columns of the model's output, −1 where unknown, −2 where rejected."""
        column = np.zeros(len(self.class_names), np.int64)
        column[self.known] = np.arange(len(self.known))
        labels = self.pool_labels
        if not len(column):
            return labels.copy()
        return np.where(labels >= 0, column[np.maximum(labels, 0)], labels)

    def enter(self, entry: Entry) -> None:
        """Writes an entry and does what it says."""
        before = list(self.known)
        if entry.new_classes and entry.first_class is None:
            entry = dataclasses.replace(entry, first_class=len(self.class_names))
        self.entries.append(entry)
        if entry.kind == "undo":
            self._begin()
            self._keep_ids()
            for number in self._live():
                self._apply(number)
        else:
            self._apply(len(self.entries) - 1)
        if entry.kind != "learn":
            self._drop_empty()
        # What is left keeps its place.
        if entry.kind == "merge" and entry.into not in before:
            before = [entry.into if c == entry.class_id else c for c in before]
        kept = [c for c in before if c in self.known]
        self.known = kept + [c for c in self.known if c not in kept]

    def first_names(self) -> dict[str, int]:
        """Returns class ids by the names that classes came with; renaming may have changed them."""
        names = {name: i for i, name in enumerate(self._start[1])}
        for entry in self.live():
            names |= {name: i for i, name in enumerate(entry.new_classes, entry.first_class or 0)}
        return {name: self.resolve(i) for name, i in names.items()}

    def live(self) -> list[Entry]:
        """Returns the entries that say something and were not taken back."""
        return [self.entries[number] for number in self._live()]

    def _live(self) -> list[int]:
        undone = self._undone()
        return [i for i, e in enumerate(self.entries) if e.kind != "undo" and i not in undone]

    def _undone(self) -> set[int]:
        return {number for e in self.entries if e.kind == "undo" for number in e.of}

    def last_said(self) -> int | None:
        """Returns the number of the newest entry that can be taken back; None if there is none."""
        undone = self._undone()
        said = [i for i, e in enumerate(self.entries) if e.kind in _SAID and i not in undone]
        return said[-1] if said else None

    def unlearnt(self) -> list[int]:
        """Returns the numbers of entries whose labels no update has learnt yet."""
        undone = self._undone()
        learnt = {number for e in self.entries if e.kind == "learn" for number in e.of}
        return [
            i
            for i, e in enumerate(self.entries)
            if e.kind in ("answer", "correct", "merge") and i not in undone | learnt
        ]

    def _keep_ids(self) -> None:
        """Names classes that were taken back but have others behind them: ids never change."""
        ends = [(e.first_class or 0) + len(e.new_classes) for e in self.live() if e.new_classes]
        end = max(ends, default=0)
        for number in range(len(self.entries)):
            self._name(number)
        end = max(end, len(self._start[1]))
        self.class_names, self.born = self.class_names[:end], self.born[:end]

    def _name(self, number: int) -> None:
        entry = self.entries[number]
        for class_id, name in enumerate(entry.new_classes, entry.first_class or 0):
            self.class_names[class_id : class_id + 1] = [name]
            self.born[class_id : class_id + 1] = [number]

    def _apply(self, number: int) -> None:
        entry = self.entries[number]
        self._name(number)
        if entry.kind == "audit":
            self._audit |= set(entry.indices)
            self._label(entry)
        elif entry.kind in ("answer", "correct"):
            self._label(entry)
        elif entry.kind == "rename":
            # Those that were merged into it bear its name.
            for class_id in range(len(self.class_names)):
                if self.resolve(class_id) == entry.class_id:
                    self.class_names[class_id] = entry.name or ""
        elif entry.kind == "merge":
            self._merge(entry.class_id or 0, entry.into or 0)

    def _label(self, entry: Entry) -> None:
        for index, said in zip(entry.indices, entry.labels, strict=True):
            label = self.resolve(said)
            if index in self._audit:
                self.audited.pop(index, None)
                if label != SKIP:
                    self.audited[index] = label
                continue
            if label == SKIP and entry.kind == "answer":
                self.skipped[index] += 1
            self.labels[index] = label
            if label >= 0 and label not in self.known:
                self.known.append(label)

    def _merge(self, class_id: int, into: int) -> None:
        self._same_as[class_id] = into
        for other in range(len(self.class_names)):  # those that were merged into it before, too
            if self.resolve(other) == into:
                self.class_names[other] = self.class_names[into]
        self.labels[self.labels == class_id] = into
        self.audited = {i: self.resolve(c) for i, c in self.audited.items()}
        if class_id in self._lasting:
            self._lasting.add(into)
        if class_id not in self.known:
            return
        if into in self.known:
            self.known.remove(class_id)
        else:  # its output goes on as that of the other
            self.known[self.known.index(class_id)] = into

    def _drop_empty(self) -> None:
        counts = np.bincount(self.pool_labels - REJECT)  # a pool may be large
        has_image = set((np.flatnonzero(counts) + REJECT).tolist()) | self._lasting
        self.known = [c for c in self.known if c in has_image]

    def replay(self, entries: Iterable[Entry]) -> None:
        """Writes entries one after the other."""
        for entry in entries:
            self.enter(entry)
