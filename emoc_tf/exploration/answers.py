"""Answers: what the one who is asked says about each image of a set, and how it is read."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoc_tf.data.listings import comparable

SKIP = -1
REJECT = -2


@dataclass(frozen=True, eq=False)
class Answer:
    """What is said about the images of a query.

    Attributes:
        labels: (k,) int64, for each image a class id; an id that goes on where the class list ends,
            for the classes of `new_classes`; `SKIP` (−1): the image stays in the pool and is asked
            about later; or `REJECT` (−2): nothing that can be named, never shown again.
        new_classes: Names of classes that the list lacks, for the ids behind its end.

    Example:
        >>> import emoc_tf
        >>> emoc_tf.Answer([0, 2, emoc_tf.SKIP], new_classes=["hare"])  # there were two classes
        Answer(labels=[0, 2, -1], new_classes=['hare'])
    """

    labels: Any
    new_classes: Sequence[str] = ()


class AnswerError(ValueError):
    """An oracle's answer that is none."""


def read(
    given: Any, count: int, class_names: Sequence[str], former: Mapping[str, int] | None = None
) -> Answer:
    """Returns an answer as class ids.

    Args:
        given: An `Answer`, or (k,) class ids, or names; names that are not in the list are new
            classes, unless they differ from one in the spaces around them or in their Unicode form
            alone. What is missing (None, NaN, masked) is `SKIP`, also as a whole. A name, `SKIP`
            or `REJECT` may stand for all images.
        count: k, the images that were asked about.
        class_names: Of the classes there are, by class id.
        former: Class ids by names that they had when it was asked.

    Returns:
        The answer with (k,) int64 labels; new classes are those that are not in the list.

    Raises:
        AnswerError: It is none.
    """
    new_classes: tuple[str, ...] = ()
    if isinstance(given, Answer):
        given, new_classes = given.labels, _names(given.new_classes)
    if isinstance(given, str) or (_is_number(given) and given in (SKIP, REJECT)):
        given = [given] * count
    values = _values(given, count)
    if any(isinstance(value, str) for value in values):
        return _of_names(values, class_names, former or {})
    labels = [_number(value, given) for value in values]
    end = len(class_names) + len(new_classes)
    if not all(REJECT <= label < end for label in labels):
        raise AnswerError(
            f"oracle: expected class ids in [0, {end}), {SKIP} to skip an image or {REJECT} to "
            f"reject it, got {labels}; a class that the list lacks is named in "
            f"emoc_tf.Answer(labels, new_classes=[...])"
        )
    names = [*class_names, *new_classes]
    return _of_names(
        [names[label] if label >= len(class_names) else label for label in labels], class_names, {}
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _names(given: Any) -> tuple[str, ...]:
    if isinstance(given, str) or not np.iterable(given):
        raise AnswerError(f"new_classes: expected a sequence of names, got {given!r}")
    names = tuple(given)
    for name in names:
        if not isinstance(name, str) or not name.strip():
            raise AnswerError(f"new_classes: expected names, got {name!r}")
    return names


def _values(given: Any, count: int) -> list[Any]:
    """Returns what is said of each image, None where nothing is."""
    if given is None:
        return [None] * count
    masked = np.ma.getmaskarray(given) if isinstance(given, np.ma.MaskedArray) else None
    try:
        array = np.asarray(given)
        # As they are: NumPy makes text of an id beside a name, and a number of True beside one.
        if not hasattr(given, "dtype") or array.dtype.kind not in "iuf" or masked is not None:
            array = np.asarray(given, dtype=object)
    except ValueError:
        array = np.array(None)  # lists of several lengths
    if array.shape == () and count == 1:
        array = array.reshape(1)
    if array.shape != (count,):
        raise AnswerError(
            f"oracle: expected ({count},) integer class ids, one an image and {SKIP} for an image "
            f"to skip, got {getattr(given, 'dtype', type(given).__name__)} of shape {array.shape}"
        )
    values = array.tolist()
    floats = [value for value in values if isinstance(value, float)]
    if any(map(math.isnan, floats)):  # a column with gaps, whose ids became floats
        whole = (isinstance(value, float) and value.is_integer() for value in values)
        values = [int(v) if is_whole else v for v, is_whole in zip(values, whole, strict=True)]
    if masked is not None:
        values = [None if hidden else value for value, hidden in zip(values, masked, strict=True)]
    return values


def _number(value: Any, given: Any) -> int:
    """Returns a class id, `SKIP` for what is missing."""
    # pandas' NA has no truth value, and NaN is no equal of itself.
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return SKIP
    if isinstance(value, float | np.floating) and np.isnan(value):
        return SKIP
    if _is_number(value):
        return int(value)
    raise AnswerError(
        f"oracle: expected integer class ids, None or {SKIP} for an image to skip, got {value!r} "
        f"of type {type(value).__name__} in {given!r}"
    )


def form_of(name: str) -> str:
    """Returns what spellings of a name share that differ in Unicode form or outer spaces alone."""
    return comparable(name.strip())


def by_form(class_names: Sequence[str]) -> dict[str, int]:
    """Returns class ids by `form_of` their names; of several the first."""
    return {form_of(name): i for i, name in reversed(list(enumerate(class_names)))}


def _of_names(values: list[Any], class_names: Sequence[str], former: Mapping[str, int]) -> Answer:
    """Returns an answer of ids and names as ids; `new_classes` has the names nobody listed."""
    names, labels = [*class_names], []
    ids = {name: i for i, name in reversed(list(enumerate(names)))}
    ids = dict(former) | {name.strip(): i for name, i in reversed(ids.items())} | ids
    forms = {form_of(name): i for name, i in former.items()} | by_form(class_names)
    for value in values:
        if isinstance(value, str):
            name = value if value in ids else value.strip()
            if not name:
                raise AnswerError(
                    "oracle: expected a name or a class id, got an empty text; None or "
                    f"{SKIP} skips an image"
                )
            if name not in ids and form_of(name) in forms:
                ids[name] = forms[form_of(name)]
            elif name not in ids:
                ids[name] = forms[form_of(name)] = len(names)
                names.append(name)
            labels.append(ids[name])
        else:
            label = _number(value, values)
            if not REJECT <= label < len(class_names):
                raise AnswerError(
                    f"oracle: expected class ids in [0, {len(class_names)}) or names, got {label}"
                )
            labels.append(label)
    return Answer(np.array(labels, np.int64), tuple(names[len(class_names) :]))
