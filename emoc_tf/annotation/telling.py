"""The state as the page is told of it: sets, classes, curves, and what was said."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from emoc_tf.annotation.album import Album
from emoc_tf.annotation.offers import Offer
from emoc_tf.annotation.said import Said, class_of, is_settled

_MOST_SHOWN = 200
# Points of a curve; a page asks for all of them every second.
_MOST_POINTS = 200


def shown(offer: Offer | None, album: Album | None, guesses: bool = False) -> dict | None:
    """Returns a set as the page is told of it; None if there is none or an image is not there."""
    if offer is None or album is None:
        return None
    images = [[album.place.get(key, -1), key[:12]] for key in offer.images]
    told = {"query": offer.query, "images": images, "audit": offer.audit}
    return told | {"guesses": offer.guesses} if guesses and offer.guesses else told


def members(said: Said, album: Album | None, name: str, start: int) -> dict[str, Any]:
    """Returns images of a class, or with a mark such as `reject`, from a number on."""
    if name.startswith("mark:"):
        mark = name[len("mark:") :]
        keys = [key for key, label in said.labels.items() if label == mark]
    else:
        keys = list(said.members.get(name, ()))
    there = [key for key in keys if album is not None and key in album.place]
    part = there[start : start + _MOST_SHOWN]
    images = [[album.place[key], key[:12]] for key in part]
    return {"name": name, "count": len(there), "start": start, "images": images}


def history(said: Said, album: Album | None, before: int | None) -> dict[str, Any]:
    """Returns what was said, the newest first."""
    rows: list[dict[str, Any]] = []
    number = said.count if before is None else min(before, said.count)
    while number > 0 and len(rows) < _MOST_SHOWN // 4:
        number -= 1
        rows.append(_summary(said.entries[number], number, said, album))
    return {"rows": rows, "before": number}


def thinned(outcomes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns as many of them as a curve has points, with the first and the newest."""
    kept = outcomes[:: -(-len(outcomes) // _MOST_POINTS) or 1]
    return kept if not kept or kept[-1] is outcomes[-1] else [*kept, outcomes[-1]]


def _summary(entry: Mapping[str, Any], number: int, said: Said, album: Album | None) -> dict:
    """Returns a line of the history."""
    # Apart, since a class may well be called "left".
    names: Counter[str] = Counter()
    marks: Counter[str] = Counter()
    for label in entry.get("labels", ()):
        name = class_of(label)
        (marks if name is None else names)[label if name is None else name] += 1
    place = album.place if album is not None else {}
    images = [[place[key], key[:12]] for key in entry.get("images", ())[:3] if key in place]
    told = {k: entry[k] for k in ("kind", "person", "time", "name", "to", "into", "of", "goal")
            if k in entry}  # fmt: skip
    settled = sum(is_settled(label) for label in entry.get("labels", ()))
    return told | {
        "number": number, "count": len(entry.get("images", ())), "labels": names, "marks": marks,
        "settled": settled, "images": images, "undone": number in said.undone,
        "can_undo": said.can_undo(number),
    }  # fmt: skip
