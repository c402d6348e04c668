"""Outputs of a frozen prefix: in memory, in a file of its own, or in one that is found again.

Images of a folder with a store have a place on the disk, and are known by their content. What a
prefix gives of them is kept beside them as `frozen-KEY.npy`, where KEY is a hash of the prefix's
weights and layers and of the images. A file that is found counts if the first images give its bits
today; where a machine of another kind, which gives others, was before, its file stays and a second
one, `frozen-KEY-BITS.npy`, is written beside. Images of a data set of which each episode takes some
may have a folder for such files too: there the outputs of all images are kept, and computed by the
first process that needs them.
"""

import contextlib
import errno
import functools
import hashlib
import logging
import math
import os
import secrets
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from emoc_tf.data import views
from emoc_tf.data.whole import Whole, whole_of
from emoc_tf.models.forward import FORWARD_BATCH, batch_of
from emoc_tf.storage import atomic
from emoc_tf.storage.locks import FolderLock
from emoc_tf.storage.system_locks import lock

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
        return _written(file, parts, images, FILES)
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
                found = _written(file, parts, whole.images, FILES_OF_WHOLES)
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
    parts: Parts, images: Any, room: Callable[[tuple[int, ...], np.dtype], Any]
) -> np.ndarray:
    found, first, done, told, begun = None, 0, 0, False, None
    for start, outputs in parts(images):
        if found is None:
            found = room((len(images), *outputs.shape[1:]), outputs.dtype)
        found[start : start + len(outputs)] = outputs
        if begun is None:  # the first part takes longer, and tells nothing of the others
            begun, first = time.monotonic(), len(outputs)
            continue
        done += len(outputs)
        rest = len(images) - first - done
        left = (time.monotonic() - begun) * rest / done
        if not told and left > LONG:
            _LOG.info(
                "computing what frozen layers make of %d images, once: some %d seconds more",
                len(images), left,
            )  # fmt: skip
            told = True
    return found


def _room(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    if math.prod(shape) * dtype.itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:  # it goes with the last reference
        found = np.memmap(file, dtype, "w+", shape=shape)
        try:
            _reserve(file.fileno())
        except OSError as error:
            raise OSError(
                f"frozen layers: expected room for what they compute of {shape[0]} images, "
                f"{found.nbytes / 2**30:.1f} GiB, in the folder of temporary files, "
                f"{tempfile.gettempdir()}, got {error}; set TMPDIR to a folder with more"
            ) from None
        return found


def _reserve(file: int) -> None:
    """Takes the room of a file now; raises `OSError` where there is none.

    A mapped page for which none is found later ends the process, by a signal and without a word.
    """
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    try:
        os.posix_fallocate(file, 0, os.fstat(file).st_size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
            raise


def _found(file: Path, run: Run, images: Any) -> np.ndarray | None:
    """Returns what is in a file if it is what the prefix gives today."""
    first = None
    for each in sorted(file.parent.glob(f"{file.stem}*.npy")):
        found = _opened(each)
        if found is None:
            continue
        if first is None:
            first = run(next(views.batches(images, batch_of(images.shape)))).numpy()
        fits = found.shape == (len(images), *first.shape[1:]) and found.dtype == first.dtype
        if fits and np.array_equal(found[: len(first)], first):
            return found
    return None


def _opened(file: Path) -> np.ndarray | None:
    """Returns what lies in a file, None if it is damaged or not there."""
    try:
        return np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return None


def _written(file: Path, parts: Parts, images: Any, most: int) -> np.ndarray:
    """Writes outputs into a file aside, which gets its name when it is whole.

    Args:
        file: Its name in the end, unless there is a whole file of that name: a process of another
            machine, whose bits are others, may have it mapped, and would end where it is replaced.
        parts: What computes them.
        images: See `kept`.
        most: How many such files the folder keeps, the newest.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(aside, "xb") as held:
            with contextlib.suppress(OSError):  # not every file system has locks
                lock(held.fileno())  # nobody takes it for what a killed process left
            mapped = _fill(parts, images, lambda *kind: _mapped(aside, *kind))
            mapped.flush()
            there = _opened(file)
            if there is not None and there.shape == mapped.shape:
                bits = hashlib.sha256(mapped[: batch_of(images.shape)].tobytes()).hexdigest()[:8]
                file = file.with_stem(f"{file.stem}-{bits}")
            os.replace(aside, file)
    finally:
        aside.unlink(missing_ok=True)
    files = sorted(file.parent.glob("frozen-*.npy"), key=lambda each: each.stat().st_mtime)
    for old in files[:-most]:
        with contextlib.suppress(OSError):  # it may be in use
            old.unlink()
    return np.load(file, mmap_mode="r")


def _mapped(file: Path, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    mapped = np.lib.format.open_memmap(file, "w+", dtype, shape)
    with open(file, "r+b") as opened:
        _reserve(opened.fileno())
    return mapped
