"""Outputs of a frozen prefix: in memory, in a file of its own, or in one that is found again.

Images of a folder with a store have a place on the disk, and are known by their content. What a
prefix gives of them is kept beside them as `frozen-KEY.npy`, where KEY is a hash of the prefix's
weights and layers and of the images. A file that is found counts if the first images give its bits
today; where a machine of another kind, which gives others, was before, its file stays and a second
one, `frozen-KEY-BITS.npy`, is written beside. Images of a data set of which each episode takes some
may have a folder for such files too: there the outputs of all images are kept, and computed by the
first process that needs them. What is interrupted goes on where it was, see `unfinished`.
"""

import contextlib
import errno
import functools
import hashlib
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from emoc_tf.data import views
from emoc_tf.data.whole import Whole, whole_of
from emoc_tf.models.forward import FORWARD_BATCH, batch_of
from emoc_tf.models.unfinished import left_over, opened, reserve, unfinished
from emoc_tf.storage import atomic
from emoc_tf.storage.locks import FolderLock

# Outputs without a store that take more bytes lie in a file that goes with the process.
IN_MEMORY = 2**30
# Files in a store, the newest; others are of weights that were changed.
FILES = 3
# In a folder for all that is kept of data sets: a training and a test part for each network.
FILES_OF_WHOLES = 24
# Seconds that are worth a line: nothing else is to be seen meanwhile.
LONG = 20

_LOG = logging.getLogger("emoc_tf")

Run = Callable[[tf.Tensor], tf.Tensor]
# Of images: the outputs of some of them, in any order, and which is the first of these.
Parts = Callable[[Any], Iterator[tuple[int, np.ndarray]]]


def kept(run: Run, images: Any, weights: bytes, elsewhere: Parts | None = None) -> np.ndarray:
    """Returns the outputs of all images, (n, ...), from their store if they are there.

    They are computed in batches of a constant size, in the order of the images: equal images give
    equal bits, wherever they lie.

    Args:
        run: The prefix, a compiled function of images.
        images: (n, ...), n > 0, as the model takes them, see `data.views`.
        weights: A hash of the prefix's weights and layers.
        elsewhere: What computes the outputs, with the bits of `run`; None for `run` itself.
    """
    parts = elsewhere or functools.partial(_parts, run)
    whole = whole_of(images)
    if whole is not None:
        return _kept_whole(run, parts, whole, weights)[images.rows]
    stored = getattr(images, "stored", None)
    if stored is None:
        return _fill(parts, images, _room)
    file = _file(stored.folder, weights, "\n".join(stored.sha256), images)
    found = _found(file, run, images)
    if found is not None:
        return found
    try:
        return _written(file, run, parts, images, FILES)
    except OSError:  # such as a disk that is full, or may not be written to
        return _fill(parts, images, _room)


def _kept_whole(run: Run, parts: Parts, whole: Whole, weights: bytes) -> np.ndarray:
    """Returns the outputs of all images of a part of a data set, (n, ...)."""
    file = _file(whole.folder, weights, whole.digest, whole.images)
    found = _found(file, run, whole.images)
    if found is not None:
        return found
    try:
        folder_lock = FolderLock(whole.folder)
        if folder_lock.held_elsewhere():
            _LOG.info(
                "waiting for %s, which computes what frozen layers make of images into %s",
                folder_lock.owner(), whole.folder,
            )  # fmt: skip
        with folder_lock:  # others wait for what one computes
            atomic.remove_asides(whole.folder)
            found = _found(file, run, whole.images)
            if found is None:
                found = _written(file, run, parts, whole.images, FILES_OF_WHOLES)
        return found
    except OSError as error:
        warnings.warn(
            f"cache_dir: what frozen layers compute cannot be kept in {whole.folder} ({error}), "
            f"and is computed anew for each run; name a folder that can be written to",
            stacklevel=2,
        )
        return _fill(parts, whole.images, _room)


def _file(folder: Path, weights: bytes, told: str, images: Any) -> Path:
    """Returns where outputs are kept, by all that their bits follow from."""
    size = batch_of(images.shape)
    batches = "" if size == FORWARD_BATCH else f"\n{size} at once"  # files of small images stay
    key = hashlib.sha256(weights + (told + batches).encode()).hexdigest()[:32]
    return folder / f"frozen-{key}.npy"


def computed(run: Run, images: Any) -> np.ndarray:
    """Returns the outputs of all images, in memory or, if they are large, in a nameless file."""
    return _fill(functools.partial(_parts, run), images, _room)


def _parts(run: Run, images: Any) -> Iterator[tuple[int, np.ndarray]]:
    start = 0
    for batch in views.batches(images, batch_of(images.shape)):
        yield start, run(batch).numpy()
        start += len(batch)


def _fill(
    parts: Parts,
    images: Any,
    room: Callable[[tuple[int, ...], np.dtype], Any],
    begin: int = 0,
    add: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Returns the outputs of all images.

    Args:
        parts: What computes them.
        images: (n, ...).
        room: Returns where they are put, by shape and type.
        begin: The first image whose outputs are not there yet.
        add: Called with start and stop of what is there now.
    """
    found = None
    for start, outputs in _told(parts(_from(images, begin)), len(images) - begin):
        if found is None:
            found = room((len(images), *outputs.shape[1:]), outputs.dtype)
        place = slice(begin + start, begin + start + len(outputs))
        found[place] = outputs
        if add is not None:
            add(place.start, place.stop)
    return found


def _from(images: Any, begin: int) -> Any:
    if not begin:
        return images
    if views.in_memory(images):
        return images[begin:]
    rows = np.arange(begin, len(images))
    return (
        images.take(rows) if isinstance(images, views.ImageView) else views.ImageView(images, rows)
    )


def _told(parts: Iterator[tuple[int, np.ndarray]], count: int) -> Iterator[tuple[int, np.ndarray]]:
    """Passes parts on, and says how long those to come will take if that is long."""
    first, done, told, begun = 0, 0, False, None
    for start, outputs in parts:
        yield start, outputs
        if begun is None:  # the first part takes longer, and tells nothing of the others
            begun, first = time.monotonic(), len(outputs)
            continue
        done += len(outputs)
        left = (time.monotonic() - begun) * (count - first - done) / done
        if not told and left > LONG:
            _LOG.info(
                "computing what frozen layers make of %d images, once: some %d seconds more",
                count, left,
            )  # fmt: skip
            told = True


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:  # it goes with the last reference
        found = np.memmap(file, dtype, "w+", shape=shape)
        try:
            reserve(file.fileno())
        except OSError as error:
            raise OSError(
                f"frozen layers: expected room for what they compute of {shape[0]} images, "
                f"{found.nbytes / 2**30:.1f} GiB, in the folder of temporary files, "
                f"{tempfile.gettempdir()}, got {error}; set TMPDIR to a folder with more"
            ) from None
        return found


def _found(file: Path, run: Run, images: Any) -> np.ndarray | None:
    """Returns what is in a file if it is what the prefix gives today."""
    first = None
    for each in sorted(file.parent.glob(f"{file.stem}*.npy")):
        found = opened(each)
        if found is None:
            continue
        if first is None:
            first = run(next(views.batches(images, batch_of(images.shape)))).numpy()
        fits = found.shape == (len(images), *first.shape[1:]) and found.dtype == first.dtype
        if fits and np.array_equal(found[: len(first)], first):
            return found
    return None


def _written(file: Path, run: Run, parts: Parts, images: Any, most: int) -> np.ndarray:
    """Writes outputs into a file, which gets its name when it is whole.

    What an interrupted process had computed of them is taken up.

    Args:
        file: Its name in the end, unless there is a whole file of that name: a process of another
            machine, whose bits are others, may have it mapped, and would end where it is replaced.
        run: The prefix.
        parts: What computes them.
        images: See `kept`.
        most: How many such files the folder keeps, the newest.
    """
    batch = batch_of(images.shape)
    with unfinished(file) as aside:
        begin = aside.begin(
            len(images), batch, lambda: run(next(views.batches(images, batch))).numpy()
        )
        if begin:
            _LOG.info("frozen layers: %d of %d images were computed before", begin, len(images))

        def room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
            try:
                return aside.room(shape, dtype)
            except OSError as error:
                others = left_over(file.parent, "frozen-*.npy")
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not others:
                    raise
            _remove(others)  # which nobody may ever take up
            return aside.room(shape, dtype)

        found = _fill(parts, images, room, begin, aside.add)
        there = opened(file)
        if there is not None and there.shape == found.shape:
            bits = hashlib.sha256(found[:batch].tobytes()).hexdigest()[:8]
            file = file.with_stem(f"{file.stem}-{bits}")
        aside.finish(file)
    files = [*file.parent.glob("frozen-*.npy"), *left_over(file.parent, "frozen-*.npy")]
    _remove(sorted(files, key=_written_at)[:-most])
    return np.load(file, mmap_mode="r")


def _remove(files: Iterable[Path]) -> None:
    for old in files:
        with contextlib.suppress(OSError):  # it may be in use
            old.unlink()
            old.with_name(f"{old.name}.rows").unlink(missing_ok=True)


def _written_at(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # another process was quicker to remove it, or gave it its name
        return 0.0
