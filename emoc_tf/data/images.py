"""Images with their class ids, as NumPy arrays."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from emoc_tf.data import views
from emoc_tf.data.views import read_only

# Images that `check_unchanged` looks at.
_CHECKED = 32
# Images looked at in one go.
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images with their class ids; nothing can be written through them.

    Images are often most of a machine's memory, or lie on a disk, so that they are not copied:
    `images` is a view of the array given, a memory map too; what is no array but can be read like
    one, such as an `ImageFolder` or an array in an HDF5 file, stays as it is and is never read as a
    whole. Of uint8 images only a few are read. Do not write
    to that array while the data are used; `check_unchanged`, which each new episode calls, refuses
    what was written over as a whole. An episode that is running has images of its own.

    Attributes:
        images: (n, H, W, channels); uint8 or floating. An array, a memory map, or anything with
            `len`, `shape`, a NumPy `dtype` and indexing by an array of ascending integers, see
            `views.is_array_like`. What a model gets of them is told in `Exploration`.
        labels: (n,) int64 class ids, each in [0, len(class_names)); a copy.
        class_names: One name a class id.
        paths: (n,) the file of each image, where it was read from one and `images` does not tell.

    Raises:
        ValueError: Wrong shape, dtype or length, a label out of range, or a non-finite pixel.

    Example:
        >>> import numpy as np
        >>> from emoc_tf import ImageData
        >>> pixels = np.zeros((3, 8, 8, 1), np.uint8)
        >>> data = ImageData(pixels, labels=[0, 1, 1], class_names=["cat", "dog"])
        >>> data.images.shape, data.labels
        ((3, 8, 8, 1), array([0, 1, 1]))
        >>> ImageData(pixels, [0, 1, 2], ["cat", "dog"])
        Traceback (most recent call last):
            ...
        ValueError: labels: expected class ids in [0, 2), the number of class_names, got
            values in [0, 2]; emoc_tf.Task takes images without a label (-1)
    """

    images: Any
    labels: np.ndarray
    class_names: tuple[str, ...]
    paths: Sequence[str] | None = field(default=None, kw_only=True)
    _checksum: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            given = self.images
            images = given if views.is_array_like(given) else np.asarray(given)
            labels = np.asarray(self.labels)
        except ValueError:
            raise ValueError("images: expected images of one shape, got several") from None
        if isinstance(self.class_names, str) or not all(
            isinstance(name, str) for name in _sequence(self.class_names)
        ):
            raise ValueError(f"class_names: expected a sequence of names, got {self.class_names!r}")
        if len(images.shape) != 4 or 0 in images.shape:
            raise ValueError(
                f"images: expected a non-empty array (n, H, W, channels), got shape {images.shape}"
            )
        dtype = np.dtype(images.dtype)
        if dtype != np.uint8 and dtype.kind != "f":
            raise ValueError(
                f"images: expected dtype uint8 or floating, got {dtype}; pixels in 0-255 "
                f"are .astype(np.uint8), others floats, divided by the greatest possible value"
            )
        if dtype.kind == "f":
            _check_finite(images)
        if labels.shape != tuple(images.shape[:1]):
            raise ValueError(
                f"labels: expected shape ({images.shape[0]},), one an image, got {labels.shape}"
            )
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels: expected integer class ids, got dtype {labels.dtype}")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise ValueError(
                f"labels: expected class ids in [0, {len(self.class_names)}), the number of "
                f"class_names, got values in [{labels.min()}, {labels.max()}]; emoc_tf.Task "
                f"takes images without a label (-1)"
            )
        lazy = not isinstance(images, np.ndarray)
        object.__setattr__(self, "images", images if lazy else read_only(images))
        object.__setattr__(self, "labels", read_only(labels.astype(np.int64)))
        object.__setattr__(self, "class_names", tuple(self.class_names))
        object.__setattr__(self, "_checksum", _checksum(images))

    def check_unchanged(self) -> None:
        """Checks some images spread over all of them, which costs the same for any number.

        Raises:
            ValueError: One of them is not what it was, since the array given was written to.
        """
        if _checksum(self.images) != self._checksum:
            raise ValueError(
                "images: expected those that ImageData was made of, got others, since the array "
                "was written to; give ImageData a copy (images.copy())"
            )


def _check_finite(images: Any) -> None:
    for number, block in enumerate(views.batches(images, _BLOCK)):
        bad = views.first_not_finite(block)
        if bad is not None:
            raise ValueError(
                f"images: expected finite pixels, got NaN or infinity in image "
                f"{number * _BLOCK + bad}"
            )


def _checksum(images: Any) -> int:
    chosen = np.linspace(0, images.shape[0] - 1, min(images.shape[0], _CHECKED)).astype(int)
    return zlib.crc32(np.ascontiguousarray(views.read(images, chosen)))


def _sequence(value: Any) -> tuple:
    return tuple(value) if isinstance(value, Iterable) else (value,)
