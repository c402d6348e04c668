"""Masks, which Keras keeps beside tensors as an attribute, as tensors of the graph."""

import contextlib
import itertools
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

_NUMBERS = itertools.count()  # names must differ within a model


def mask_of(tensor: Any) -> Any:
    """Returns the mask that a tensor comes with, or None."""
    return getattr(tensor, "_keras_mask", None)


def has_mask(tensors: object) -> bool:
    """Whether one of some tensors comes with a mask, which layers get without being told."""
    return any(mask_of(tensor) is not None for tensor in keras.tree.flatten(tensors))


def masked(tensor: keras.KerasTensor, mask: keras.KerasTensor | None) -> keras.KerasTensor:
    """Returns the same numbers with another mask, or with none."""
    return Masked()([tensor] if mask is None else [tensor, mask])


class Masked(keras.layers.Layer):
    """Gives a tensor the mask that comes second, or takes its mask away."""

    def __init__(self) -> None:
        super().__init__(name=f"masked_{next(_NUMBERS)}", autocast=False)
        self.supports_masking = True

    def call(self, inputs: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the tensor, as one of its own."""
        return tf.identity(inputs[0])

    def compute_mask(self, inputs: Sequence[tf.Tensor], previous_mask: Any) -> tf.Tensor | None:
        """Returns the mask."""
        return inputs[1] if len(inputs) > 1 else None


@contextlib.contextmanager
def untold() -> Iterator[None]:
    """Silences Keras where a graph that was made of a model ends a mask: its outputs are compared.

    What the model itself does is told when it is called as it is.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"(?s).*Layer .* was passed an input with a mask")
        yield


def own_masks(model: keras.Model) -> list[str]:
    """Returns the names of a model's layers that make masks in a way of their own.

    Keras' layers hide what they are told to; what hides something of these nobody knows.
    """

    def is_own(layer: keras.Layer) -> bool:
        if isinstance(layer, keras.layers.Lambda):
            return callable(layer.mask)
        own = getattr(layer.compute_mask, "__module__", "")
        return not own.startswith("keras.")

    return [f"{e.name!r} ({type(e).__name__})" for e in model._flatten_layers() if is_own(e)]


def passed_on(layer: keras.Layer, args: tuple, kwargs: dict, count: int) -> list[Any]:
    """Returns the masks that a layer's outputs get where its call gives them none.

    Args:
        layer: The layer.
        args: Of its call.
        kwargs: Of its call.
        count: How many outputs there are.
    """
    if not layer.supports_masking:
        return [None] * count
    first = args[0] if args else next(iter(kwargs.values()))
    before = kwargs.get("mask")
    if before is None:
        before = keras.tree.map_structure(mask_of, first)
    found = layer.compute_mask(first, before)
    flat = [None] if found is None else list(keras.tree.flatten(found))
    return (flat + [None] * count)[:count]


def told(layer: keras.Layer, args: tuple, kwargs: dict) -> dict:
    """Returns the arguments of a call by name with those masks that Keras adds to them."""
    given = layer._call_signature.bind(*args, **kwargs).arguments
    names = layer._call_signature.parameters
    with_tensors = {
        name: each
        for name, each in given.items()
        if any(isinstance(part, keras.KerasTensor) for part in keras.tree.flatten(each))
    }
    found = dict(kwargs)
    for name, each in with_tensors.items():
        key = "mask" if len(with_tensors) == 1 else f"{name}_mask"
        if key in names and given.get(key) is None:
            found[key] = keras.tree.map_structure(mask_of, each)
    return found
