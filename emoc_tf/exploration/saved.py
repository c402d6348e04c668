"""What an exploration saves between two steps, as arrays, and how it is taken up again."""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emoc_tf.data.images import read_only
from emoc_tf.exploration.answers import REJECT, SKIP
from emoc_tf.exploration.candidates import PADDING
from emoc_tf.exploration.episode import Episode
from emoc_tf.exploration.journal import Book, Entry
from emoc_tf.exploration.oracle import Query
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.exploration.task import Task


def to_arrays(
    root: int,
    episode: Episode,
    state: ExplorationState,
    book: Book,
    query: Query | None,
    asked: Sequence[Query],
    draws: int,
    audit: np.ndarray,
    gone: Mapping[str, str | int],
    task: Task | None,
) -> dict[str, np.ndarray]:
    """Returns all that is saved beside the network: the end of the last step, and open queries.

    Args:
        root: Of the episode, a function of which it is drawn.
        episode: Whose images are recognised by their hash.
        state: At the end of the last step.
        book: With the journal.
        query: The one that `advance` has begun, or None.
        asked: Open queries that were asked for.
        draws: How often candidate sets were drawn anew since the last step.
        audit: Pool indices of the audit images.
        gone: Class name or `REJECT` by hash of images that are not there any more.
        task: As it is today; None if the episode is drawn.
    """
    arrays = {
        "root": np.array(root),
        "step": np.array(state.step),
        "images": np.array(episode.digest),
        "known_classes": np.array(state.known_classes, np.int64),
        "labels": state.pool.labels,
        "journal": _text([entry.to_dict() for entry in book.entries]),
    }
    if asked or draws:
        arrays["queries"] = _text([each.to_dict() for each in asked])
        arrays["draws"] = np.array(draws)
        arrays["candidates"], arrays["candidate_mask"] = state.candidates, state.candidate_mask
    if query is not None:
        arrays["query"] = np.array(query.choice)
        arrays["queried_images"] = state.candidates[query.choice]
        if query.classes is not None:
            arrays["answer"] = query.classes
            arrays["new_classes"] = _text(query.new_classes)
    if task is not None:
        arrays |= _task_arrays(episode, book, audit, gone, task)
    return arrays


def _task_arrays(
    episode: Episode,
    book: Book,
    audit: np.ndarray,
    gone: Mapping[str, str | int],
    task: Task,
) -> dict[str, np.ndarray]:
    """Returns what tells the beginning of a task and its labels today: both may be others later."""
    labels, class_names, known = book.start
    arrays = {
        "start_labels": labels,
        "start_names": _text(class_names),
        "start_known": np.array(known, np.int64),
        "seen_labels": task.labels,
        "seen_names": _text(task.class_names),
        "audit": audit,
    }
    ids = task.image_ids()
    if ids is not None:
        arrays["image_ids"], arrays["gone"] = ids, _text(dict(gone))
    if episode.mean is not None:
        arrays["mean"] = episode.mean
    return arrays


def _text(value: object) -> np.ndarray:
    return np.array(json.dumps(value))


def _read(arrays: Mapping[str, np.ndarray], name: str, otherwise: object) -> object:
    return json.loads(str(arrays[name])) if name in arrays else otherwise


def places(arrays: Mapping[str, np.ndarray], task: Task | None) -> dict[int, int]:
    """Returns today's pool index of each image that was there then, by its index then.

    Of images of the same content the first is the first, and so on.

    Args:
        arrays: What `to_arrays` returned.
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
    return {i: now[text].pop() for i, text in enumerate(then.tolist()) if now.get(text)}


def task_at_start(arrays: Mapping[str, np.ndarray], task: Task) -> tuple[Task, tuple[int, ...]]:
    """Returns a task with the labels of the beginning on today's images, and the known classes."""
    place = places(arrays, task)
    labels = np.full(len(task.images), SKIP, np.int64)
    labels[list(place.values())] = arrays["start_labels"][list(place)]
    names = _read(arrays, "start_names", [])
    known = tuple(arrays["start_known"].tolist())
    return task.relabelled(labels, names), known


@dataclass(frozen=True)
class Taken:
    """What was taken up beside the book.

    Attributes:
        queries: Open ones.
        audit: Pool indices of the audit images.
        gone: Class name or `REJECT` by hash of images that are not there any more.
        late: What a task says today and did not then.
        place: Today's pool index of each image that was there then, by its index then.
    """

    queries: list[Query]
    audit: np.ndarray
    gone: dict[str, str | int]
    late: list[Entry]
    place: dict[int, int]


def replay_journal(
    arrays: Mapping[str, np.ndarray],
    episode: Episode,
    book: Book,
    task: Task | None,
    audit: np.ndarray,
) -> Taken:
    """Brings a book of the episode's start to where `to_arrays` was called.

    Args:
        arrays: What `to_arrays` returned.
        episode: With the images of today and the labels of its beginning.
        book: Of the episode's start.
        task: As it is today; None if the episode is drawn.
        audit: Pool indices of the audit images as drawn.

    Raises:
        ValueError: The arrays belong to an episode of other images or classes.
    """
    place = places(arrays, task)
    same = len(place) == len(book.labels) and all(i == j for i, j in place.items())
    digest = str(arrays["images"])
    if same and digest != episode.digest and ("journal" in arrays or digest != _former(episode)):
        raise ValueError("checkpoint: expected one of the same images, got others")
    known = arrays["known_classes"].tolist()
    if "journal" in arrays:
        entries = map(Entry.from_dict, json.loads(str(arrays["journal"])))
        book.replay(entries if same else (entry.of_images(place) for entry in entries))
    elif known[: len(book.known)] == book.known and len(arrays["labels"]) == len(book.labels):
        _replay_labels(arrays["labels"], known, book)
    if same and not (book.known == known and np.array_equal(book.columns(), arrays["labels"])):
        raise ValueError(
            f"checkpoint: expected classes of the episode, {episode.classes}, got {known}"
        )
    queries = [Query.from_dict(each) for each in _read(arrays, "queries", [])]
    if task is None:
        return Taken(queries, audit, {}, [], place)
    if not same:
        book.known = [c for c in known if c in book.known]
        queries = [moved for query in queries if len((moved := query.of_images(place)).indices)]
    audit = np.array([place[i] for i in arrays["audit"].tolist() if i in place], np.int64)
    asked = {int(i) for query in queries for i in query.indices}
    gone, late = _compare(arrays, task, book, place, asked)
    return Taken(queries, audit, gone, late, place)


def _former(episode: Episode) -> str:
    """Returns the hash of an episode in checkpoints from before there was a journal."""
    digest = hashlib.sha256()
    images, tested = episode.raw_images, episode.test_images
    for array in (images, episode.true_labels, tested, episode.test_labels):
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _replay_labels(labels: np.ndarray, known: list[int], book: Book) -> None:
    """Enters the labels of a checkpoint from before there was a journal, as one answer."""
    answered = np.flatnonzero((labels >= 0) & (book.labels == SKIP))
    columns = labels[answered]
    order = np.argsort(columns, kind="stable")  # in order of discovery
    classes = tuple(known[column] for column in columns[order])
    book.enter(Entry("answer", 0, tuple(answered[order].tolist()), classes))
    book.enter(Entry("learn", 0, of=(0,)))


def _compare(
    arrays: Mapping[str, np.ndarray],
    task: Task,
    book: Book,
    place: dict[int, int],
    asked: set[int],
) -> tuple[dict[str, str | int], list[Entry]]:
    """Returns what was said of images that are gone, and what is new in the task, as entries."""
    gone = dict(_read(arrays, "gone", {}))
    then, seen = arrays["seen_labels"], _read(arrays, "seen_names", [])
    lost = [i for i in range(len(then)) if i not in place]
    for i in lost:
        column = int(arrays["labels"][i])
        if column >= 0:
            class_id = int(arrays["known_classes"][column])
            gone[str(arrays["image_ids"][i])] = book.class_names[class_id]
        elif column == REJECT:
            gone[str(arrays["image_ids"][i])] = REJECT
    before = {j: int(then[i]) for i, j in place.items()}
    said: dict[int, str | int] = {}
    ids = task.image_ids() if gone else None
    for j in range(len(task.images)):
        if j not in before and ids is not None and str(ids[j]) in gone:
            said[j] = gone.pop(str(ids[j]))  # back again
        label = int(task.labels[j])
        name = task.class_names[label] if label >= 0 else None
        old = before.get(j, SKIP)
        if name is not None and (old < 0 or seen[old] != name):
            said[j] = name
    new = len(task.images) - len(place)
    if lost or new:
        warnings.warn(
            f"task: {len(lost)} images of the last time are gone, what was said of them is kept; "
            f"{new} are new",
            stacklevel=4,
        )
    names = {name: i for i, name in reversed(list(enumerate(book.class_names)))}
    names = book.first_names() | names
    added = [name for name in dict.fromkeys(said.values()) if name not in (*names, REJECT)]
    names |= {name: len(book.class_names) + i for i, name in enumerate(added)}
    labels = {j: names.get(name, REJECT) for j, name in said.items()}
    labels = {
        j: label
        for j, label in labels.items()
        if book.labels[j] != book.resolve(label) and j not in asked  # an answer will come
    }
    if not labels:
        return gone, []
    step = int(arrays["step"])
    return gone, [Entry("correct", step, tuple(labels), tuple(labels.values()), tuple(added))]


def take_up(
    arrays: Mapping[str, np.ndarray],
    state: ExplorationState,
    task: Task | None,
    *,
    sets_as_then: bool,
) -> tuple[Query | None, ExplorationState]:
    """Returns the query that was begun, if there is one, and the state with the sets of then.

    On another machine the network's features, and with them the sets of the cluster sampler, may
    differ; an answer belongs to the images that were shown.

    Args:
        arrays: What `to_arrays` returned.
        state: As it is now.
        task: As it is today; None if the episode is drawn.
        sets_as_then: Whether the sets of then stand. If not, a query that nobody answered is given
            up.
    """
    place = places(arrays, task)
    sets, mask = state.candidates.copy(), state.candidate_mask.copy()
    same = len(place) == len(arrays["labels"]) and all(i == j for i, j in place.items())
    if "candidates" in arrays and same and sets_as_then:
        sets, mask = arrays["candidates"].copy(), arrays["candidate_mask"].copy()
    query = None
    if "query" in arrays and (sets_as_then or "answer" in arrays):
        choice, images = int(arrays["query"]), arrays["queried_images"]
        query = Query(
            choice,
            arrays.get("answer"),
            indices=images[images >= 0],
            new_classes=tuple(_read(arrays, "new_classes", [])),
        ).of_images(place)
        if not len(query.indices):
            query = None
        else:
            sets[choice], mask[choice] = PADDING, True
            sets[choice, : len(query.indices)] = query.indices
    state = dataclasses.replace(state, candidates=read_only(sets), candidate_mask=read_only(mask))
    return query, state
