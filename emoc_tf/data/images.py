"""Images with their class ids, as NumPy arrays."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images with their class ids; the arrays become read-only.

    Attributes:
        images: (n, H, W, channels); uint8 pixels in 0–255, or floats that the model eats as
            they are (see `Exploration`).
        labels: (n,) int64 class ids, each in [0, len(class_names)).
        class_names: One name a class id.

    Raises:
        ValueError: Wrong shape, dtype or length, a label out of range, or a non-finite pixel.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

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
            raise ValueError(f"images: expected dtype uint8 or floating, got {images.dtype}")
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
                f"class_names, got values in [{labels.min()}, {labels.max()}]"
            )
        object.__setattr__(self, "images", read_only(images))
        object.__setattr__(self, "labels", read_only(labels.astype(np.int64)))
        object.__setattr__(self, "class_names", tuple(self.class_names))


def _sequence(value: Any) -> tuple:
    return tuple(value) if isinstance(value, Iterable) else (value,)


def read_only(array: np.ndarray) -> np.ndarray:
    """Returns a view of `array` that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view
