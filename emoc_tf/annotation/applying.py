"""What was said at the page brought into the exploration, line by line."""

from collections.abc import Iterable, Mapping
from typing import Any

from emoc_tf.annotation.exploring import Annotated
from emoc_tf.annotation.said import Label, Said, class_of
from emoc_tf.exploration.answers import REJECT, SKIP
from emoc_tf.exploration.journal import Entry
from emoc_tf.exploration.oracle import Query

# What the journal of an exploration calls the lines that can be taken back.
_KINDS = {
    "answer": ("answer", "audit"), "correct": ("correct",), "split": ("correct",),
    "rename": ("rename",), "merge": ("merge",),
}  # fmt: skip


class Applier:
    """Brings lines of the page's journal into an exploration.

    What a line says decides, not how it is brought in: after each the images that it is about have
    the labels that the replay gives them. What is in an open query waits until that is closed.

    Args:
        exploration: With an episode.
        lines: Those that were applied already.
    """

    def __init__(self, exploration: Annotated, lines: Iterable[Mapping[str, Any]]) -> None:
        self._exploration = exploration
        self._said = Said(lines)
        self._keys = exploration.keys
        self._place = {key: index for index, key in enumerate(self._keys)}
        # Whatever could not be brought in before the process ended, or while its file was away.
        labels, given = exploration.all_labels, exploration.task.labels
        self._pending = {
            i
            for i, key in enumerate(self._keys)
            if (labels[i] == SKIP and self._target(key) != SKIP)
            or (given[i] == SKIP and self._said.has_heard_of(key))  # else a folder may say more
        }
        if self._said.count:
            self._finish(self._said.entries[-1])

    def apply(self, line: Mapping[str, Any]) -> None:
        """Brings the next line in; an answer is learnt."""
        exploration, number = self._exploration, self._said.count
        members = list(self._said.members.get(line.get("name", ""), ()))
        self._said.enter(line)
        exploration.applied = number + 1
        if line["kind"] == "answer":
            self._answer(line)
        elif line["kind"] in ("rename", "merge"):
            self._change_class(line)
        elif line["kind"] == "undo":
            self._undo(line)
        self._finish(line, members)

    def _finish(self, line: Mapping[str, Any], more: Iterable[str] = ()) -> None:
        """Does what one call could not: images in open queries, and a set that is shown again."""
        images = [*more, *line.get("images", ())]
        self._pending |= {self._place[key] for key in images if key in self._place}
        self.settle()
        if line.get("again") and line["query"] not in self._said.answered:
            entry = self._entry_of(self._said.entries[line["of"]])
            if entry is not None and self.find(line["query"]) is None:
                self._ask_again(line["query"], entry)

    def settle(self) -> None:
        """Gives images the labels that were said, where they are in no open query."""
        exploration = self._exploration
        if not self._pending:
            return
        labels, keys = exploration.all_labels, self._keys
        hidden = {int(i) for query in exploration.queries for i in query.indices}
        said: dict[int, str | int] = {}
        for index in sorted(self._pending):
            target = self._target(keys[index])
            if index in hidden and target == SKIP:
                continue
            if _value(exploration, int(labels[index])) != target:
                said[index] = target
        self._pending &= hidden & said.keys()
        now = {index: value for index, value in said.items() if index not in hidden}
        if now:
            exploration.correct(list(now), list(now.values()))

    def _target(self, key: str) -> str | int:
        return _meaning(self._said.labels.get(key))

    def find(self, query: str) -> Query | None:
        """Returns the open query of an id; None if it is not open."""
        ids = self._exploration.ids
        return next((q for q in self._exploration.queries if ids.get(q.number) == query), None)

    def _answer(self, line: Mapping[str, Any]) -> None:
        query, exploration = self.find(line["query"]), self._exploration
        if query is None:
            return
        labels = dict(zip(line["images"], line["labels"], strict=True))
        keys = self._keys
        values = [_meaning(labels.get(keys[i])) for i in query.indices.tolist()]
        # A new class may bear a name that another one had when it was asked: it is told apart by
        # `settle`, which is after.
        former = set(query.class_names) - set(exploration.class_names)
        exploration.answer(query, [SKIP if value in former else value for value in values])

    def _change_class(self, line: Mapping[str, Any]) -> None:
        exploration, names = self._exploration, self._exploration.class_names
        if line["name"] not in names:
            return
        if line["kind"] == "rename" and line["to"] not in names:
            exploration.rename(line["name"], line["to"])
        elif line["kind"] == "merge" and line["into"] in names:
            exploration.merge(line["name"], line["into"])

    def _undo(self, line: Mapping[str, Any]) -> None:
        """Takes an entry back where it is the newest one; else `settle` changes its labels."""
        exploration, entries = self._exploration, self._exploration.journal
        undone = {number for entry in entries for number in entry.of if entry.kind == "undo"}
        standing = [e for i, e in enumerate(entries) if i not in undone and e.kind in _UNDOABLE]
        if not standing or standing[-1] is not self._entry_of(self._said.entries[line["of"]]):
            return
        hidden = {int(i) for query in exploration.queries for i in query.indices}
        if hidden.isdisjoint(standing[-1].indices):
            exploration.undo()

    def _entry_of(self, line: Mapping[str, Any]) -> Entry | None:
        """Returns the newest entry of the exploration's journal that a line became."""
        entries = reversed(self._exploration.journal)
        return next((entry for entry in entries if self._is_same(entry, line)), None)

    def _is_same(self, entry: Entry, line: Mapping[str, Any]) -> bool:
        """Whether an entry of the exploration's journal is what became of a line."""
        if entry.kind not in _KINDS[line["kind"]]:
            return False
        if line["kind"] == "rename":
            return entry.name == line["to"]
        if line["kind"] == "merge":
            return self._exploration.class_names[entry.into or 0] == self._said.now(line["into"], 0)
        images = {self._place[key] for key in line["images"] if key in self._place}
        return images == set(entry.indices)

    def _ask_again(self, query: str, entry: Entry) -> None:
        self._exploration.next_id = query
        try:
            self._exploration.ask_again(entry)
        except ValueError:  # all its images are in other sets by now
            self._exploration.next_id = None


_UNDOABLE = {kind for kinds in _KINDS.values() for kind in kinds} - {"audit"}


def _meaning(label: Label | None) -> str | int:
    """Returns a label as an answer: a name, `SKIP` or `REJECT`."""
    name = class_of(label)
    if name is not None:
        return name
    return REJECT if label == "reject" else SKIP


def _value(exploration: Annotated, class_id: int) -> str | int:
    return exploration.class_names[class_id] if class_id >= 0 else class_id
