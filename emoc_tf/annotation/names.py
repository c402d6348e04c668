"""Names of classes as people type them."""

import unicodedata
from collections.abc import Iterable

# Characters; names become folders of exports.
LONGEST = 80
# A shorter name is another word when one letter changes.
_SHORTEST_ALIKE = 3
# Marks that join or part letters and pictures; Persian and Hindi cannot be written without them.
_JOINERS = "\u200c\u200d"


def tidy(text: object) -> str:
    """Returns a name as it is kept: composed letters, single spaces, none around it.

    Raises:
        ValueError: It is no text, empty, too long, or holds what cannot be shown.
    """
    if not isinstance(text, str):
        raise ValueError(f"name: expected a text, got {text!r:.80}")
    name = spelt(text).strip(_JOINERS)
    shown = name.translate(dict.fromkeys(map(ord, _JOINERS)))
    if not name or len(name) > LONGEST or not shown.isprintable():
        raise ValueError(
            f"name: expected 1 to {LONGEST} characters that can be shown, got {text!r:.100}"
        )
    return name


def spelt(text: str) -> str:
    """Returns a text with composed letters and single spaces, none around it."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def near(name: str, known: Iterable[str]) -> str | None:
    """Returns the known name that a new one nearly is; None if there is none, or it is known.

    Nearly the same are names that differ in case, in what stands between words, as singular and
    plural, or in one letter (left out, added, another one, or two that changed places). So is the
    beginning of a known one, which may have been taken for completed.
    """
    known = list(known)
    if name in known:
        return None
    alike = (_is_spelt_alike, _is_plural, _is_one_letter_off, _is_beginning)
    for is_alike in alike:
        for other in known:
            if is_alike(_plain(name), _plain(other)):
                return other
    return None


def _plain(name: str) -> str:
    name = unicodedata.normalize("NFC", name.casefold())
    return " ".join(name.replace("_", " ").replace("-", " ").split())


def _is_spelt_alike(a: str, b: str) -> bool:
    return a == b or a.replace(" ", "") == b.replace(" ", "")


def _is_plural(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    forms = {f"{short}s", f"{short}es"}
    if short.endswith("y"):
        forms.add(f"{short[:-1]}ies")
    return long in forms and not short[-1:].isdigit()


def _is_beginning(a: str, b: str) -> bool:
    return len(a) > 1 and b.startswith(a) and not b[len(a) :][:1].isdigit()


def _is_one_letter_off(a: str, b: str) -> bool:
    short, long = sorted((a, b), key=len)
    if len(short) < _SHORTEST_ALIKE or len(long) - len(short) > 1:
        return False
    start = next((i for i, (x, y) in enumerate(zip(short, long, strict=False)) if x != y), None)
    if start is None:
        return len(long) > len(short) and not long[-1].isdigit()
    if long[start].isdigit() or short[start].isdigit():  # "room 1" and "room 2" are two
        return False
    if len(short) < len(long):
        return short[start:] == long[start + 1 :]
    swapped = short[start : start + 2][::-1] == long[start : start + 2]
    return short[start + 1 :] == long[start + 1 :] or (
        swapped and short[start + 2 :] == long[start + 2 :]
    )
