"""Compiled forward passes, and images in batches through them."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.structure import feature_extractor, functional

FORWARD_BATCH = 256


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
