"""The part of a model that is trained, and what a frozen prefix gives it of each image."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.data import views
from emoc_tf.models.graphs import calls_in, is_graph
from emoc_tf.models.kept_outputs import kept
from emoc_tf.models.layer_state import told_of
from emoc_tf.models.prefix import Split, split


class Elsewhere(Protocol):
    """Computes of many images what this process would, bit for bit."""

    def predict(self, model: keras.Model, images: Any) -> tuple[np.ndarray, np.ndarray]:
        """Returns the inputs of a model's head, and its logits."""

    def outputs(self, model: keras.Model, images: Any) -> Iterator[tuple[int, np.ndarray]]:
        """Yields what a model gives of some images, in any order, and the first of these."""


class TrainedPart:
    """A model without its frozen prefix, and its inputs for the images of a pool.

    What the prefix gives of an image is computed once and kept as long as neither weights of the
    prefix change nor which of them are frozen: `look` sees that. It is computed in batches that
    follow from the images alone, so that equal weights give equal bits. Where a model has no
    prefix, it and its images are used as they are.

    Args:
        model: One that `check_model` accepts.
        images: (n_pool, H, W, channels), as the model takes them, see `data.views`.
        elsewhere: What computes the prefix' outputs; None for this process.

    Attributes:
        whole: The model.
    """

    def __init__(self, model: keras.Model, images: Any, elsewhere: Elsewhere | None = None) -> None:
        self._images, self._elsewhere = images, elsewhere
        self._split: Split | None = None
        self._weights = b""
        self._take(model)

    def replace_model(self, model: keras.Model) -> None:
        """Takes another model, such as one on the same body whose head has grown."""
        if model is not self.whole:
            self._take(model)

    def _take(self, model: keras.Model) -> None:
        before, self._split = self._split, split(model)
        self.whole, self._trainable = model, _ids(model)
        if (
            before is None
            or self._split is None
            or before.parts != self._split.parts
            or _digest(self._split) != self._weights  # another output of the same layers
        ):
            self._kept: list[tuple[Any, np.ndarray]] = []
            self._weights, self._run = b"", None

    def look(self) -> None:
        """Sees what was changed by hand: frozen weights, or which layers are frozen."""
        if _ids(self.whole) != self._trainable:
            self._take(self.whole)
        if self._split is not None:
            weights = _digest(self._split)
            if weights != self._weights:
                self._kept, self._weights, self._run = [], weights, None

    @property
    def model(self) -> keras.Model:
        """What is trained, from the first trainable layer on; the whole model without a prefix."""
        return self.whole if self._split is None else self._split.rest

    @property
    def inputs(self) -> Any:
        """(n_pool, ...), what `model` gets of the pool's images."""
        return self.inputs_of(self._images)

    def inputs_of(self, images: Any) -> Any:
        """Returns what `model` gets of some images, (n, ...); it is kept with the images.

        Args:
            images: (n, H, W, channels), the pool's or others that are asked for again and again.
        """
        if self._split is None:
            return images
        if not self._weights:
            self._weights = _digest(self._split)
        for given, outputs in self._kept:
            if same_images(given, images):
                return outputs
        if self._run is None:
            self._run = compile_prefix(self._split.prefix)
        elsewhere = self._elsewhere
        if elsewhere is not None:
            elsewhere = functools.partial(elsewhere.outputs, self._split.prefix)
        outputs = views.read_only(kept(self._run, images, self._weights, elsewhere))
        self._kept.append((images, outputs))
        return outputs

    def is_of(self, model: keras.Model, images: Any) -> bool:
        """Returns whether it is the part of this model, with these images of the pool."""
        return model is self.whole and same_images(images, self._images)


def compile_prefix(prefix: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a compiled function of images (n, ...), n > 0, in inference mode."""
    image = prefix.inputs[0]
    traced = tf.function(lambda images: prefix(images, training=False), autograph=False)
    traced = traced.get_concrete_function(tf.TensorSpec(image.shape, image.dtype))
    return lambda images: traced(tf.constant(images, image.dtype))


def same_images(one: Any, other: Any) -> bool:
    """Returns whether two arrays or array-likes are the same images in the same place."""
    if one is other:
        return True
    if not (isinstance(one, np.ndarray) and isinstance(other, np.ndarray)):
        return False
    return one.__array_interface__ == other.__array_interface__


def _ids(model: keras.Model) -> list[int]:
    return [id(variable) for variable in model.trainable_variables]


def _digest(found: Split) -> bytes:
    """Returns a hash of what a prefix computes with: its weights, its layers and how they are tied.

    Equal prefixes of other processes have it too.
    """
    digest, numbers = hashlib.sha256(), dict[int, int]()

    def tell(structure: Any) -> None:
        for part in keras.tree.flatten(structure):
            if isinstance(part, keras.KerasTensor):
                part = f"tensor {numbers.setdefault(id(part), len(numbers))}"
            digest.update(_told(part))

    for variable in (*found.prefix.variables, *found.reads):
        digest.update(np.ascontiguousarray(variable.numpy()))
    tell((found.prefix.inputs, found.prefix.outputs))
    for operation, args, kwargs, outputs in calls_in(found.prefix):
        digest.update(repr(told_of(operation)).encode())
        tell((args, kwargs, outputs))
        if is_graph(operation):  # whose calls come next
            tell((operation.inputs, operation.outputs))
    return digest.digest()


def _told(argument: Any) -> bytes:
    """Returns what tells an argument of a call, with its type."""
    if isinstance(argument, np.ndarray | tf.Tensor):
        numbers = np.asarray(argument)
        return f"{numbers.dtype} {numbers.shape}".encode() + numbers.tobytes()
    plain = isinstance(argument, str | int | float | complex | slice | None)
    return (repr(argument) if plain else type(argument).__qualname__).encode()
