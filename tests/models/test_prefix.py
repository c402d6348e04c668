"""Where the frozen beginning of a model ends."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import prefix, structure

layers = keras.layers
SHAPE = (8, 8, 3)


def backbone(*before, noise=0.0, normalised=True):
    """A small network in the form that those of `keras.applications` have."""
    x = image = keras.Input(SHAPE)
    for layer in before:
        x = layer(x)
    x = layers.Conv2D(4, 3, name="first")(x)
    if normalised:
        x = layers.BatchNormalization(name="normalisation")(x)
    x = layers.ReLU()(x)
    if noise:
        x = layers.Dropout(noise, name="noise")(x)
    shortcut = x
    x = layers.Conv2D(4, 3, padding="same", name="second")(x)
    x = layers.Add()([x, shortcut])
    return keras.Model(image, layers.ReLU(name="end")(x), name="base")


def frozen(*before, **settings):
    base = backbone(*before, **settings)
    base.trainable = False
    return base


def sequential(*parts):
    return keras.Sequential([keras.Input(SHAPE), *parts])


def pooled(base, *behind, before=(), **call):
    """The form of Keras' guide to transfer learning."""
    x = image = keras.Input(SHAPE)
    for layer in before:
        x = layer(x)
    x = base(x, **call)
    x = layers.GlobalAveragePooling2D()(x)
    for layer in behind:
        x = layer(x)
    return keras.Model(image, layers.Dense(3)(x))


def last_layers_trained():
    base = backbone()
    for layer in base.layers:
        layer.trainable = layer.name in ("second", "end")
    return pooled(base)


def flat(model):
    """The same model with the layers of nested ones beside its own."""
    x = image = keras.Input(SHAPE)
    for layer in model.layers:
        x = layer(x)
    return keras.Model(image, x)


def with_lambda(function):
    return pooled(frozen(), before=[layers.Lambda(function, output_shape=SHAPE)])


@keras.saving.register_keras_serializable("test_prefix")
class Shift(layers.Layer):
    def call(self, x):
        return x + 1


@keras.saving.register_keras_serializable("test_prefix")
class Jitter(layers.Layer):
    def call(self, x, training=False):
        return x + tf.random.normal([]) if training else x


@keras.saving.register_keras_serializable("test_prefix")
class Counter(layers.Layer):
    def build(self, shape):
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        return x


def by_variable():
    x = image = keras.Input(SHAPE)
    x = x * keras.Variable(2.0, trainable=False)
    x = layers.GlobalAveragePooling2D()(frozen()(x))
    return keras.Model(image, layers.Dense(3)(x))


def trained_branch():
    image = keras.Input(SHAPE)
    known = layers.GlobalAveragePooling2D()(frozen()(image))
    own = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(image))
    return keras.Model(image, layers.Dense(3)(layers.Concatenate()([known, own])))


def called_twice():
    """A frozen model whose outputs pass through it again, and a layer that is shared behind it."""
    image, shared = keras.Input(SHAPE), layers.ReLU()
    block = keras.Sequential([layers.Conv2D(3, 3, padding="same")])
    inner_image = keras.Input(SHAPE)
    y = layers.BatchNormalization()(block(inner_image))
    inner = keras.Model(inner_image, layers.Add()([inner_image, y]))
    inner.trainable = False
    x = shared(inner(inner(image)))
    x = shared(layers.Conv2D(3, 3)(x))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


def called_twice_and_trained():
    model = called_twice()
    model.layers[1].layers[1].layers[0].trainable = True  # the convolution
    return model


def normalised_in_training():
    base = frozen()
    base.get_layer("normalisation").trainable = True
    return pooled(base)


def masked():
    words = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, mask_zero=True, trainable=False)(words)
    return keras.Model(words, layers.Dense(3)(layers.LSTM(4)(x)))


def embedded():
    words = keras.Input((5,), dtype="int32")
    x = layers.Embedding(7, 4, trainable=False)(words)
    return keras.Model(words, layers.Dense(3)(layers.LSTM(4)(x)))


def adapted():
    normalisation = layers.Normalization()
    normalisation.adapt(np.ones((2, *SHAPE)))
    return sequential(normalisation, layers.Flatten(), layers.Dense(3))


MODELS = {
    # what: (model, shape at the cut; None for no prefix)
    "in a Sequential": (
        lambda: sequential(frozen(), layers.GlobalAveragePooling2D(), layers.Dense(3)),
        (4,),
    ),
    "called in inference mode": (lambda: pooled(frozen(), training=False), (4,)),
    "called": (lambda: pooled(frozen()), (4,)),
    "with a hidden layer": (lambda: pooled(frozen(), layers.Dense(5)), (4,)),
    "dropout behind it": (lambda: pooled(frozen(), layers.Dropout(0.5)), (4,)),
    "dropout of nothing": (lambda: pooled(frozen(), layers.Dropout(0.0), layers.ReLU()), (4,)),
    "noise in it": (lambda: pooled(frozen(noise=0.5)), (6, 6, 4)),
    "noise in it, in inference mode": (lambda: pooled(frozen(noise=0.5), training=False), (4,)),
    "flat": (
        lambda: flat(sequential(*frozen().layers[1:4], layers.Flatten(), layers.Dense(3))),
        (144,),
    ),
    "in two": (
        lambda: sequential(
            sequential(frozen(), layers.GlobalAveragePooling2D()),
            keras.Sequential([keras.Input((4,)), layers.Dense(3)]),
        ),
        (4,),
    ),
    "all in one": (lambda: sequential(pooled(frozen())), (4,)),
    "resized": (
        lambda: pooled(frozen(), before=[layers.Resizing(8, 8), layers.Rescaling(1 / 255)]),
        (4,),
    ),
    "last layers trained": (last_layers_trained, (6, 6, 4)),
    "layer of your own": (lambda: pooled(frozen(), before=[Shift()]), (4,)),
    "function of your own": (lambda: with_lambda(lambda x: x / 2), (4,)),
    "operations": (lambda: pooled(frozen(), layers.Dense(4, trainable=False)), (4,)),
    "embedding": (embedded, (5, 4)),
    "called twice": (called_twice, SHAPE),
    "called twice and trained": (called_twice_and_trained, None),
    "nothing frozen": (lambda: pooled(backbone(normalised=False)), None),
    "normalisations' states alone": (lambda: pooled(backbone()), None),
    "rescaled alone": (
        lambda: sequential(layers.Rescaling(1.0), layers.Flatten(), layers.Dense(3)),
        None,
    ),
    "adapted normalisation alone": (adapted, None),
    "frozen at its end": (
        lambda: sequential(
            layers.Conv2D(2, 3), layers.Conv2D(2, 3, trainable=False), layers.Flatten(),
            layers.Dense(3),
        ),
        None,
    ),
    "flipped before": (lambda: pooled(frozen(), before=[layers.RandomFlip()]), None),
    "flipped in it": (lambda: pooled(frozen(layers.RandomFlip())), None),
    "random layer of your own": (lambda: pooled(frozen(), before=[Jitter()]), None),
    "function that differs in training": (
        lambda: with_lambda(lambda x, training=False: x + 1 if training else x),
        None,
    ),
    "counter": (lambda: pooled(frozen(), before=[Counter()]), None),
    "variable as operand": (by_variable, None),
    "a trained branch": (trained_branch, None),
    "normalised in training": (normalised_in_training, (6, 6, 4)),
    "mask": (masked, None),
}  # fmt: skip


def random_images(model, count=5):
    rng = np.random.default_rng(0)
    shape = (count, *model.inputs[0].shape[1:])
    if "int" in model.inputs[0].dtype:
        return rng.integers(0, 7, shape)
    return rng.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("kind", MODELS)
def test_a_prefix_ends_before_what_is_trained_or_random(kind):
    make, shape = MODELS[kind]
    model = make()
    found = prefix.split(model)
    if shape is None:
        assert found is None
        return
    assert found.prefix.output_shape[1:] == shape
    assert not found.prefix.trainable_variables
    # All that is trained is in the rest, in place.
    assert set(map(id, found.rest.trainable_variables)) == set(map(id, model.trainable_variables))
    images = random_images(model)
    np.testing.assert_array_equal(found.rest(found.prefix(images)), model(images, training=False))
    # It is in inference mode in training too.
    before = found.prefix.get_weights()
    first = found.prefix(images)
    if kind != "noise in it, in inference mode":
        np.testing.assert_array_equal(found.prefix(images, training=True), first)
    for old, new in zip(before, found.prefix.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_the_prefix_is_the_same_when_the_head_grows():
    model = pooled(frozen())
    grown = structure.grow_head(model, 2, np.random.default_rng(0))
    before, after = prefix.split(model), prefix.split(grown)
    assert after.parts == before.parts
    assert after.rest.output_shape == (None, 5)
    other = prefix.split(pooled(frozen()))
    assert other.parts != before.parts


def test_a_base_that_is_trained_later_is_no_prefix_any_more():
    base = frozen()
    model = pooled(base)
    assert prefix.split(model) is not None
    base.trainable = True
    assert prefix.split(model) is None


HINDERED = {
    "flipped before": "random_flip",
    "noise in it": "noise",
    "random layer of your own": "jitter",
}


@pytest.mark.parametrize("kind", MODELS)
def test_what_keeps_frozen_layers_from_being_computed_once_is_told(kind):
    told = prefix.hindrance(MODELS[kind][0]())
    if kind in HINDERED:
        assert HINDERED[kind] in told and "training=False" in told
    elif kind not in (
        "flipped in it",
        "function that differs in training",
        "counter",
        "mask",
        "normalised in training",
        "variable as operand",
    ):
        assert told is None
