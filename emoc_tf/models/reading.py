"""Where training gets its images from: memory, or a place that is read a portion at a time."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from emoc_tf.data import views

# Of images at once; while a portion is copied to the device, twice as many.
PORTION_BYTES = 2**25

# Of mini-batches of pool indices: the same in parts, each as indices into `Source.images`, with
# the labels of these.
Parts = Callable[[tf.Tensor], Iterator[tuple[tf.Tensor, tf.Tensor]]]


class Source(Protocol):
    """Images to gather mini-batches from.

    Attributes:
        images: (n, H, W, channels); which images these are changes while parts are drawn.
    """

    images: tf.Tensor | tf.Variable

    def reading(
        self, labels: np.ndarray, used: np.ndarray
    ) -> contextlib.AbstractContextManager[Parts]:
        """Reads images as long as the context lasts.

        Args:
            labels: (n_pool,) columns of the model's output.
            used: Ascending pool indices, the only ones that mini-batches hold.
        """


class InMemory:
    """All images on the device."""

    def __init__(self, images: np.ndarray) -> None:
        self.images = tf.constant(images)

    @contextlib.contextmanager
    def reading(self, labels: np.ndarray, used: np.ndarray) -> Iterator[Parts]:
        """See `Source`."""
        columns = tf.constant(labels, tf.int32)
        yield lambda batches: iter([(batches, columns)])


class ByIndex:
    """Images that are read by index, a portion at a time.

    If all that are used fit into a portion, each is read once.
    """

    def __init__(self, images: Any) -> None:
        self._source, self._shape = images, tuple(images.shape[1:])
        self._bytes_per_image = 4 * int(np.prod(self._shape))
        self.images = tf.Variable(self._nothing(), shape=[None, *self._shape], trainable=False)

    def _nothing(self) -> tf.Tensor:
        return tf.zeros((0, *self._shape))

    @contextlib.contextmanager
    def reading(self, labels: np.ndarray, used: np.ndarray) -> Iterator[Parts]:
        """See `Source`."""
        fits = len(used) * self._bytes_per_image <= PORTION_BYTES
        try:
            if fits:
                self._load(used)
            yield lambda batches: self._parts(batches.numpy(), labels, used if fits else None)
        finally:
            self.images.assign(self._nothing())

    def _parts(
        self, batches: np.ndarray, labels: np.ndarray, loaded: np.ndarray | None
    ) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        length = len(batches)
        if loaded is None:
            length = max(1, PORTION_BYTES // (batches.shape[1] * self._bytes_per_image))
        for start in range(0, len(batches), length):
            part, members = batches[start : start + length], loaded
            if members is None:
                members = np.unique(part)
                self._load(members)
            places = np.searchsorted(members, part)
            yield tf.constant(places, tf.int32), tf.constant(labels[members], tf.int32)

    def _load(self, indices: np.ndarray) -> None:
        self.images.assign(self._nothing())  # before the next ones are there
        self.images.assign(views.read(self._source, indices).astype(np.float32, copy=False))


def source(images: Any) -> Source:
    """Returns `InMemory` for an array that lies in memory, `ByIndex` for anything else."""
    return InMemory(images) if views.in_memory(images) else ByIndex(images)
