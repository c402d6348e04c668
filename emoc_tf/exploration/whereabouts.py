"""Which images of a task are those of another day, and which are not there any more.

Images are recognised by their content. One that is not there keeps an index behind those of the
pool, so that what was said of it stays in the journal, and is its own again when it comes back.
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from emoc_tf.exploration.answers import SKIP
from emoc_tf.exploration.task import Task


class Gone(NamedTuple):
    """An image that is not there any more.

    Attributes:
        image_id: What it is recognised by, see `Task.image_ids`.
        start: Class id at the start of the episode, `SKIP` where unknown.
        seen: Name of the class that the task gave it when it was last there; None for none.
    """

    image_id: str
    start: int
    seen: str | None


def read(arrays: Mapping[str, np.ndarray], name: str, otherwise: Any) -> Any:
    """Returns what was saved as text under a name."""
    return json.loads(str(arrays[name])) if name in arrays else otherwise


def known_then(arrays: Mapping[str, np.ndarray]) -> list[Gone]:
    """Returns all images that were known: those of the pool, and behind them those gone by then."""
    names = read(arrays, "seen_names", [])
    seen = (names[c] if c >= 0 else None for c in arrays["seen_labels"].tolist())
    ids = arrays["image_ids"].tolist() if "image_ids" in arrays else [""] * len(arrays["labels"])
    found = [Gone(*each) for each in zip(ids, arrays["start_labels"].tolist(), seen, strict=True)]
    found += [Gone(*each) for each in read(arrays, "away", [])]
    # Earlier versions kept what such images show, by what they are recognised by, and no more.
    return found + [Gone(image_id, SKIP, None) for image_id in read(arrays, "gone", {})]


def places(arrays: Mapping[str, np.ndarray], task: Task | None) -> dict[int, int]:
    """Returns today's pool index of each image that is there, by its index then.

    Of images of the same content the first is the first, and so on.

    Args:
        arrays: What `saved.to_arrays` returned.
        task: As it is today; None if the episode is drawn.

    Raises:
        ValueError: There are more or fewer images, which are not recognised by their content.
    """
    count = len(arrays["labels"])
    ids, then = None if task is None else task.image_ids(), arrays.get("image_ids")
    if task is None or (ids is not None and then is not None and np.array_equal(ids, then)):
        return {i: i for i in range(count)}
    if ids is None or then is None:
        if count != len(task.images):
            raise ValueError(
                f"checkpoint: expected one of the same images, got one of {count} for a task of "
                f"{len(task.images)}"
            )
        return {i: i for i in range(count)}
    now: dict[str, list[int]] = {}
    for i, text in reversed(list(enumerate(ids.tolist()))):
        now.setdefault(text, []).append(i)
    known = enumerate(image.image_id for image in known_then(arrays))
    return {i: now[text].pop() for i, text in known if now.get(text)}


def everywhere(
    arrays: Mapping[str, np.ndarray], task: Task, place: Mapping[int, int]
) -> tuple[dict[int, int], tuple[Gone, ...]]:
    """Returns today's index of all images of then, and those that are gone, in their order.

    Args:
        arrays: What `saved.to_arrays` returned.
        task: As it is today.
        place: See `places`; indices of the others go on where the pool ends.
    """
    known, count = known_then(arrays), len(task.images)
    away = [i for i in range(len(known)) if i not in place]
    return {**place, **{i: count + k for k, i in enumerate(away)}}, tuple(known[i] for i in away)


def gone_now(arrays: Mapping[str, np.ndarray], task: Task) -> tuple[Gone, ...]:
    """Returns the images that were known then and are not there today; see `everywhere`."""
    return everywhere(arrays, task, places(arrays, task))[1]


def task_at_start(arrays: Mapping[str, np.ndarray], task: Task) -> tuple[Task, tuple[int, ...]]:
    """Returns a task with the labels of the beginning on today's images, and the known classes."""
    known = known_then(arrays)
    labels = np.full(len(task.images), SKIP, np.int64)
    for then, now in places(arrays, task).items():
        labels[now] = known[then].start
    names = read(arrays, "start_names", [])
    return task.relabelled(labels, names), tuple(arrays["start_known"].tolist())
