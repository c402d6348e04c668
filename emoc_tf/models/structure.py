"""What is taken for a model, and its parts: checks, copies, the body, the head that grows."""

from collections.abc import Callable

import keras
import numpy as np

# Kernel of a new unit: its logit starts near 0, whatever the old logits are.
NEW_UNIT_STDDEV = 1e-3


def functional(model: keras.Model) -> keras.Model:
    """Returns a functional model on the same layers that takes one tensor, not a list or dict."""
    if isinstance(model, keras.Sequential) or isinstance(model.input, dict | list | tuple):
        return keras.Model(model.inputs[0], model.outputs[0])
    return model


def check_model(model: keras.Model) -> keras.layers.Dense:
    """Checks that a model can be scored and grown, and returns its head.

    Raises:
        ValueError: The model is not a built functional or Sequential one with one input and one
            output, does not end in a linear Dense layer, is frozen, mixes precisions, or has a
            regulariser of activities (ω is a function of the weights alone).
    """
    mend = "functional or Sequential, with one input, ending in keras.layers.Dense(C)"
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None):
        raise ValueError(f"model: expected a built keras.Model ({mend}), got {model!r}")
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            f"model: expected one input and one output, got {len(model.inputs)} and "
            f"{len(model.outputs)}"
        )
    # Operations of keras.ops are no layers.
    head = getattr(model, "operations", model.layers)[-1]
    if not isinstance(head, keras.layers.Dense) or len(model.outputs[0].shape) != 2:
        raise ValueError(
            f"model: expected one that ends in a linear Dense layer with output (batch, C), got "
            f"last layer {head.name!r} of type {type(head).__name__}"
            + (" (drop the softmax: scores and loss take logits)" if _is_softmax(head) else "")
        )
    if head.activation is not keras.activations.linear:
        raise ValueError(
            f"model: expected one that ends in a linear Dense layer, got layer {head.name!r} with "
            f"activation {keras.activations.serialize(head.activation)!r}; give it "
            f"activation=None, since scores and loss take logits"
        )
    if not model.trainable_variables:
        raise ValueError("model: expected trainable weights, got a model that is frozen as a whole")
    for layer in flat_layers(model):
        if getattr(layer, "activity_regularizer", None) is not None:
            raise ValueError(
                f"model: expected regularisers of weights only, got layer {layer.name!r} with an "
                f"activity_regularizer"
            )
        if layer.variables and layer.dtype_policy.name != head.dtype_policy.name:
            raise ValueError(
                f"model: expected one precision, got layer {layer.name!r} in "
                f"{layer.dtype_policy.name} and {head.name!r} in {head.dtype_policy.name}"
            )
    if head.dtype_policy.name not in ("float32", "float64"):
        raise ValueError(
            f"model: expected layers in float32 or float64, got {head.dtype_policy.name}"
        )
    return head


def flat_layers(model: keras.Model) -> list[keras.Layer]:
    """Returns the layers of a model, those of nested models in their place."""
    nested = [
        flat_layers(layer) if isinstance(layer, keras.Model) else [layer] for layer in model.layers
    ]
    return [layer for layers in nested for layer in layers]


def check_shapes(model: keras.Model, image_shape: tuple[int, ...], num_classes: int) -> None:
    """Checks that a float32 model eats images of a shape and has an output a known class.

    Raises:
        ValueError: It does not.
    """
    shape = model.input_shape[1:]
    head = check_model(model)
    if head.dtype_policy.name != "float32":
        raise ValueError(f"model: expected layers in float32, got {head.dtype_policy.name}")
    fits = len(shape) == len(image_shape) and all(
        have in (None, want) for have, want in zip(shape, image_shape, strict=True)
    )
    if not fits:
        raise ValueError(f"model: expected input shape {tuple(image_shape)}, got {shape}")
    if model.output_shape[-1] != num_classes:
        raise ValueError(
            f"model: expected {num_classes} outputs, one for each of known_classes, got "
            f"{model.output_shape[-1]}"
        )


def copy(model: keras.Model) -> keras.Model:
    """Returns a model of its own with the same layers and weights."""
    duplicate = keras.models.clone_model(model)
    take_weights(duplicate, model)
    return duplicate


def take_weights(target: keras.Model, source: keras.Model) -> None:
    """Copies all weights between models of the same architecture."""
    target.set_weights(source.get_weights())
    for layer in flat_layers(target):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()  # it computes with what it made of its weights


def seed_layers(model: keras.Model, rng: np.random.Generator) -> None:
    """Draws anew the state of all generators of random numbers in a model's layers (dropout)."""
    weights = {id(variable) for variable in model.weights}
    for variable in model.variables:
        if id(variable) not in weights and "seed_generator_state" in variable.path:
            variable.assign(rng.integers(2**31, size=variable.shape))


def _is_softmax(layer: keras.Layer) -> bool:
    return isinstance(layer, keras.layers.Softmax) or (
        isinstance(layer, keras.layers.Activation) and layer.activation is keras.activations.softmax
    )


def _replace_head(
    model: keras.Model, call_head: Callable[[keras.KerasTensor], keras.KerasTensor]
) -> keras.Model:
    """Returns a model on the same body that calls `call_head` where the head was."""
    head = model.layers[-1]

    def call(layer, *args, **kwargs):
        return call_head(*args) if layer is head else layer(*args, **kwargs)

    return keras.models.clone_model(
        functional(model), clone_function=lambda layer: layer, call_function=call
    )


def feature_extractor(model: keras.Model) -> keras.Model:
    """Returns the body of `model`: image to the input of the head, (batch, d)."""
    return _replace_head(model, lambda features: features)


def grow_head(model: keras.Model, new_units: int, rng: np.random.Generator) -> keras.Model:
    """Returns a model with `new_units` more outputs on the same body.

    The old units' weights are copied bit for bit; a new unit starts with a Gaussian kernel of
    standard deviation 0.001 and zero bias. The body's layers are shared with `model`.

    Args:
        model: One that `check_model` accepts.
        new_units: How many outputs are added, after the old ones.
        rng: Source of the new kernels.
    """
    head = check_model(model)
    config = {**head.get_config(), "units": head.units + new_units}
    grown_head = keras.layers.Dense.from_config(config)
    grown = _replace_head(model, grown_head)
    kernel = head.kernel.numpy()
    new = rng.normal(0.0, NEW_UNIT_STDDEV, (kernel.shape[0], new_units)).astype(kernel.dtype)
    weights = [np.concatenate([kernel, new], axis=1)]
    if head.use_bias:
        bias = head.bias.numpy()
        weights.append(np.concatenate([bias, np.zeros(new_units, bias.dtype)]))
    grown_head.set_weights(weights)
    return grown
