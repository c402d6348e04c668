"""Models made anew in another precision."""

import contextlib
from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models import draws
from emoc_tf.models.checks import check_not_quantised
from emoc_tf.models.forward import random_images, reason
from emoc_tf.models.graphs import functional, inputs_of, is_graph, plain
from emoc_tf.models.structure import config_of, from_config, take_weights

# Shares of the largest output by which a model in half or double precision may differ from one in
# float32, and a copy in the same precision from what it is a copy of.
_HALF, _DOUBLE, _ROUNDING = 0.1, 1e-4, 1e-3


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

    Example:
        >>> import keras
        >>> from emoc_tf.models import in_float32
        >>> half = {"dtype": "mixed_bfloat16"}
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, **half)])
        >>> in_float32(model).layers[-1].dtype_policy.name
        'float32'
    """
    if not isinstance(model, keras.Model) or not is_graph(model):
        raise ValueError(f"model: expected a functional or Sequential keras.Model, got {model!r}")
    check_not_quantised(model)
    rebuilt, twin = in_precision(model, "float32"), in_precision(model, None)
    for each in (rebuilt, twin):
        take_weights(each, model)
    _check_twin(twin, model)
    computed = {layer.compute_dtype for layer in model._flatten_layers()}
    is_half = not computed.isdisjoint({"float16", "bfloat16"})
    images = tf.cast(random_images(model.inputs[0]), model.inputs[0].dtype)
    if not _agree(model, rebuilt, images, _HALF if is_half else _DOUBLE):
        raise _told_in_part()
    return rebuilt


def _check_twin(twin: keras.Model, model: keras.Model) -> None:
    """Checks that a copy in the same precision computes the same, at weights that hide nothing.

    Raises:
        ValueError: A layer's configuration and weights do not tell all that it computes with.
    """
    drawn = draws.weights(model, draws.DRAWS[0])
    values = {id(variable): value for variable, value in drawn}
    numbers = [np.asarray(values.get(id(each), each.value)) for each in model.weights]
    twin.set_weights(numbers)
    images = tf.cast(random_images(model.inputs[0]), model.inputs[0].dtype)
    if not _agree(model, twin, images, _ROUNDING, keras.StatelessScope(drawn)):
        raise _told_in_part()


def _agree(
    model: keras.Model,
    other: keras.Model,
    images: tf.Tensor,
    share: float,
    scope: contextlib.AbstractContextManager | None = None,
) -> bool:
    """Returns whether two models have the same outputs, up to a share of the largest one.

    Args:
        model: Called within `scope`.
        other: Called as it is.
        images: (n, ...).
        share: The share.
        scope: With values of the first model's variables; None for its own.
    """
    one, two = functional(model), functional(other)
    with scope or contextlib.nullcontext():
        before = np.asarray(one(images, training=False), np.float64)
    after = np.asarray(two(images, training=False), np.float64)
    finite = np.isfinite(before)  # half precision has no large numbers
    change, scale = (np.abs(each[finite]).max(initial=0) for each in (after - before, before))
    return bool(change <= share * scale)


def _told_in_part() -> ValueError:
    return ValueError(
        "model: expected layers that get_config and get_weights tell whole, got other outputs "
        "after it was built anew in float32; let get_config return every argument that a layer of "
        "your own is made with"
    )


def in_precision(model: keras.Model, dtype: str | None) -> keras.Model:
    """Returns a model with the same layers, and weights of its own, that computes in `dtype`.

    None leaves each layer the precision that it has.

    Raises:
        ValueError: A layer cannot be made again from its configuration, or not in `dtype`.
    """
    try:
        with _default_precision(dtype) if dtype else contextlib.nullcontext():
            rebuilt = _clone(model, dtype, {})
            image = rebuilt.inputs[0]
            functional(rebuilt)(tf.cast(random_images(image), image.dtype), training=False)
    except (TypeError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(
            f"model: expected layers that compute in {dtype or 'a precision'} where they are told "
            f"to, got an error: {reason(error)}; variables of a layer of your own have to be made "
            f"by self.add_weight"
        ) from error
    return rebuilt


@contextlib.contextmanager
def _default_precision(dtype: str | keras.DTypePolicy) -> Iterator[None]:
    """Sets the precision of layers that others make within themselves, without a word of it."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _clone(model: keras.Model, dtype: str | None, made: dict[int, keras.Operation]) -> keras.Model:
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
        if dtype is None:
            with _default_precision(layer.dtype_policy):
                return from_config(layer, config_of(layer))
        return from_config(layer, _computing_in(dtype, config_of(layer)))

    def new_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
        # In nested models too: Keras casts what a model is fed to the dtype of its input layers.
        new = dtype if dtype and "float" in tensor.dtype else tensor.dtype
        return keras.Input(tensor.shape[1:], dtype=new)

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
