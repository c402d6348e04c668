"""What people say at the page, written down, and what the page is told."""

import datetime
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoc_tf.annotation import names
from emoc_tf.annotation.album import Album
from emoc_tf.annotation.journal import Journal
from emoc_tf.annotation.offers import Offers
from emoc_tf.annotation.requests import RefusedError, is_index, key_of, recognised, tidy
from emoc_tf.annotation.said import MARKS, Label, Said, class_of, is_settled


class Desk:
    """Takes what people say, one after the other; each is on the disk before it counts.

    Args:
        journal: Where it is written.
        notify: Called when there is something new for the worker.

    Attributes:
        said: The replay of the journal.
        offers: The sets that wait for an answer.
        album: The images; None until the worker has read the folder.
        known: Names of classes that the model knows, maybe without an image.
        lock: Held while anything changes.
    """

    def __init__(self, journal: Journal, notify: Callable[[], None] = lambda: None) -> None:
        self._journal, self._notify = journal, notify
        self.said, self.offers = Said(journal.entries), Offers()
        self.album: Album | None = None
        self.known: list[str] = []
        self.lock = threading.RLock()

    def open_album(self, told: Mapping[str, Any], cache: Path) -> None:
        """Takes what the worker has read: the images, and the labels that they have there.

        Labels that the folder gives and that nobody knows of yet are written into the journal.

        Args:
            told: `root`, `paths`, `keys`, `labels` by index, `applied`: how many entries these
                labels follow from, and `classes`, the names that the model knows.
            cache: Folder for small images.
        """
        with self.lock:
            images = list(told["paths"]), list(told["keys"])
            if self.album is None or (self.album.paths, self.album.keys) != images:
                if self.album is not None:
                    self.album.close()
                self.album = Album(Path(told["root"]), *images, cache)
            self.known = list(told["classes"])
            then = Said(self.said.entries[: told["applied"]])
            later = {
                key for entry in self.said.entries[told["applied"] :] for key in _images_of(entry)
            }
            new: dict[str, Label] = {}
            for index, label in told["labels"]:
                key = self.album.keys[index]
                if then.labels.get(key) != label and key not in later:
                    new[key] = self.said.label_now(label, told["applied"])
            if new:
                labels = list(new.values())
                self._enter({"kind": "folder", "images": list(new), "labels": labels})

    def _enter(
        self,
        entry: dict[str, Any],
        seat: str = "",
        person: str = "",
        told: Mapping[str, Any] | None = None,
    ) -> int:
        """Writes an entry down, with the key of what was sent, and only then counts it.

        Raises:
            NotSavedError: It could not be written; all is as it was.
        """
        who = {"person": person} if person else {}
        who |= {"seat": seat} if seat else {}
        who |= {"key": told["key"]} if told else {}
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        number = self._journal.append(entry | who | {"time": now})
        self.said.enter(self._journal.entries[number])
        self._notify()
        return number

    def answer(self, seat: str, person: str, told: Mapping[str, Any]) -> int:
        """Writes down the answer to a set; returns the entry's number.

        Args:
            seat: Of the browser.
            person: Who answers.
            told: `query`, `labels` in the order of the set's images, `key`, and what else `_labels`
                takes; `seconds` that it took.

        Raises:
            RefusedError: The set was answered already, is not open, or a name is nearly that of a
                class. Nothing was saved.
            NotSavedError: It could not be written. Nothing was saved.
        """
        with self.lock:
            if (before := self._same(told)) is not None:
                return before
            query = str(told.get("query"))
            if query in self.said.answered:
                by = self.said.entries[self.said.answered[query]].get("person", "")
                raise RefusedError(
                    "this set was answered already, in another window or by somebody else",
                    already=True, person=by,
                )  # fmt: skip
            offer = self.offers.get(query)
            if offer is None and not self.offers.told:  # just started: it may well be open
                raise RefusedError("the images are being read; it is tried again", 503, retry=True)
            if offer is None:
                raise RefusedError("this set is not open any more", 410, closed=True)
            labels = self._labels(told, len(offer.images))
            entry: dict[str, Any] = {
                "kind": "answer", "query": query, "images": offer.images, "labels": labels,
            }  # fmt: skip
            seconds = told.get("seconds")
            if isinstance(seconds, int | float) and 0 <= seconds < 86_400:
                entry["seconds"] = round(float(seconds), 2)  # how long the page showed it
            if offer.audit:
                entry["audit"] = True
            number = self._enter(entry, seat, person, told)
            self.offers.close(query)
            return number

    def correct(self, seat: str, person: str, told: Mapping[str, Any]) -> dict[str, Any]:
        """Writes down another label for some images.

        Images of a set that is on a screen are left to its answer. A set that nobody sees is given
        up for them.

        Args:
            seat: Of the browser.
            person: Who says it.
            told: `images` by index, `label`, `key`.

        Returns:
            `saved`, the entry's number, and `left`, the images that were left.

        Raises:
            RefusedError: All of them were left, or as `answer`. Nothing was saved.
            NotSavedError: It could not be written. Nothing was saved.
        """
        with self.lock:
            number = self._same(told)
            if number is None:
                keys = self._keys(told.get("images"))
                sets = {key: self.offers.of_image(key) for key in keys}
                taken = [key for key in keys if sets[key] is None or sets[key].seat is None]
                if not taken:
                    raise RefusedError("what is on a screen gets its name there: nothing was saved")
                (label,) = self._labels({**told, "labels": [told.get("label")]}, 1)
                name = class_of(label)
                kind = "correct" if name is None or name in self._known() else "split"
                labels = [label] * len(taken)
                entry = {"kind": kind, "images": taken, "labels": labels}
                number = self._enter(entry, seat, person, told)
                for query in {sets[key].query for key in taken if sets[key] is not None}:
                    self.offers.give_up(query)
            saved = set(self.said.entries[number].get("images", ()))
            # Sent twice, it may meet another folder.
            there = [i for i in told.get("images") or () if is_index(i, len(self.album or ()))]
            return {"saved": number, "left": [i for i in there if self.album.keys[i] not in saved]}

    def change_class(self, seat: str, person: str, told: Mapping[str, Any]) -> int:
        """Writes down another name for a class, or that it is another class; as `answer`.

        Args:
            seat: Of the browser.
            person: Who says it.
            told: `name`, and either `to`, its new name, or `into`, another class; `key`.
        """
        with self.lock:
            if (before := self._same(told)) is not None:
                return before
            name = self._class(told, "name")
            if "into" in told:
                into = self._class(told, "into")
                if into == name:
                    raise RefusedError("into: expected another class", 400)
                entry = {"kind": "merge", "name": name, "into": into}
            else:
                to = tidy(told.get("to"))
                other = recognised(to, self._known())
                if other not in (None, name):
                    raise RefusedError(f"{to!r} is a class: merge the two instead", 409)
                if to == name:
                    raise RefusedError("to: expected another name", 400)
                entry = {"kind": "rename", "name": name, "to": to}
            return self._enter(entry, seat, person, told)

    def undo(self, seat: str, person: str, told: Mapping[str, Any]) -> int:
        """Takes somebody's newest entry back, or the one of a number; as `answer`.

        The images of an answer are shown again at once.
        """
        with self.lock:
            if (before := self._same(told)) is not None:
                return before
            number = told.get("of")
            if number is None:
                number = self.said.last_of(seat)
            if not isinstance(number, int) or isinstance(number, bool):
                raise RefusedError("there is nothing left to take back")
            try:
                entry = self.said.undoing(number)
            except ValueError as error:
                raise RefusedError(str(error)) from None
            if self.said.entries[number]["kind"] == "answer":
                again = [
                    key
                    for key, label in zip(entry["images"], entry["labels"], strict=True)
                    if not is_settled(label) and not self.offers.of_image(key)
                ]
                if again:
                    entry |= {"query": secrets.token_hex(8), "again": again}
            number = self._enter(entry, seat, person, told)
            if "again" in entry:
                audit = bool(self.said.entries[entry["of"]].get("audit"))
                self.offers.reopen(entry["query"], entry["again"], seat, audit)
            return number

    def set_goal(self, seat: str, person: str, told: Mapping[str, Any]) -> int:
        """Writes down how many images somebody wants to answer; as `answer`.

        The goal that there is already is not written again.

        Args:
            seat: Of the browser.
            person: Who says it.
            told: `goal`, 0 for none; `key`.
        """
        goal = told.get("goal")
        if not isinstance(goal, int) or isinstance(goal, bool) or goal < 0:
            raise RefusedError(f"goal: expected a number of images, got {goal!r}", 400)
        with self.lock:
            if (before := self._same(told)) is not None:
                return before
            goals = [i for i, e in enumerate(self.said.entries) if e["kind"] == "goal"]
            if goals and (goal or None) == self.said.goal:
                return goals[-1]
            return self._enter({"kind": "goal", "goal": goal or None}, seat, person, told)

    def _same(self, told: Mapping[str, Any]) -> int | None:
        """Returns the entry that was made with the same key: what is sent twice counts once."""
        return self.said.keys.get(key_of(told))

    def _known(self) -> list[str]:
        return [*self.said.members, *(n for n in self.known if n not in self.said.members)]

    def _class(self, told: Mapping[str, Any], field: str) -> str:
        given = told.get(field)
        name = recognised(given, self.said.members)
        if name is None:
            name = tidy(given, field)
            raise RefusedError(f"{field}: expected a class with an image, got {name!r}", 404)
        return name

    def _keys(self, images: Any) -> list[str]:
        count = len(self.album or ())
        valid = isinstance(images, list) and images and len(set(map(repr, images))) == len(images)
        if not valid or not all(is_index(index, count) for index in images):
            raise RefusedError(f"images: expected different indices in [0, {count})", 400)
        return [self.album.keys[index] for index in images]

    def _labels(self, told: Mapping[str, Any], count: int) -> list[Label]:
        """Returns labels with the names that classes have now; asks about a name that is near."""
        labels = told.get("labels")
        if not isinstance(labels, list) or len(labels) != count:
            raise RefusedError(f"labels: expected one for each of {count} images", 400)
        seen, confirmed = told.get("seen"), told.get("confirmed") or ()
        seen = seen if isinstance(seen, int) else self.said.count
        known, found = self._known(), []
        for label in labels:
            typed = class_of(label)
            if typed is None:
                if label not in MARKS:
                    raise RefusedError(f"labels: expected a name or one of {MARKS}", 400)
                found.append(label)
                continue
            name = recognised(typed, known)
            if name is None:
                name = self.said.now(tidy(typed), seen)
            if name not in known:
                other = names.near(name, known)
                if other is not None and name not in confirmed:
                    raise RefusedError(
                        f"{name!r} is nearly {other!r}", near={"name": name, "known": other}
                    )
                known.append(name)
            found.append({"class": name})
        return found


def _images_of(entry: Mapping[str, Any]) -> Sequence[str]:
    return entry.get("images", ())
