"""Images with their class ids, as NumPy arrays."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# Images that `check_unchanged` looks at.
_CHECKED = 32


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images with their class ids; nothing can be written through them.

    Images are often most of a machine's memory, or lie on a disk, so that they are not copied:
    `images` is a view of the array given. Do not write to that array while the data are used;
    `check_unchanged`, which each new episode calls, refuses what was written over as a whole. An
    episode that is running has images of its own.

    Attributes:
        images: (n, H, W, channels); uint8 or floating. What a model gets of them is told in
            `Exploration`.
        labels: (n,) int64 class ids, each in [0, len(class_names)); a copy.
        class_names: One name a class id.

    Raises:
        ValueError: Wrong shape, dtype or length, a label out of range, or a non-finite pixel.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    _checksum: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        try:
            images, labels = np.asarray(self.images), np.asarray(self.labels)
        except ValueError:
            raise ValueError("images: expected images of one shape, got several") from None
        if isinstance(self.class_names, str) or not all(
            isinstance(name, str) for name in _sequence(self.class_names)
        ):
            raise ValueError(f"class_names: expected a sequence of names, got {self.class_names!r}")
        if images.ndim != 4 or 0 in images.shape:
            raise ValueError(
                f"images: expected a non-empty array (n, H, W, channels), got shape {images.shape}"
            )
        if images.dtype != np.uint8 and images.dtype.kind != "f":
            raise ValueError(
                f"images: expected dtype uint8 or floating, got {images.dtype}; pixels in 0-255 "
                f"are .astype(np.uint8), others floats, divided by the greatest possible value"
            )
        if images.dtype.kind == "f" and not np.isfinite(images).all():
            bad = int(np.argmin(np.isfinite(images).all(axis=(1, 2, 3))))
            raise ValueError(f"images: expected finite pixels, got NaN or infinity in image {bad}")
        if labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels: expected shape ({len(images)},), one an image, got {labels.shape}"
            )
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels: expected integer class ids, got dtype {labels.dtype}")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise ValueError(
                f"labels: expected class ids in [0, {len(self.class_names)}), the number of "
                f"class_names, got values in [{labels.min()}, {labels.max()}]; images without a "
                f"label are scored by emoc_tf.scoring, which needs none"
            )
        object.__setattr__(self, "images", read_only(images))
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


def _checksum(images: np.ndarray) -> int:
    chosen = np.linspace(0, len(images) - 1, min(len(images), _CHECKED)).astype(int)
    return zlib.crc32(np.ascontiguousarray(images[chosen]))


def _sequence(value: Any) -> tuple:
    return tuple(value) if isinstance(value, Iterable) else (value,)


def read_only(array: np.ndarray) -> np.ndarray:
    """Returns a view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view
