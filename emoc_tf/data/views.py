"""Images that stay where they are, such as on a disk, and are read some at a time."""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emoc_tf.data.indexing import positions

# What is read of a source at once, in bytes; never more than fits a processor's memory easily.
_AT_ONCE = 1 << 25


class Stored(NamedTuple):
    """Images that are kept in a folder.

    Attributes:
        folder: Of their store.
        sha256: What each one is known by.
    """

    folder: Path
    sha256: tuple[str, ...]


class ImageView:
    """Images of a source as a model takes them, read when they are indexed and not before.

    It has what an array has that is only read: `len`, `shape`, `ndim`, `dtype` and indexing of
    images. Each reading is a new array, so that nothing can be written through a view. With
    `numpy.asarray(view)` or `view[:]` all images are read into memory.

    Args:
        images: (n, ...) uint8 or floating, such as an array, a memory map, another view, or
            anything with `shape`, `dtype` and indexing by an array of ascending integers. An image
            may not change while the view is used.
        indices: (k,) which images of the source the view has, in this order; None for all. Negative
            ones count from the end, and a boolean mask chooses, as in NumPy.
        mean: An image that is subtracted, of the shape of one; None for images as they are.
        factor: What images are multiplied by after that, see `centred`.

    Attributes:
        dtype: float32.
        shape: (k, ...).
        whole: All images of the source, where what is computed of them is kept; see `data.whole`.

    Raises:
        ValueError: An argument is of another kind.
        IndexError: `indices` names an image that is not there.
    """

    dtype = np.dtype(np.float32)
    whole: Any = None

    def __init__(
        self,
        images: Any,
        indices: np.ndarray | None = None,
        mean: np.ndarray | None = None,
        factor: float = 1.0,
    ) -> None:
        if not is_array_like(images):
            images = np.asarray(images)
        shape, dtype = tuple(map(int, images.shape)), np.dtype(images.dtype)
        if not shape or (dtype != np.uint8 and dtype.kind != "f"):
            raise ValueError(
                f"images: expected images (n, ...) of dtype uint8 or floating, got {dtype} of "
                f"shape {shape}"
            )
        if mean is not None:
            mean = np.array(mean)
            mean = mean if mean.dtype.kind == "f" else mean.astype(np.float64)
            if mean.shape != shape[1:] or not np.isfinite(mean).all():
                raise ValueError(
                    f"mean: expected a finite image of shape {shape[1:]}, got shape {mean.shape}"
                )
            mean = read_only(mean)
        if not _is_finite(factor) or (mean is None and factor != 1):
            raise ValueError(
                f"factor: expected a finite number, and 1 for images without a mean, got {factor!r}"
            )
        self._source = read_only(images) if isinstance(images, np.ndarray) else images
        self._mean, self._factor = mean, float(factor)
        every = np.arange(shape[0])
        self._indices = read_only(every if indices is None else _rows(every, indices))
        self.shape = (len(self._indices), *shape[1:])

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def rows(self) -> np.ndarray:
        """(k,) which images of the source the view has."""
        return self._indices

    @property
    def stored(self) -> Stored | None:
        """Where these images lie, as they are; None where the source has no store."""
        stored = None if self._mean is not None else getattr(self._source, "stored", None)
        if stored is None:
            return None
        return Stored(stored.folder, tuple(stored.sha256[i] for i in self._indices))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"ImageView of shape {self.shape}"

    @property
    def parts(self) -> tuple[Any, np.ndarray, np.ndarray | None, float]:
        """What the view was made of: source, indices, mean and factor."""
        return self._source, self._indices, self._mean, self._factor

    def take(self, indices: np.ndarray) -> "ImageView":
        """Returns a view of some of the images, without reading any.

        Args:
            indices: (k,) which, as `indices` above; of this view.
        """
        view = object.__new__(ImageView)
        view.__dict__.update(self.__dict__)
        view._indices = read_only(_rows(self._indices, indices))
        view.shape = (len(view._indices), *self.shape[1:])
        return view

    def __getitem__(self, key: Any) -> np.ndarray:
        """Reads images, as float32.

        Args:
            key: An integer, a slice, an array of integers or a boolean mask, as NumPy takes them.

        Raises:
            IndexError: Of another kind, or there is no such image.
        """
        if isinstance(key, tuple):
            raise IndexError(
                f"expected one index, of images; got {len(key)}; read images first: "
                f"images[rows][:, ...]"
            )
        rows = self._indices[key]
        return self._read(rows.ravel()).reshape(*rows.shape, *self.shape[1:])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("copy: expected None or True, since images are read into a new array")
        found = self[:]
        return found if dtype is None else found.astype(dtype, copy=False)

    def __getstate__(self) -> dict[str, Any]:
        """A file that is mapped stays where it is: its name is pickled and not its images."""
        return {**self.__dict__, "_source": place_of(self._source) or self._source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            value = value.open() if isinstance(value, Place) else value
            self.__dict__[name] = read_only(value) if isinstance(value, np.ndarray) else value

    def _read(self, rows: np.ndarray) -> np.ndarray:
        """Returns (k, ...) float32 images of the source."""
        found = np.empty((len(rows), *self.shape[1:]), np.float32)
        image_bytes = np.dtype(self._source.dtype).itemsize * int(np.prod(self.shape[1:]))
        size = max(1, _AT_ONCE // max(1, image_bytes))
        # In the order in which they lie there, and each once.
        order = np.argsort(rows, kind="stable")
        for start in range(0, len(order), size):
            places = order[start : start + size]
            raw = read(self._source, rows[places])
            if self._mean is None:
                found[places] = raw
            else:
                found[places] = centred(raw, self._mean, self._factor)
        return found


def centred(images: np.ndarray, mean: np.ndarray, factor: float) -> np.ndarray:
    """Returns (images − mean) · factor as float32.

    Args:
        images: (n, H, W, channels), uint8 or floating.
        mean: (H, W, channels) float64.
        factor: See `pixels.factor_to_pixels`.
    """
    result = np.empty(images.shape, np.float32)
    # In float64, some thousand numbers at a time: no array of that precision is made.
    np.subtract(images, mean, out=result)
    if factor != 1:
        result *= np.float32(factor)
    return result


def is_array_like(images: Any) -> bool:
    """Whether images are an array, or are read by indexing as one is.

    That takes `shape`, a `dtype` of NumPy's, and indexing by an array of ascending integers.
    """
    try:
        np.dtype(images.dtype)
    except (AttributeError, TypeError):
        return False
    return isinstance(images.shape, tuple | list) and hasattr(images, "__getitem__")


def in_memory(images: Any) -> bool:
    """Whether images are an array, and none that is mapped from a file, nor a part of one."""
    return isinstance(images, np.ndarray) and _map_of(images) is None


def read(images: Any, rows: np.ndarray) -> np.ndarray:
    """Returns some images of an array-like as an array, each read once and in their order there.

    Args:
        images: (n, ...), see `is_array_like`.
        rows: (k,) integers in [0, n), in any order.

    Raises:
        ValueError: Indexing returned something else.
    """
    if in_memory(images):
        return images[rows]
    distinct, places = np.unique(rows, return_inverse=True)
    found = np.asarray(images[distinct])
    shape = (len(distinct), *images.shape[1:])
    if found.shape != shape or found.dtype != images.dtype:
        raise ValueError(
            f"images: expected {np.dtype(images.dtype)} of shape {shape} from indexing by "
            f"{len(distinct)} integers, got {found.dtype} of shape {found.shape}"
        )
    return found if np.array_equal(distinct, rows) else found[places]


def batches(images: Any, size: int) -> Iterator[np.ndarray]:
    """Yields all images of an array-like in order, `size` at a time, as arrays."""
    count = images.shape[0]
    for start in range(0, count, size):
        if in_memory(images):
            yield images[start : start + size]
        else:
            yield read(images, np.arange(start, min(start + size, count)))


def first_not_finite(images: np.ndarray) -> int | None:
    """Returns the index of the first image (n, ...) with NaN or infinity; None if there is none."""
    finite = np.isfinite(images)
    if finite.all():
        return None
    return int(np.argmin(finite.reshape(len(images), -1).all(axis=1)))


def read_only(array: np.ndarray) -> np.ndarray:
    """Returns a view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


class Place(NamedTuple):
    """Where in which file an array lies."""

    path: str
    offset: int
    dtype: np.dtype
    shape: tuple[int, ...]

    def open(self) -> np.ndarray:
        """Returns the array, mapped into memory; raises `OSError` where there is no such file."""
        return np.memmap(self.path, self.dtype, "r", self.offset, self.shape)


def place_of(images: Any) -> Place | None:
    """Returns where a file holds the images; None where it does not hold exactly these.

    Args:
        images: An array, or what has one as `mapped`, such as an `ImageFolder` with a store.
    """
    images = getattr(images, "mapped", images)
    file = _map_of(images) if isinstance(images, np.ndarray) else None
    whole = isinstance(file, np.memmap) and file.filename is not None and file.mode != "c"
    if not whole or not images.flags.c_contiguous:
        return None
    # Where a map begins, in the file and in memory.
    begin = file.offset - file.offset % mmap.ALLOCATIONGRANULARITY
    address = np.frombuffer(file._mmap, np.uint8).ctypes.data
    offset = begin + images.ctypes.data - address
    return Place(str(file.filename), offset, images.dtype, images.shape)


def _map_of(images: np.ndarray) -> Any:
    """Returns the memory map, or the bare `mmap`, that an array is a part of, or None."""
    part: Any = images
    while isinstance(part, np.ndarray):
        if isinstance(part, np.memmap) and part._mmap is not None:
            return part
        part = part.base
    return part if isinstance(part, mmap.mmap) else None


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and bool(np.isfinite(value))


def _rows(of: np.ndarray, indices: Any) -> np.ndarray:
    """Returns `of[indices]`, a copy, for a list of integers, a mask or a slice."""
    found = of[positions(indices, len(of))]
    if found.ndim != 1:
        raise ValueError(f"indices: expected shape (k,), got {np.shape(indices)}")
    return found.copy()
