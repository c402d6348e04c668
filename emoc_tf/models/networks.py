"""The named networks: the paper's, a small one for small images, and yours.

Those with weights from elsewhere are in `backbones`.
"""

from collections.abc import Callable

import keras
import numpy as np

from emoc_tf.models import checks
from emoc_tf.registries import NETWORKS

# Whatever Keras is set to: networks are trained in float32, on images with channels last.
_FLOAT32 = {"dtype": "float32"}
_IMAGES = {"dtype": "float32", "data_format": "channels_last"}


def _regularizer(weight_decay: float) -> keras.Regularizer | None:
    # Keras' L2(l) is l·‖θ‖², so ω = ½·weight_decay·‖θ‖² has l = weight_decay / 2.
    return keras.regularizers.L2(weight_decay / 2) if weight_decay else None


def penalty(weight_decay: float) -> dict[str, keras.Regularizer | None]:
    """Returns the regularisers of a layer's kernel and bias, ω = ½·weight_decay·‖θ‖²."""
    return {
        "kernel_regularizer": _regularizer(weight_decay),
        "bias_regularizer": _regularizer(weight_decay),
    }


def cifar10_quick(
    shape: tuple[int, ...], num_classes: int, weight_decay: float, seeds: list[int]
) -> keras.Model:
    """The paper's network, CIFAR-10 quick; pixels less the mean image as they are."""

    def gaussian(stddev: float, layer: int) -> dict:
        initializer = keras.initializers.RandomNormal(0.0, stddev, seed=seeds[layer])
        return {"kernel_initializer": initializer, **penalty(weight_decay)}

    layers = keras.layers
    image = keras.Input(shape, name="image", dtype="float32")
    x = layers.Conv2D(32, 5, padding="same", name="conv1", **gaussian(1e-4, 0), **_IMAGES)(image)
    x = layers.MaxPooling2D(3, 2, padding="same", name="pool1", **_IMAGES)(x)
    x = layers.ReLU(name="relu1", **_FLOAT32)(x)
    x = layers.Conv2D(32, 5, padding="same", name="conv2", **gaussian(0.01, 1), **_IMAGES)(x)
    x = layers.ReLU(name="relu2", **_FLOAT32)(x)
    x = layers.AveragePooling2D(3, 2, padding="same", name="pool2", **_IMAGES)(x)
    x = layers.Conv2D(64, 5, padding="same", name="conv3", **gaussian(0.01, 2), **_IMAGES)(x)
    x = layers.ReLU(name="relu3", **_FLOAT32)(x)
    x = layers.AveragePooling2D(3, 2, padding="same", name="pool3", **_IMAGES)(x)
    x = layers.Flatten(name="flatten", **_IMAGES)(x)
    x = layers.Dense(64, name="features", **gaussian(0.1, 3), **_FLOAT32)(x)
    x = layers.Dense(num_classes, name="head", **gaussian(0.1, 4), **_FLOAT32)(x)
    return keras.Model(image, x, name="cifar10_quick")


def small_cnn(
    shape: tuple[int, ...], num_classes: int, weight_decay: float, seeds: list[int]
) -> keras.Model:
    """A small network for small images; it divides pixels by 128 first."""

    def he(layer: int) -> dict:
        initializer = keras.initializers.HeNormal(seed=seeds[layer])
        return {"kernel_initializer": initializer, **penalty(weight_decay)}

    layers = keras.layers
    image = keras.Input(shape, name="image", dtype="float32")
    x = layers.Rescaling(1 / 128, name="rescale", **_FLOAT32)(image)
    x = layers.Conv2D(16, 3, padding="same", name="conv1", **he(0), **_IMAGES)(x)
    x = layers.ReLU(name="relu1", **_FLOAT32)(x)
    x = layers.MaxPooling2D(2, padding="same", name="pool1", **_IMAGES)(x)
    x = layers.Conv2D(32, 3, padding="same", name="conv2", **he(1), **_IMAGES)(x)
    x = layers.ReLU(name="relu2", **_FLOAT32)(x)
    x = layers.MaxPooling2D(2, padding="same", name="pool2", **_IMAGES)(x)
    x = layers.Flatten(name="flatten", **_IMAGES)(x)
    x = layers.Dense(32, name="features", **he(2), **_FLOAT32)(x)
    x = layers.ReLU(name="relu3", **_FLOAT32)(x)
    x = layers.Dense(num_classes, name="head", **he(3), **_FLOAT32)(x)
    return keras.Model(image, x, name="small_cnn")


def register_network(name: str, function: Callable[..., keras.Model]) -> None:
    """Adds a network, for `ExplorationConfig(network=name)`.

    Args:
        name: A new name of letters, digits, `.`, `_` and `-`.
        function: Of (image_shape, num_classes, weight_decay, seeds): (H, W, channels), the number
            of linear outputs C, d of ω(θ) = ½·d·‖θ‖², and 8 integers for initializers, so that
            equal seeds give equal weights. It returns a new functional or Sequential model that
            takes pixels 0–255 less the mean image and ends in a linear `Dense(C)`. With an
            attribute `plain_pixels = True` it gets pixels 0–255 as they are, and what its frozen
            layers compute of a data set is computed once for all episodes. An attribute `check`, a
            function without arguments, is called before anything is loaded: it raises `ValueError`
            where something is missing that the network needs. An attribute `weights_file`, a
            function without arguments, returns the path of a file that its weights come from:
            machines of a cluster have to have the same.

    Raises:
        ValueError: The name is taken or no such name, or `function` is none.

    Example:
        >>> import keras
        >>> from emoc_tf import ExplorationConfig
        >>> from emoc_tf.models import register_network
        >>> def one_layer(image_shape, num_classes, weight_decay, seeds):
        ...     start = keras.initializers.HeNormal(seed=seeds[0])
        ...     head = keras.layers.Dense(num_classes, kernel_initializer=start)
        ...     return keras.Sequential([keras.Input(image_shape), keras.layers.Flatten(), head])
        >>> register_network("one-layer", one_layer)
        >>> ExplorationConfig(network="one-layer").network
        'one-layer'
    """
    NETWORKS.register(name, function)


def takes_plain_pixels(name: str) -> bool:
    """Returns whether a network takes pixels 0–255 without the mean image being subtracted."""
    return bool(getattr(NETWORKS[name], "plain_pixels", False))


def check_ready(name: str) -> None:
    """Raises `ValueError` where something is missing that a network needs, such as its weights."""
    check = getattr(NETWORKS[name], "check", None)
    if check is not None:
        check()


def build(
    name: str,
    image_shape: tuple[int, ...],
    num_classes: int,
    weight_decay: float,
    rng: np.random.Generator,
) -> keras.Model:
    """Builds a network with freshly drawn weights.

    Args:
        name: A key of `NETWORKS`: `"cifar10_quick"` takes pixels 0–255 minus the mean image
            directly, `"small_cnn"` divides them by 128 first; pretrained ones take pixels 0–255.
        image_shape: (H, W, channels).
        num_classes: C, linear outputs.
        weight_decay: ω = ½·weight_decay·‖θ‖² over kernels and biases, as Keras regularizers.
        rng: Source of the initializers' seeds.

    Raises:
        ValueError: A network of your own builds a model that does not fit, or weights are missing.
    """
    seeds = [int(seed) for seed in rng.integers(2**31 - 1, size=8)]
    model = NETWORKS[name](image_shape, num_classes, weight_decay, seeds)
    try:
        checks.check_model(model)
        checks.check_shapes(model, image_shape, num_classes)
    except ValueError as error:
        raise ValueError(f"network: expected one that fits from {name!r}, got {error}") from None
    return model
