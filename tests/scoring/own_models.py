"""Models as people hand them in, each with something that Keras' guides do."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import models

layers = keras.layers
SHAPE = (8, 8, 3)
# Before 3.15, Keras makes a lambda anew from its code, makes adapters in a layer's precision, and
# takes no function for a regulariser of a variable.
needs_keras_3_15 = pytest.mark.skipif(
    tuple(map(int, keras.__version__.split(".")[:2])) < (3, 15), reason="needs Keras 3.15"
)


def make_images(count=7, seed=1):
    return np.random.default_rng(seed).random((count, *SHAPE)).astype(np.float32)


def classifier(*first, outputs=3, head=None):
    """A small network behind some layers; random weights."""
    image = x = keras.Input(SHAPE)
    for layer in first:
        x = layer(x)
    x = layers.Conv2D(4, 3, activation="tanh")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return models.randomised(keras.Model(image, (head or layers.Dense(outputs))(x)))


def augmentations():
    """Layers that are random in training, by kind."""
    scale = {"value_range": (0, 1)}
    return {
        "geometry": [
            layers.RandomFlip(), layers.RandomRotation(0.1), layers.RandomZoom(0.2),
            layers.RandomTranslation(0.1, 0.1), layers.RandomShear(0.1, 0.1),
            layers.RandomPerspective(), layers.RandomCrop(7, 7),
        ],
        "colour": [
            layers.RandomContrast(0.3), layers.RandomBrightness(0.2, **scale),
            layers.RandomHue(0.2, **scale), layers.RandomSaturation(0.3),
            layers.RandomColorJitter(brightness_factor=0.2, **scale), layers.RandomGrayscale(),
        ],
        "policies": [
            layers.RandAugment(**scale), layers.RandomErasing(**scale),
            layers.Pipeline([layers.RandomFlip(), layers.RandomSharpness(0.3)]),
        ],
        "noise": [
            layers.GaussianNoise(0.3), layers.GaussianDropout(0.3), layers.SpatialDropout2D(0.3),
            layers.AlphaDropout(0.3),
        ],
        "size": [layers.Resizing(9, 7), layers.CenterCrop(6, 6)],
        "values": [
            layers.AutoContrast(**scale), layers.Rescaling(3.0, offset=-1),
            layers.Normalization(mean=0.5, variance=2.0),
        ],
        # Keras draws its operations with Python's own generator while a function is traced.
        "drawn in Python": [layers.AugMix(**scale)],
        "a block": [keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.2)])],
    }  # fmt: skip


class AlwaysNoisy(layers.Layer):
    def call(self, inputs):
        return inputs + keras.random.normal(keras.ops.shape(inputs), stddev=0.1)


class AlwaysDropping(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.drop = layers.Dropout(0.3)

    def call(self, inputs):
        return self.drop(inputs, training=True)


class TossingACoin(layers.Layer):
    """One for all images."""

    def call(self, inputs):
        return tf.where(tf.random.uniform(()) < 0.5, inputs, 2 * inputs)


class DrawingInPython(layers.Layer):
    def call(self, inputs):
        return inputs * np.random.default_rng().normal()


RANDOM = (AlwaysNoisy, AlwaysDropping, TossingACoin, DrawingInPython)


class Cosine(layers.Dense):
    """A head that looks at directions alone."""

    def call(self, inputs):
        kernel = self.kernel / keras.ops.norm(self.kernel, axis=0)
        return 3 * keras.ops.matmul(keras.ops.normalize(inputs, axis=-1), kernel)


def nested_head(kind, depth):
    """An image network whose classifier is a model, itself ending in one if `depth` is 2."""

    def wrap(inner_layers, width):
        if kind == "sequential":
            return keras.Sequential([keras.Input((width,)), *inner_layers])
        x = start = keras.Input((width,))
        for layer in inner_layers:
            x = layer(x)
        return keras.Model(start, x)

    head = [layers.Dense(5, activation="tanh", kernel_regularizer="l2"), layers.Dense(3)]
    inner = wrap(head, 6 if depth == 2 else 4)
    if depth == 2:
        inner = wrap([layers.Dense(6), layers.Dropout(0.5), inner], 4)
    image = keras.Input(SHAPE)
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="tanh")(image))
    return models.randomised(keras.Model(image, inner(x)))


def scorer_of(model, **settings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some go the slow way
        return EMOCScorer(model, **settings)


def assert_scored(model, images=None, tolerance=1e-4):
    """The fast scores are the literal ones; returns them."""
    images = make_images() if images is None else images
    fast = scorer_of(model).scores(images[:3], images[3:])
    literal = reference.scores(model, images[:3], images[3:])
    assert np.abs(fast - literal).max() <= tolerance * np.abs(literal).max()
    assert literal.max() > 0
    return fast


def assert_refused(model, message, images=None):
    """By the scorer when it is made, by the reference when it is called."""
    images = make_images() if images is None else images
    with pytest.raises(ValueError, match=message) as caught:
        EMOCScorer(model)
    sets = np.arange(len(images))[:, None]
    for literal in (
        lambda: reference.scores(model, images, images),
        lambda: reference.expected_scores(model, images, images),
        lambda: reference.set_scores(model, images, images, sets),
    ):
        with pytest.raises(ValueError, match=message):
            literal()
    return str(caught.value)
