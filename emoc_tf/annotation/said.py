"""What people have said so far: the replay of the journal.

Images are named by their keys, the first 32 digits of the SHA-256 of their files, so that an answer
stays with its image whatever becomes of the folder. A label is `{"class": NAME}` or one of `MARKS`.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# `skip`: later. `unsure`: looked at, and not sure. `left`: un-ticked, while others got a name.
# `reject`: cannot be named. `none`: as if nobody had said anything.
MARKS = ("skip", "unsure", "left", "reject", "none")
# Entries that a person may take back.
UNDOABLE = ("answer", "correct", "split", "rename", "merge")

Label = Mapping[str, str] | str
Entry = Mapping[str, Any]
# The newest answers whose time counts.
_RECENT = 50


def class_of(label: Label | None) -> str | None:
    """Returns the name of the class of a label; None if it is a mark."""
    return label.get("class") if isinstance(label, Mapping) else None


def is_settled(label: Label | None) -> bool:
    """Whether an image with this label does not wait for an answer."""
    return class_of(label) is not None or label == "reject"


def _kind(label: Label | None) -> str:
    return "class" if class_of(label) is not None else str(label or "none")


class Said:
    """All that was said, entry by entry.

    Attributes:
        count: Entries so far.
        labels: Of each image of which something was said, by key.
        members: Keys of the images of each class, by name, in the order in which they came; a class
            without an image is not among them.
        keys: Replies by idempotency key: the number of the entry that was made with it.
        answered: The entry that answered each query, by query id.
        undone: Numbers of the entries that were taken back.
        tally: How many images have a class, and each mark.
        by_people: Keys of the images that people gave a class or rejected.
        seconds: That the newest answers took.
        goal: How many images somebody wants to answer; None if nobody said.
    """

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self.entries: list[Entry] = []
        self.labels: dict[str, Label] = {}
        self.members: dict[str, dict[str, None]] = {}
        self.keys: dict[str, int] = {}
        self.answered: dict[str, int] = {}
        self.undone: set[int] = set()
        self.tally: Counter[str] = Counter()
        self.by_people: set[str] = set()
        self.seconds: deque[float] = deque(maxlen=_RECENT)
        self.goal: int | None = None
        # The entry that gave each image its label, and what each entry changed.
        self._touched: dict[str, int | None] = {}
        self._before: dict[int, dict[str, tuple[Label | None, int | None]]] = {}
        self._renamed: list[tuple[int, str, str]] = []
        for entry in entries:
            self.enter(entry)

    @property
    def count(self) -> int:
        """How many entries there are."""
        return len(self.entries)

    @property
    def settled(self) -> int:
        """How many images do not wait for an answer."""
        return self.tally["class"] + self.tally["reject"]

    def enter(self, entry: Entry) -> None:
        """Takes the next entry."""
        number = len(self.entries)
        self.entries.append(entry)
        kind = entry["kind"]
        if key := entry.get("key"):
            self.keys[key] = number
        if kind == "answer":
            self.answered[entry["query"]] = number
            if entry.get("seconds") is not None:
                self.seconds.append(entry["seconds"])
        if kind == "goal":
            self.goal = entry["goal"]
        elif kind == "rename":
            self._rename(number, entry["name"], entry["to"])
        elif kind == "merge":
            images = list(self.members.get(entry["name"], ()))
            self._set(number, images, [{"class": entry["into"]}] * len(images))
            self._renamed.append((number, entry["name"], entry["into"]))
        elif kind == "undo":
            self.undone.add(entry["of"])
            self._renamed = [each for each in self._renamed if each[0] != entry["of"]]
            if "name" in entry:
                self._rename(number, entry["name"], entry["to"])
        if "images" in entry:
            self._set(number, entry["images"], entry["labels"])

    def _set(self, number: int, images: Sequence[str], labels: Sequence[Label]) -> None:
        entry = self.entries[number]
        before, undone = self._before.setdefault(number, {}), self._before.get(entry.get("of"), {})
        for key, label in zip(images, labels, strict=True):
            old = self.labels.get(key)
            if entry["kind"] in UNDOABLE:
                before[key] = old, self._touched.get(key)
            name, new_name = class_of(old), class_of(label)
            if name is not None and name != new_name:
                self._leave(name, key)
            if new_name is not None:
                self.members.setdefault(new_name, {}).setdefault(key)
            self.tally[_kind(old)] -= 1
            self.tally[_kind(label)] += 1
            if label == "none":
                self.labels.pop(key, None)
            else:
                self.labels[key] = label
            # Where an entry was taken back, the one before it stands again.
            self._touched[key] = undone[key][1] if key in undone else number
            source = self._touched[key]
            of_people = source is not None and self.entries[source]["kind"] != "folder"
            if of_people and is_settled(label):
                self.by_people.add(key)
            else:
                self.by_people.discard(key)

    def _leave(self, name: str, key: str) -> None:
        members = self.members[name]
        members.pop(key, None)
        if not members:
            del self.members[name]

    def _rename(self, number: int, name: str, to: str) -> None:
        if name in self.members:
            images = self.members.pop(name)
            self.members[to] = images | self.members.get(to, {})
            for key in images:
                self.labels[key] = {"class": to}
        self._renamed.append((number, name, to))

    def now(self, name: str, since: int) -> str:
        """Returns the name that a class has now which had another one when `since` were entered."""
        for number, old, new in self._renamed:
            if number >= since and name == old:
                name = new
        return name

    def has_heard_of(self, key: str) -> bool:
        """Whether something was ever said of an image."""
        return key in self._touched

    def _was_merged(self, name: str, since: int) -> bool:
        for number, old, new in self._renamed:
            if number >= since and name == old:
                if self.entries[number]["kind"] == "merge":
                    return True
                name = new
        return False

    def label_now(self, label: Label | None, since: int) -> Label:
        """Returns a label of then with the name that its class has now."""
        name = class_of(label)
        return label or "none" if name is None else {"class": self.now(name, since)}

    def stands(self, number: int) -> dict[str, Label]:
        """Returns the images that still have the labels of an entry, and their labels before it."""
        changed = self._before.get(number, {})
        return {
            key: self.label_now(label, number)
            for key, (label, _) in changed.items()
            if self._touched.get(key) == number
        }

    def can_undo(self, number: int) -> bool:
        """Whether an entry is of a kind that can be taken back, and was not yet."""
        in_range = 0 <= number < len(self.entries)
        return in_range and self.entries[number]["kind"] in UNDOABLE and number not in self.undone

    def last_of(self, seat: str) -> int | None:
        """Returns the newest entry of somebody that can be taken back; None if there is none."""
        for number in range(len(self.entries) - 1, -1, -1):
            if self.entries[number].get("seat") == seat and self.can_undo(number):
                return number
        return None

    def undoing(self, number: int) -> dict[str, Any]:
        """Returns what an entry that takes another one back says.

        Images get the label that they had before, if nothing was said of them since; a class its
        former name, if no other one has it now.

        Raises:
            ValueError: It cannot be taken back, or nothing of it stands any more.
        """
        if not self.can_undo(number):
            raise ValueError(f"undo: expected an entry that can be taken back, got {number}")
        entry = self.entries[number]
        undoing: dict[str, Any] = {"kind": "undo", "of": number}
        if entry["kind"] == "rename":
            name, to = self.now(entry["to"], number + 1), entry["name"]
            # What it was merged into is a class of its own, whose name it is not.
            merged = self._was_merged(entry["to"], number + 1)
            if merged or name not in self.members or to in self.members:
                raise ValueError(
                    f"undo: expected a class {entry['to']!r} and none called {to!r}, got another "
                    f"list of classes by now"
                )
            return undoing | {"name": name, "to": to}
        labels = self.stands(number)
        if not labels:
            raise ValueError("undo: nothing of that entry stands any more")
        if entry["kind"] == "merge":  # its own renaming does not count
            labels = {key: self._unmerged(label, number) for key, label in labels.items()}
        return undoing | {"images": list(labels), "labels": list(labels.values())}

    def _unmerged(self, label: Label, number: int) -> Label:
        entry = self.entries[number]
        known = self._renamed
        self._renamed = [each for each in known if each[0] != number]
        try:
            return self.label_now({"class": entry["name"]}, number)
        finally:
            self._renamed = known
