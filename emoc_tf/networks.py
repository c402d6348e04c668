"""Keras models with a linear head that grows by an output for each discovered class."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        f"emoc_tf: expected Keras with the backend 'tensorflow', got "
        f"{keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow"
    )

# Kernel of a new unit: its logit starts near 0, whatever the old logits are.
NEW_UNIT_STDDEV = 1e-3
FORWARD_BATCH = 256


def _regularizer(weight_decay: float) -> keras.Regularizer | None:
    # Keras' L2(l) is l·‖θ‖², so ω = ½·weight_decay·‖θ‖² has l = weight_decay / 2.
    return keras.regularizers.L2(weight_decay / 2) if weight_decay else None


def _penalty(weight_decay: float) -> dict[str, keras.Regularizer | None]:
    return {
        "kernel_regularizer": _regularizer(weight_decay),
        "bias_regularizer": _regularizer(weight_decay),
    }


def _cifar10_quick(
    shape: tuple[int, ...], num_classes: int, weight_decay: float, seeds: list[int]
) -> keras.Model:
    def gaussian(stddev: float, layer: int) -> dict:
        initializer = keras.initializers.RandomNormal(0.0, stddev, seed=seeds[layer])
        return {"kernel_initializer": initializer, **_penalty(weight_decay)}

    layers = keras.layers
    image = keras.Input(shape, name="image")
    x = layers.Conv2D(32, 5, padding="same", name="conv1", **gaussian(1e-4, 0))(image)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1")(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.Conv2D(32, 5, padding="same", name="conv2", **gaussian(0.01, 1))(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.AveragePooling2D(3, 2, padding="same", name="pool2")(x)
    x = layers.Conv2D(64, 5, padding="same", name="conv3", **gaussian(0.01, 2))(x)
    x = layers.ReLU(name="relu3")(x)
    x = layers.AveragePooling2D(3, 2, padding="same", name="pool3")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(64, name="features", **gaussian(0.1, 3))(x)
    x = layers.Dense(num_classes, name="head", **gaussian(0.1, 4))(x)
    return keras.Model(image, x, name="cifar10_quick")


def _small_cnn(
    shape: tuple[int, ...], num_classes: int, weight_decay: float, seeds: list[int]
) -> keras.Model:
    def he(layer: int) -> dict:
        initializer = keras.initializers.HeNormal(seed=seeds[layer])
        return {"kernel_initializer": initializer, **_penalty(weight_decay)}

    layers = keras.layers
    image = keras.Input(shape, name="image")
    x = layers.Rescaling(1 / 128, name="rescale")(image)
    x = layers.Conv2D(16, 3, padding="same", name="conv1", **he(0))(x)
    x = layers.ReLU(name="relu1")(x)
    x = layers.MaxPooling2D(2, padding="same", name="pool1")(x)
    x = layers.Conv2D(32, 3, padding="same", name="conv2", **he(1))(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.MaxPooling2D(2, padding="same", name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(32, name="features", **he(2))(x)
    x = layers.ReLU(name="relu3")(x)
    x = layers.Dense(num_classes, name="head", **he(3))(x)
    return keras.Model(image, x, name="small_cnn")


NETWORKS: dict[str, Callable[..., keras.Model]] = {
    "small_cnn": _small_cnn,
    "cifar10_quick": _cifar10_quick,
}


def build(
    name: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    weight_decay: float,
    rng: np.random.Generator,
) -> keras.Model:
    """Builds a network with freshly drawn weights.

    Args:
        name: A key of `NETWORKS`: `"cifar10_quick"` eats pixels 0–255 minus the mean image
            directly, `"small_cnn"` divides them by 128 first.
        image_shape: (H, W, channels).
        num_classes: C, linear outputs.
        weight_decay: ω = ½·weight_decay·‖θ‖² over kernels and biases, as Keras regularizers.
        rng: Source of the initializers' seeds.
    """
    seeds = [int(seed) for seed in rng.integers(2**31 - 1, size=8)]
    return NETWORKS[name](image_shape, num_classes, weight_decay, seeds)


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


def compile_forward(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a compiled function of images (n, ...), n > 0, in inference mode; traced once."""
    image = model.inputs[0]
    model = functional(model)
    forward = tf.function(lambda images: model(images, training=False))
    return forward.get_concrete_function(tf.TensorSpec(image.shape, image.dtype))


def compile_features(model: keras.Model) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a compiled function of images (n, ...), n > 0, in inference mode; traced once.

    It returns the features, which are the (n, d) inputs of the head, and the (n, C) logits.
    """
    body, head, image = feature_extractor(model), model.layers[-1], model.inputs[0]

    def forward(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = body(images, training=False)
        return features, head(features)

    return tf.function(forward).get_concrete_function(tf.TensorSpec(image.shape, image.dtype))


def in_batches(
    function: Callable[[tf.Tensor], Any], images: np.ndarray, dtype: str = "float32"
) -> Any:
    """Returns the output or outputs of `function` for all images, 256 at a time.

    The batch size is a constant: another one gives other bits.
    """
    outputs = [
        function(tf.constant(images[start : start + FORWARD_BATCH], dtype))
        for start in range(0, len(images), FORWARD_BATCH)
    ]
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *outputs)


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
