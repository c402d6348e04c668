"""Residual networks for small images: three stages of three blocks, as wide as is wished."""

import keras
import numpy as np


def build(
    image_shape: tuple[int, int, int],
    num_classes: int,
    width: int,
    weight_decay: float,
    rng: np.random.Generator,
) -> keras.Model:
    """Returns a network with fresh weights; ω = ½·weight_decay·‖θ‖² over all that is trained.

    Args:
        image_shape: Height, width and channels of an image.
        num_classes: C, outputs.
        width: Channels of the first stage: 16 of a ResNet-20; 64 has those of a ResNet-18's first
            three stages.
        weight_decay: Of the regulariser.
        rng: Of all random numbers.
    """
    layers, initializers, penalty = keras.layers, keras.initializers, keras.regularizers.L2
    decay = weight_decay / 2  # Keras' L2(l) is l·‖θ‖²

    def convolution(x: keras.KerasTensor, units: int, size: int, stride: int, name: str):
        he = initializers.HeNormal(seed=int(rng.integers(2**31)))
        return layers.Conv2D(
            units,
            size,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=he,
            kernel_regularizer=penalty(decay),
            name=name,
        )(x)

    def normalized(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        def uniform(low: float, high: float) -> keras.Initializer:
            return initializers.RandomUniform(low, high, seed=int(rng.integers(2**31)))

        return layers.BatchNormalization(
            beta_initializer=uniform(-0.2, 0.2),
            gamma_initializer=uniform(0.8, 1.2),
            moving_mean_initializer=uniform(-0.2, 0.2),
            moving_variance_initializer=uniform(0.8, 1.2),
            beta_regularizer=penalty(decay),
            gamma_regularizer=penalty(decay),
            name=name,
        )(x)

    image = keras.Input(image_shape, name="image")
    x = convolution(image, width, 3, 1, "stem")
    x = layers.ReLU()(normalized(x, "stem_norm"))
    for stage in range(3):
        for block in range(3):
            units = width * 2**stage
            name, stride = f"block{stage}{block}", 2 if stage and not block else 1
            y = convolution(x, units, 3, stride, f"{name}_conv1")
            y = layers.ReLU()(normalized(y, f"{name}_norm1"))
            y = normalized(convolution(y, units, 3, 1, f"{name}_conv2"), f"{name}_norm2")
            if stride == 2:
                x = convolution(x, units, 1, 2, f"{name}_shortcut")
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    head = layers.Dense(
        num_classes, kernel_regularizer=penalty(decay), bias_regularizer=penalty(decay), name="head"
    )
    return keras.Model(image, head(x), name="resnet")
