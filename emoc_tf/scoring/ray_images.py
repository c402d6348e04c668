"""Images on their way to actors: the name of the file that holds them, or else themselves, once."""

import collections
import contextlib
import hashlib
import logging
import os
import pickle
import socket
from typing import Any, NamedTuple

import keras
import numpy as np

from emoc_tf.cluster.connection import ray
from emoc_tf.cluster.tasks import AtOnceError
from emoc_tf.data import views
from emoc_tf.scoring.images import Images

_LOG = logging.getLogger("emoc_tf.cluster")

_KEPT = 4  # sources that are held: of a call the reference images and the others
_MOST = 1 << 20  # bytes of a description; more of them are images
# Of a copy: a file of so many bytes is compared whole, and of a larger one so many images.
_WHOLE, _COMPARED = 1 << 25, 256


class Source(NamedTuple):
    """An array or array-like, as it is sent.

    Attributes:
        key: Told from those of all others.
        place: How it is opened where it lies, a pickle; None for what lies in memory.
        compared: Which images tell whether the same ones lie there, and a digest of these, some at
            a time.
        held: A reference to the images, or nothing as long as all actors see the place.
    """

    key: str
    place: bytes | None
    compared: list[tuple[range, str]]
    held: tuple


class Sent(NamedTuple):
    """`Images`, as they are sent.

    Attributes:
        source: Where they lie.
        rows: (k,) which of it; None for all.
        view: Mean and factor of an `ImageView` of the source; None where there is none.
        name: The argument's name, for messages.
    """

    source: Source
    rows: np.ndarray | None
    view: tuple[np.ndarray | None, float] | None
    name: str


class UnseenError(AtOnceError):
    """An actor does not see the place of a source, or others lie there.

    Attributes:
        key: Of the source.
        host: Where the actor is.
        reason: What is there, in words.
    """

    def __init__(self, key: str, host: str, reason: str) -> None:
        super().__init__(key, host, reason)
        self.key, self.host, self.reason = key, host, reason


class Sender:
    """What was sent; images in memory are sent once, as long as they stay as they are."""

    def __init__(self) -> None:
        self._sources: collections.OrderedDict[str, tuple[Any, Source]] = collections.OrderedDict()
        self._count = 0

    def send(self, images: Images) -> Sent:
        """Returns images as they are sent."""
        source, rows = images.place
        view = None
        if isinstance(source, views.ImageView):
            source, indices, mean, factor = source.parts
            rows, view = indices[rows], (mean, factor)
        if len(rows) == source.shape[0] and np.array_equal(rows, np.arange(len(rows))):
            rows = None
        elif source.shape[0] < 2**31:
            rows = rows.astype(np.int32)
        # Those of a view stay as they are; an array may be written to between two calls.
        return Sent(self._source(source, view is not None), rows, view, images.name)

    def send_whole(self, unseen: UnseenError) -> None:
        """Sends the images of a source that an actor does not see at its place."""
        for name, (source, sent) in self._sources.items():
            if sent.key == unseen.key:
                place = views.place_of(source)
                told = unseen.host, unseen.reason, place.path if place else source
                _LOG.warning(
                    "images of shape %s are sent over the network: %s %s at %s; a folder that all "
                    "machines share, or a copy that is made anew there, needs no sending",
                    tuple(source.shape), *told,
                )  # fmt: skip
                self._sources[name] = source, sent._replace(held=(_put(source),))

    def _source(self, source: Any, fixed: bool) -> Source:
        place = None
        if not views.in_memory(source):
            opened = views.place_of(source)
            if opened is None and not isinstance(source, np.ndarray):
                opened = source
            with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
                place = None if opened is None else ray().cloudpickle.dumps(opened)
        if place is not None:
            # A file that was put in the place of another one holds other images.
            name = hashlib.sha256(place + _file_of(opened, source)).hexdigest()
        elif fixed:
            name = str(id(source))  # which nothing else has while it is held here
        else:
            name = _digest(_read(source))
        if name not in self._sources:
            self._count += 1
            held = ()
            if place is None:
                held = (_put(source),)
            elif len(place) > _MOST:
                held, place = (ray().put(source),), None
            sent = Source(str(self._count), place, [] if held else _compared(source), held)
            self._sources[name] = source, sent
            while len(self._sources) > _KEPT:
                self._sources.popitem(last=False)
        self._sources.move_to_end(name)
        return self._sources[name][1]


class Receiver:
    """What was received, in an actor."""

    def __init__(self) -> None:
        self._sources: collections.OrderedDict[str, Any] = collections.OrderedDict()

    def images(self, sent: Sent, model: keras.Model) -> Images:
        """Returns images that were sent.

        Args:
            sent: As they were sent.
            model: The one that takes them.

        Raises:
            UnseenError: The place is not there, or holds others.
        """
        source = self._source(sent.source)
        if sent.view is not None:
            source = views.ImageView(source, None, *sent.view)
        return Images(source, sent.name, model, sent.rows)

    def _source(self, sent: Source) -> Any:
        if sent.key not in self._sources:
            self._sources[sent.key] = _opened(sent)
            while len(self._sources) > _KEPT:
                self._sources.popitem(last=False)
        self._sources.move_to_end(sent.key)
        return self._sources[sent.key]


def _file_of(opened: Any, source: Any) -> bytes:
    """Returns which file lies at a place; nothing where it is no place in a file."""
    if not isinstance(opened, views.Place):
        return b""
    try:
        found = os.stat(opened.path)
    except OSError:  # it is gone, and lives on in this map alone
        return str(id(source)).encode()
    return repr((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)).encode()


def _opened(sent: Source) -> Any:
    reason = "does not see where they lie"
    if sent.place is not None:
        try:
            source = pickle.loads(sent.place)
            source = source.open() if isinstance(source, views.Place) else source
            other = next(
                (rows for rows, digest in sent.compared if _digest_of(source, rows) != digest), None
            )
        except Exception as error:  # whatever a place that is not there makes of it
            reason = f"{reason} ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        else:
            if other is None:
                return source
            reason = f"has other images ({_named(other)})"
    if sent.held:
        return ray().get(sent.held[0])
    raise UnseenError(sent.key, socket.gethostname(), reason)


def _put(source: Any) -> Any:
    """Returns a reference to all images of a source."""
    return ray().put(_read(source))


def _read(source: Any) -> np.ndarray:
    if isinstance(source, np.ndarray):
        return np.asarray(source)
    return np.asarray(views.read(source, np.arange(source.shape[0])))


def _compared(source: Any) -> list[tuple[range, str]]:
    """Returns which images of a source are compared with those of a copy, and their digests."""
    count = source.shape[0]
    size = count * int(np.prod(source.shape[1:])) * np.dtype(source.dtype).itemsize
    if views.place_of(source) is not None and size <= _WHOLE:
        step = -(-count // _COMPARED)
        parts = [range(i, min(i + step, count)) for i in range(0, count, step)]
    else:
        rows = {0, count // 2, count - 1}
        if not hasattr(source, "sha256") or getattr(source, "mapped", None) is not None:
            # Images that are decoded are known by their files, each time.
            drawn = np.random.default_rng(0).choice(count, min(_COMPARED, count), replace=False)
            rows.update(map(int, drawn))
        parts = [range(row, row + 1) for row in sorted(rows)]
    return [(rows, _digest_of(source, rows)) for rows in parts]


def _digest_of(source: Any, rows: range) -> str:
    return _digest(views.read(source, np.arange(rows.start, rows.stop)))


def _named(rows: range) -> str:
    return f"image {rows[0]}" if len(rows) == 1 else f"one of images {rows[0]} to {rows[-1]}"


def _digest(images: np.ndarray) -> str:
    told = hashlib.blake2b(repr((images.dtype.str, images.shape)).encode(), digest_size=20)
    told.update(np.ascontiguousarray(images).data)
    return told.hexdigest()
