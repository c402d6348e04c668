"""All images of a part of a data set, of which each episode takes some.

What frozen layers compute of them is then the same for all episodes, and is kept in a folder.
"""

import functools
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from emoc_tf.data import views


class Whole:
    """Images of which episodes take some, as the model takes them.

    Args:
        images: (n, H, W, channels), in memory.
        mean: See `views.ImageView`.
        factor: See `views.ImageView`.
        folder: Where what is computed of them is kept.

    Attributes:
        images: (n, H, W, channels) view of all of them.
    """

    def __init__(
        self, images: np.ndarray, mean: np.ndarray | None, factor: float, folder: str | Path
    ) -> None:
        self._raw, self._centred = images, repr((None if mean is None else mean.tolist(), factor))
        self.images = views.ImageView(images, mean=mean, factor=factor)
        self.folder = Path(folder).expanduser()

    def part(self, rows: np.ndarray) -> views.ImageView:
        """Returns a view of some images, whose `whole` and `rows` tell where they come from."""
        found = self.images.take(rows)
        found.whole = self
        return found

    @functools.cached_property
    def digest(self) -> str:
        """A hash of all images, and of what is subtracted and multiplied."""
        digest = hashlib.sha256(repr((self._raw.shape, str(self._raw.dtype))).encode())
        digest.update(self._centred.encode())
        for block in views.batches(self._raw, 4096):
            digest.update(np.ascontiguousarray(block))
        return digest.hexdigest()


def whole_of(images: Any) -> Whole | None:
    """Returns of which images a view shows some; None if that is not known."""
    return getattr(images, "whole", None)
