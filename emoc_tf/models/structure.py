"""What is made of a model: copies, its body, and one whose head has more or fewer outputs."""

import contextlib
from collections.abc import Callable, Sequence

import keras
import numpy as np

from emoc_tf.models.checks import check_model
from emoc_tf.models.graphs import (
    Call,
    features_of,
    flat_layers,
    functional,
    is_graph,
    last_operation,
    plain,
    walk,
)

# Kernel of a new unit: its logit starts near 0, whatever the old logits are.
NEW_UNIT_STDDEV = 1e-3


def copy(model: keras.Model) -> keras.Model:
    """Returns a model of its own with the same layers and weights.

    Raises:
        ValueError: A layer cannot be made again from its configuration.
    """
    try:
        duplicate = keras.models.clone_model(model, clone_function=_cloner())
    except (TypeError, ValueError):
        if not model.compiled:
            raise
        # What it was compiled with cannot be made again, such as a loss that is a function.
        duplicate = keras.models.clone_model(plain(model), clone_function=_cloner())
    if len(duplicate.weights) != len(model.weights):  # nested models share layers with others
        duplicate = keras.models.clone_model(plain(model), clone_function=_cloner(one_by_one=True))
    take_weights(duplicate, model)
    return duplicate


def _cloner(one_by_one: bool = False) -> Callable[[keras.Operation], keras.Operation]:
    """Returns a function that makes each layer anew once, however often it is met.

    Args:
        one_by_one: Whether the layers of nested models are, rather than the models as they are.
    """
    made: dict[int, keras.Operation] = {}

    def clone(layer: keras.Operation) -> keras.Operation:
        if id(layer) not in made:
            made[id(layer)] = anew(layer)
        return made[id(layer)]

    def anew(layer: keras.Operation) -> keras.Operation:
        if not is_graph(layer):
            return from_config(layer, config_of(layer))
        if not one_by_one and all(map(_is_configurable, flat_layers(layer))):
            with contextlib.suppress(ValueError):  # a class that Keras does not know by its name
                return from_config(layer, config_of(layer))
        return keras.models.clone_model(plain(layer), clone_function=clone)

    return clone


def _is_configurable(layer: keras.Layer) -> bool:
    """Whether what Keras tells of a layer's configuration is all that `config_of` does."""
    own = (
        isinstance(layer, keras.layers.RandomShear)
        or hasattr(layer, "get_vocabulary")
        or _hides_padding(layer)
    )
    return not own and vars(layer).get("activation", "") is not None


def _hides_padding(layer: keras.Operation) -> bool:
    # Before Keras 3.15, transposed convolutions leave it out.
    is_keras_own = type(layer).__module__.startswith("keras.")
    padding = getattr(layer, "output_padding", None) if is_keras_own else None
    return padding is not None and "output_padding" not in layer.get_config()


def config_of(layer: keras.Operation) -> dict:
    """Returns a layer's configuration, also where Keras' own cannot be had or read.

    Raises:
        ValueError: It has none.
    """
    if vars(layer).get("activation", "") is None:  # set to None by hand, which is linear
        twin = object.__new__(type(layer))
        vars(twin).update(vars(layer) | {"activation": keras.activations.linear})
        layer = twin
    try:
        config = layer.get_config()
    except NotImplementedError as error:
        raise _not_made_again(layer) from error
    if isinstance(layer, keras.layers.RandomShear):  # writes ±x as (−x, x), and refuses to read it
        factors = {key: config[key] for key in ("x_factor", "y_factor")}
        config |= {key: high for key, (low, high) in factors.items() if low < 0}
    if _hides_padding(layer):
        config |= {"output_padding": layer.output_padding}
    if hasattr(layer, "get_vocabulary") and config.get("vocabulary", "") is None:
        config |= _learnt_words(layer, config)
    return config


def _learnt_words(layer: keras.Layer, config: dict) -> dict:
    """Returns what a table of words learnt by `adapt`, which Keras writes beside configurations."""
    words = list(layer.get_vocabulary(include_special_tokens=False))
    if words and config.get("output_mode") == "tf_idf":
        return {"vocabulary": words, "idf_weights": np.asarray(layer.idf_weights)[-len(words) :]}
    return {"vocabulary": words} if words else {}


def from_config(layer: keras.Operation, config: dict) -> keras.Operation:
    """Returns a layer of the same class, made from a configuration.

    Raises:
        ValueError: Its class cannot.
    """
    try:
        return type(layer).from_config(config)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise _not_made_again(layer) from error


def _not_made_again(layer: keras.Operation) -> ValueError:
    return ValueError(
        f"model: expected layers that can be made again from get_config, got {layer.name!r} of "
        f"type {type(layer).__name__}, which cannot; put a keras.layers.Layer with get_config "
        f"or operations of keras.ops in its place"
    )


def take_weights(target: keras.Model, source: keras.Model) -> None:
    """Copies all weights between models of the same architecture, and which of them train.

    Raises:
        ValueError: The target was made from a configuration, which does not tell all that is shared
            in the source.
    """
    if [each.shape for each in target.weights] != [each.shape for each in source.weights]:
        raise ValueError(
            "model: expected one that can be copied, got a layer that also lies within another "
            "one, such as a layer beside TimeDistributed(layer), whose copies would share no "
            "weights; call the same layer at both places"
        )
    target.set_weights(source.get_weights())
    _mark_alike(target, source)
    for layer, other in zip(_normalizations(target), _normalizations(source), strict=True):
        # It computes with what it once made of its weights.
        layer.mean = keras.ops.cast(other.mean, layer.compute_dtype)
        layer.variance = keras.ops.cast(other.variance, layer.compute_dtype)


def _mark_alike(target: keras.Layer, source: keras.Layer) -> None:
    """Takes over what a configuration does not tell: what was set of single variables."""
    for variable, other in zip(target.weights, source.weights, strict=True):
        variable.trainable = other.trainable
        variable.regularizer, variable.constraint = other.regularizer, other.constraint


def _normalizations(model: keras.Model) -> list[keras.layers.Normalization]:
    return [each for each in flat_layers(model) if isinstance(each, keras.layers.Normalization)]


def seed_layers(model: keras.Model, rng: np.random.Generator) -> None:
    """Draws anew the state of all generators of random numbers in a model's layers (dropout)."""
    weights = {id(variable) for variable in model.weights}
    for variable in model.variables:
        if id(variable) not in weights and "seed_generator_state" in variable.path:
            variable.assign(rng.integers(2**31, size=variable.shape))


def feature_extractor(model: keras.Model) -> keras.Model:
    """Returns the body of `model`: image to the input of the head, (batch, d)."""
    model = functional(model)
    features = features_of(model)
    if features is not None:
        return keras.Model(model.inputs[0], features, name=model.name)
    return _replace_head(model, lambda features: features)


def grow_head(model: keras.Model, new_units: int, rng: np.random.Generator) -> keras.Model:
    """Returns a model with `new_units` more outputs on the same body.

    The old units' weights are copied bit for bit; a new unit starts with a Gaussian kernel of
    standard deviation 0.001 and zero bias. The body's layers are shared with `model`.

    Args:
        model: One that `check_model` accepts as one that grows.
        new_units: How many outputs are added, after the old ones.
        rng: Source of the new kernels.

    Raises:
        ValueError: The model cannot grow.
    """
    head = check_model(model, grows=True)
    kernel = head.kernel.numpy()
    new = rng.normal(0.0, NEW_UNIT_STDDEV, (kernel.shape[0], new_units)).astype(kernel.dtype)
    weights = [np.concatenate([kernel, new], axis=1)]
    if head.use_bias:
        bias = head.bias.numpy()
        weights.append(np.concatenate([bias, np.zeros(new_units, bias.dtype)]))
    return _with_head(model, head, weights)


def select_outputs(model: keras.Model, columns: Sequence[int] | np.ndarray) -> keras.Model:
    """Returns a model with some of the outputs, in the given order, on the same body.

    The weights that are kept are copied bit for bit. The body's layers are shared with `model`.

    Args:
        model: One that `check_model` accepts as one that grows.
        columns: Different outputs of `model`, at least one.

    Raises:
        ValueError: The head cannot be replaced, or there are no such columns.
    """
    head = check_model(model, grows=True)
    found = np.asarray(columns)
    whole = found.ndim == 1 and found.size > 0 and found.dtype.kind in "iu"
    if (
        not whole
        or len(set(found.tolist())) < len(found)
        or not np.isin(found, range(head.units)).all()
    ):
        raise ValueError(
            f"columns: expected different columns among the {head.units} outputs, at least one, "
            f"got {columns!r}"
        )
    return _with_head(model, head, [weight[..., found] for weight in head.get_weights()])


def _with_head(
    model: keras.Model, head: keras.layers.Dense, weights: list[np.ndarray]
) -> keras.Model:
    """Returns a model on the same body with a head like the old one that has other weights."""
    config = {**config_of(head), "units": weights[0].shape[1]}
    new_head = keras.layers.Dense.from_config(config)
    model = functional(model)
    features = features_of(model)
    if features is not None and type(model).__module__.startswith("keras."):
        # The body's layers are not called again: that takes seconds and memory in a large one.
        changed = keras.Model(model.inputs[0], new_head(features), name=model.name)
    else:
        changed = _replace_head(model, new_head)
    new_head.set_weights(weights)
    _mark_alike(new_head, head)
    return changed


def _replace_head(model: keras.Model, call_head: Call) -> keras.Model:
    """Returns a model on the same body that calls `call_head` where the head was."""
    model = functional(model)
    head = last_operation(model)

    def call(layer, *args, **kwargs):
        return call_head(*args) if layer is head else layer(*args, **kwargs)

    return walk(model, call)
