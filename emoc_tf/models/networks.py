"""The named networks: the paper's, and a small one for small images."""

from collections.abc import Callable

import keras
import numpy as np


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
