"""What an exploration saves between two steps, as arrays, and how it is taken up again."""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from emoc_tf.data.images import read_only
from emoc_tf.data.listings import comparable
from emoc_tf.exploration import whereabouts
from emoc_tf.exploration.answers import REJECT, SKIP
from emoc_tf.exploration.candidates import PADDING
from emoc_tf.exploration.episode import Episode
from emoc_tf.exploration.journal import Book, Entry
from emoc_tf.exploration.oracle import Query
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.exploration.task import Task
from emoc_tf.exploration.whereabouts import Gone


def to_arrays(
    root: int,
    episode: Episode,
    state: ExplorationState,
    book: Book,
    query: Query | None,
    asked: Sequence[Query],
    draws: int,
    audit: np.ndarray,
    gone: Sequence[Gone],
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
        gone: Images that are not there any more.
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
    gone: Sequence[Gone],
    task: Task,
) -> dict[str, np.ndarray]:
    """Returns what tells the beginning of a task and its labels today: both may be others later."""
    labels, class_names, known = book.start
    arrays = {
        "start_labels": labels[: len(task.labels)],
        "start_names": _text(class_names),
        "start_known": np.array(known, np.int64),
        "image_shape": np.array(task.images.shape[1:], np.int64),
        "seen_labels": task.labels,
        "seen_names": _text(task.class_names),
        "audit": audit,
    }
    ids = task.image_ids()
    if ids is not None:
        arrays["image_ids"], arrays["away"] = ids, _text([list(image) for image in gone])
    if episode.mean is not None:
        arrays["mean"] = episode.mean
    return arrays


def _text(value: object) -> np.ndarray:
    return np.array(json.dumps(value))


@dataclass(frozen=True)
class Taken:
    """What was taken up beside the book.

    Attributes:
        queries: Open ones.
        audit: Indices of the audit images, also of those that are gone.
        late: What a task says today and did not then.
        place: Today's pool index of each image that was there then and still is, by its index then.
    """

    queries: list[Query]
    audit: np.ndarray
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
    place = whereabouts.places(arrays, task)
    same = _is_same(arrays, place, len(book.pool_labels))
    digest = str(arrays["images"])
    if same and digest != episode.digest and ("journal" in arrays or digest != _former(episode)):
        raise ValueError("checkpoint: expected one of the same images, got others")
    full = place if task is None else whereabouts.everywhere(arrays, task, place)[0]
    known = arrays["known_classes"].tolist()
    if "journal" in arrays:
        entries = map(Entry.from_dict, json.loads(str(arrays["journal"])))
        book.replay(entries if same else (entry.of_images(full) for entry in entries))
    elif known[: len(book.known)] == book.known and len(arrays["labels"]) == len(book.labels):
        _replay_labels(arrays["labels"], known, book)
    if same and not (book.known == known and np.array_equal(book.columns(), arrays["labels"])):
        raise ValueError(
            f"checkpoint: expected classes of the episode, {episode.classes}, got {known}"
        )
    queries = [Query.from_dict(each) for each in whereabouts.read(arrays, "queries", [])]
    if task is None:
        return Taken(queries, audit, [], place)
    if not same:
        # Outputs that are there keep their place; those of classes that came back follow.
        kept = [c for c in known if c in book.known]
        book.known = kept + [c for c in book.known if c not in kept]
        queries = [moved for query in queries if len((moved := query.of_images(place)).indices)]
    audit = np.array([full[i] for i in arrays["audit"].tolist()], np.int64)
    queries += _not_asked(audit, book, queries)
    asked = {int(i) for query in queries for i in query.indices}
    late = _compare(arrays, task, book, full, asked)
    there = {i: j for i, j in place.items() if i < len(arrays["labels"])}
    return Taken(queries, audit, late, there)


def _is_same(arrays: Mapping[str, np.ndarray], place: Mapping[int, int], count: int) -> bool:
    """Returns whether all images are those of then, in their order."""
    same = len(arrays["labels"]) == len(place) == count
    return same and all(i == j for i, j in place.items())


def _not_asked(audit: np.ndarray, book: Book, queries: Sequence[Query]) -> list[Query]:
    """Returns a query of the audit images that were away while the others were asked about."""
    asked = {i for entry in book.entries if entry.kind == "audit" for i in entry.indices}
    asked |= {int(i) for query in queries for i in query.indices}
    left = [i for i in audit.tolist() if i not in asked and i < len(book.pool_labels)]
    return [Query(None, indices=np.array(left, np.int64))] if left else []


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
    full: Mapping[int, int],
    asked: set[int],
) -> list[Entry]:
    """Returns what is new in the task, as entries."""
    known = whereabouts.known_then(arrays)
    before = {full[i]: image.seen and comparable(image.seen) for i, image in enumerate(known)}
    said: dict[int, str | int] = {}
    former = whereabouts.read(arrays, "gone", {})  # of a version that kept no more
    for i, name in enumerate(former.values(), len(known) - len(former)):
        said[full[i]] = name
    count = len(task.images)
    for j in range(count):
        label = int(task.labels[j])
        name = task.class_names[label] if label >= 0 else None
        if name is not None and before.get(j) != comparable(name):
            said[j] = name
    then = range(len(arrays["labels"]))
    lost = sum(full[i] >= count for i in then)
    new = count - sum(full[i] < count for i in then)
    if lost or new:
        warnings.warn(
            f"task: {lost} images of the last time are gone, what was said of them is kept; "
            f"{new} are new or back",
            stacklevel=4,
        )
    names = {comparable(name): i for name, i in book.first_names().items()}
    names |= {comparable(name): i for i, name in reversed(list(enumerate(book.class_names)))}
    added: dict[str, str] = {}
    for name in said.values():
        if isinstance(name, str) and comparable(name) not in names:
            added.setdefault(comparable(name), name)
    names |= {form: len(book.class_names) + i for i, form in enumerate(added)}
    labels = {
        j: names[comparable(name)] if isinstance(name, str) else REJECT for j, name in said.items()
    }
    labels = {
        j: label
        for j, label in labels.items()
        if book.labels[j] != book.resolve(label) and j not in asked  # an answer will come
    }
    if not labels:
        return []
    step = int(arrays["step"])
    return [Entry("correct", step, tuple(labels), tuple(labels.values()), tuple(added.values()))]


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
    place = whereabouts.places(arrays, task)
    sets, mask = state.candidates.copy(), state.candidate_mask.copy()
    same = _is_same(arrays, place, len(state.pool))
    if "candidates" in arrays and same and sets_as_then:
        sets, mask = arrays["candidates"].copy(), arrays["candidate_mask"].copy()
    query = None
    if "query" in arrays and (sets_as_then or "answer" in arrays):
        choice, images = int(arrays["query"]), arrays["queried_images"]
        query = Query(
            choice,
            arrays.get("answer"),
            indices=images[images >= 0],
            new_classes=tuple(whereabouts.read(arrays, "new_classes", [])),
        ).of_images(place)
        if not len(query.indices):
            query = None
        else:
            sets[choice], mask[choice] = PADDING, True
            sets[choice, : len(query.indices)] = query.indices
    state = dataclasses.replace(state, candidates=read_only(sets), candidate_mask=read_only(mask))
    return query, state
