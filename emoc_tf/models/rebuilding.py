"""Models made anew in another precision."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.checks import check_not_quantised
from emoc_tf.models.forward import random_images, reason
from emoc_tf.models.graphs import functional, inputs_of, is_graph, plain
from emoc_tf.models.structure import config_of, from_config, take_weights

# Share of the largest output by which a model in half precision may differ from one in float32.
_HALF_PRECISION = 0.1


def in_float32(model: keras.Model) -> keras.Model:
    """Returns a model that computes in float32 what another computes in mixed or half precision.

    Args:
        model: Functional or Sequential, trained under `mixed_float16`, `mixed_bfloat16` or the
            like, or in float64. It is not changed.

    Returns:
        A model of its own with the same weights, rounded to float32, and the same layers frozen;
        not compiled.

    Raises:
        ValueError: The model is of another kind or quantised, a layer cannot be made again from its
            configuration, or the new model computes something else.
    """
    if not isinstance(model, keras.Model) or not is_graph(model):
        raise ValueError(f"model: expected a functional or Sequential keras.Model, got {model!r}")
    check_not_quantised(model)
    rebuilt = in_precision(model, "float32")
    take_weights(rebuilt, model)
    images = tf.cast(random_images(model.inputs[0]), model.inputs[0].dtype)
    before, after = (
        np.asarray(functional(each)(images, training=False), np.float64)
        for each in (model, rebuilt)
    )
    finite = np.isfinite(before)  # half precision has no large numbers
    change, scale = (np.abs(each[finite]).max(initial=0) for each in (after - before, before))
    if not change <= _HALF_PRECISION * scale:
        raise ValueError(
            "model: expected layers that get_config and get_weights tell whole, got other outputs "
            "after it was built anew in float32"
        )
    return rebuilt


def in_precision(model: keras.Model, dtype: str) -> keras.Model:
    """Returns a model with the same layers, and weights of its own, that computes in `dtype`.

    Raises:
        ValueError: A layer cannot be made again from its configuration, or not in `dtype`.
    """
    try:
        with _default_precision(dtype):
            rebuilt = _clone(model, dtype, {})
            image = rebuilt.inputs[0]
            functional(rebuilt)(tf.cast(random_images(image), image.dtype), training=False)
    except (TypeError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"model: expected layers that compute in {dtype} where they are told to, got an error: "
            f"{reason(error)}; variables of a layer of your own have to be made by self.add_weight"
        ) from error
    return rebuilt


@contextlib.contextmanager
def _default_precision(dtype: str) -> Iterator[None]:
    """Sets the precision of layers that others make within themselves, without a word of it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _clone(model: keras.Model, dtype: str, made: dict[int, keras.Operation]) -> keras.Model:
    """Returns the model in `dtype`; `made` has the new layers so far, by the old one's id."""

    def clone_layer(layer: keras.Operation) -> keras.Operation:
        if id(layer) not in made:
            made[id(layer)] = anew(layer)
        return made[id(layer)]

    def anew(layer: keras.Operation) -> keras.Operation:
        if is_graph(layer):
            return _clone(layer, dtype, made)
        if not isinstance(layer, keras.Layer):
            return layer  # an operation of keras.ops, without weights and dtype
        return from_config(layer, _computing_in(dtype, config_of(layer)))

    def new_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
        # In nested models too: Keras casts what a model is fed to the dtype of its input layers.
        return keras.Input(
            tensor.shape[1:], dtype=dtype if "float" in tensor.dtype else tensor.dtype
        )

    return keras.models.clone_model(
        plain(model) if model.compiled else model,
        input_tensors=keras.tree.map_structure(new_input, inputs_of(model)),
        clone_function=clone_layer,
    )


def _computing_in(dtype: str, config: dict) -> dict:
    """Returns a layer's configuration, and of layers that it wraps, with another dtype."""

    def changed(value: object) -> object:
        if isinstance(value, list):
            return [changed(each) for each in value]
        return _computing_in(dtype, value) if isinstance(value, dict) else value

    inner = {key: value if key == "dtype" else changed(value) for key, value in config.items()}
    return {**inner, "dtype": dtype} if "dtype" in config else inner
