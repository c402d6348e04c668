"""Images that scorers get: checked, and read some at a time, wherever they lie."""

from typing import Any

import keras
import numpy as np

from emoc_tf.data import views
from emoc_tf.models.checks import check_integers
from emoc_tf.models.forward import batch_of


class Images:
    """Images as a model takes them, read by indexing and checked as they are read.

    Args:
        source: (n, ...) an array or an array-like, see `data.views`.
        name: The argument's name, for messages.
        model: The model with one input.
        rows: (k,) which images of the source; None for all.

    Attributes:
        shape: (k, ...).
        dtype: Of what is read: the source's, or the integers that the model takes.
    """

    def __init__(
        self, source: Any, name: str, model: keras.Model, rows: np.ndarray | None = None
    ) -> None:
        self._source, self._name, self._model = source, name, model
        self._rows = np.arange(source.shape[0]) if rows is None else rows
        self.shape = (len(self._rows), *source.shape[1:])
        wanted = model.inputs[0].dtype
        self.dtype = np.dtype(source.dtype if "float" in wanted else wanted)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def name(self) -> str:
        """The argument's name, for messages."""
        return self._name

    @property
    def place(self) -> tuple[Any, np.ndarray]:
        """The source, and which of its images these are."""
        return self._source, self._rows

    def take(self, rows: np.ndarray) -> "Images":
        """Returns some of the images, (k,) indices of these; nothing is read."""
        return Images(self._source, self._name, self._model, self._rows[rows])

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Reads images, (k,) indices.

        Raises:
            ValueError: Values that are not finite, or, for a model that takes integers, fractions
                or values out of their range.
        """
        return self._checked(views.read(self._source, self._rows[rows]), self._rows[rows])

    def check(self) -> None:
        """Looks at all images; raises `ValueError` as reading them does."""
        size = batch_of(self.shape)
        for start in range(0, len(self), size):
            rows = self._rows[start : start + size]
            self._checked(self._source[start : start + size], rows)

    def _checked(self, images: np.ndarray, rows: np.ndarray) -> np.ndarray:
        bad = views.first_not_finite(images)
        if bad is not None:
            value = images[bad][~np.isfinite(images[bad])][0]
            raise ValueError(
                f"{self._name}: expected finite numbers, got {value} in image {rows[bad]}"
            )
        return check_integers(images, self._name, self._model)


def check_images(images: Any, name: str, model: keras.Model) -> Images:
    """Returns images (n, ...), n > 0, of the shape that a model takes.

    An array in memory is checked at once. What lies elsewhere is checked as it is read.

    Args:
        images: What was given: an array or what makes one, or an array-like, see `data.views`.
        name: The argument's name, for the message.
        model: The model with one input, of any size where its shape says None.

    Raises:
        ValueError: Another shape or dtype, no image, or, of an array, see `Images`.
    """
    if not views.is_array_like(images):
        images = np.asarray(images)
    have, shape = tuple(images.shape[1:]), model.inputs[0].shape[1:]
    fits = len(have) == len(shape) and all(
        want in (None, size) for want, size in zip(shape, have, strict=True)
    )
    if not fits or not images.shape or not images.shape[0]:
        raise ValueError(
            f"{name}: expected a non-empty array (n, {', '.join(map(str, shape))}), got shape "
            f"{tuple(images.shape)}"
        )
    if np.dtype(images.dtype).kind not in "fiu":
        raise ValueError(f"{name}: expected numbers, got dtype {images.dtype}")
    found = Images(images, name, model)
    if views.in_memory(images):
        found.check()
    return found
