"""Small models for comparing scorers, with weights that make all outputs and scores distinct."""

import keras
import numpy as np

from emoc_tf.models import structure

layers = keras.layers


def randomised(model, seed=0, scale=0.5):
    """Gives every weight, biases too, a random value, so that nothing cancels by being zero."""
    rng = np.random.default_rng(seed)

    def draw(variable):
        fan_in = max(1, np.prod(variable.shape[:-1]))
        values = scale * rng.normal(size=variable.shape) / np.sqrt(fan_in)
        return 0.5 + np.abs(values) if "variance" in variable.path else values

    model.set_weights([draw(variable) for variable in model.weights])
    return model


def inputs(model, count, seed=1):
    """Random inputs of a model: images, or words where it takes integers."""
    shape, dtype = model.input_shape[1:], model.inputs[0].dtype
    if "int" in dtype:
        return np.random.default_rng(seed).integers(0, 11, (count, *shape))
    return images(count, shape, seed)


def images(count, shape, seed=1, scale=1.0):
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=(count, *shape))).astype(np.float32)


def l2():
    return keras.regularizers.L2(0.05)


def dense(classes=4):
    image = keras.Input((5, 3, 1))
    x = layers.Flatten()(image)
    x = layers.Dense(7, activation="tanh", kernel_regularizer=l2(), bias_regularizer=l2())(x)
    x = layers.Dense(classes, kernel_regularizer=l2(), use_bias=False)(x)
    return keras.Model(image, x)


def convolutional(classes=4):
    image = keras.Input((6, 5, 2))
    x = layers.Conv2D(3, 3, strides=2, padding="same", activation="relu", bias_regularizer=l2())(
        image
    )
    x = layers.Conv2D(4, 2, padding="valid", dilation_rate=1, use_bias=False)(x)
    x = layers.MaxPooling2D(2, padding="same")(x)
    x = layers.Flatten()(x)
    x = layers.Dense(classes, kernel_regularizer=l2(), bias_regularizer=l2())(x)
    return keras.Model(image, x)


def dilated(classes=3):
    image = keras.Input((7, 6, 2))
    x = layers.Conv2D(3, (3, 2), dilation_rate=2, padding="same", activation="softplus")(image)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, layers.Dense(classes)(x))


def sequential(classes=3):
    return keras.Sequential(
        [
            keras.Input((5, 5, 1)),
            layers.Conv2D(2, 3, activation="relu"),
            layers.Dropout(0.5),
            layers.Flatten(),
            layers.Dense(classes),
        ]
    )


def unusual(classes=3):
    """Grouped and depthwise convolutions, normalisation, a shared layer, a nested model."""
    image = keras.Input((6, 6, 4))
    x = layers.Conv2D(4, 3, groups=2, padding="same", activation="tanh")(image)
    x = layers.BatchNormalization()(x)
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    shared = layers.Conv2D(4, 1, activation="tanh", kernel_regularizer=l2())
    x = layers.Add()([shared(x), shared(shared(x))])
    inner_input = keras.Input((6, 6, 4))
    inner = keras.Model(inner_input, layers.Conv2D(3, 3, strides=2)(inner_input))
    x = layers.GlobalAveragePooling2D()(inner(x))
    return keras.Model(image, layers.Dense(classes, bias_regularizer=l2())(x))


def separable(classes=3):
    image = keras.Input((7, 6, 2))
    x = layers.SeparableConv2D(4, 3, strides=2, depth_multiplier=2, padding="same")(image)
    x = layers.SeparableConv2D(3, 2, activation="tanh", use_bias=False)(x)
    x = layers.DepthwiseConv2D(2, dilation_rate=2, padding="same", depth_multiplier=2)(x)
    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(x)))


def signals(classes=3):
    """Axes of time: causal and separable convolutions, dense layers at each position."""
    signal = keras.Input((9, 2))
    x = layers.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="tanh")(signal)
    x = layers.Dense(4, activation="softplus", kernel_regularizer=l2())(x)
    x = layers.Conv1D(4, 2, strides=2, groups=2, padding="same")(x)
    x = layers.SeparableConv1D(3, 2, padding="same")(x)
    x = layers.DepthwiseConv1D(2)(x)
    return keras.Model(signal, layers.Dense(classes)(layers.Flatten()(x)))


def normalised(classes=3):
    image = keras.Input((4, 5, 3))
    x = layers.BatchNormalization(axis=2, scale=False)(image)
    x = layers.LayerNormalization()(x)
    x = layers.Activation("tanh")(layers.Conv2D(4, 2)(x))
    x = layers.LayerNormalization(axis=[1, 3], center=False, gamma_regularizer=l2())(x)
    x = layers.BatchNormalization(center=False)(x)
    x = layers.LayerNormalization()(layers.Dense(5)(layers.Flatten()(x)))
    return keras.Model(image, layers.Dense(classes)(x))


def words(classes=3):
    """An embedding with masked padding."""
    text = keras.Input((6,), dtype="int32")
    x = layers.Embedding(11, 4, mask_zero=True, embeddings_regularizer=l2())(text)
    x = layers.Dense(5, activation="tanh")(x)
    return keras.Model(text, layers.Dense(classes)(layers.GlobalAveragePooling1D()(x)))


def deep_words(classes=3):
    """One word in one place, as often as another: the embedding's table is looked up twice."""
    text = keras.Input((2,), dtype="int32")
    table = layers.Embedding(40, 6)
    x = layers.Concatenate()([layers.Flatten()(table(text)), layers.Flatten()(table(text))])
    return keras.Model(text, layers.Dense(classes)(layers.Dense(4, activation="tanh")(x)))


def nested(classes=3):
    """A Sequential in a functional model in a model, the functional one called twice."""
    inner_input = keras.Input((5, 5, 3))
    block = keras.Sequential([layers.Conv2D(3, 3, padding="same", activation="tanh")])
    y = layers.BatchNormalization()(block(inner_input))
    inner = keras.Model(inner_input, layers.Add()([inner_input, y]))
    image = keras.Input((5, 5, 3))
    x = inner(inner(image))
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(image, layers.Dense(classes)(x))


def two_branches(classes=3):
    """A nested model with two inputs and two outputs."""
    left, right = keras.Input((6,)), keras.Input((6,))
    mixed = layers.Dense(4, activation="tanh")(layers.Concatenate()([left, right]))
    inner = keras.Model([left, right], [mixed, layers.Dense(4)(left)])
    image = keras.Input((6,))
    one, other = inner([image, layers.Dense(6, activation="sigmoid")(image)])
    return keras.Model(image, layers.Dense(classes)(layers.Multiply()([one, other])))


def few_positions(classes=9):
    """More outputs than positions, so that other contractions pay."""
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(12, 3, strides=2, activation="tanh", padding="same")(image)
    x = layers.Conv2D(16, 2, activation="tanh")(x)
    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(x)))


class Scale(layers.Layer):
    """A layer of your own."""

    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],), initializer="ones")

    def call(self, inputs):
        return inputs * self.factor


def unknown(classes=3):
    """Layers that only the generic way knows: own, wrapped, with weights of others."""
    image = keras.Input((4, 4, 2))
    x = layers.GroupNormalization(1)(layers.Conv2D(4, 2, activation="tanh")(image))
    x = Scale()(layers.PReLU()(x))
    x = layers.TimeDistributed(layers.Dense(3))(x)
    return keras.Model(image, layers.Dense(classes)(layers.Flatten()(x)))


def partly_frozen(classes=3):
    model = convolutional(classes)
    model.layers[1].trainable = False
    return model


def headless_training(classes=3):
    """Only a convolution trains; the head is frozen."""
    model = convolutional(classes)
    model.layers[-1].trainable = False
    return model


def grown():
    return structure.grow_head(randomised(convolutional(3)), 1, np.random.default_rng(3))


MODELS = {
    "dense": dense,
    "convolutional": convolutional,
    "dilated": dilated,
    "sequential": sequential,
    "unusual": unusual,
    "separable": separable,
    "signals": signals,
    "normalised": normalised,
    "words": words,
    "deep_words": deep_words,
    "nested": nested,
    "two_branches": two_branches,
    "few_positions": few_positions,
    "unknown": unknown,
    "partly_frozen": partly_frozen,
    "headless_training": headless_training,
    "grown": grown,
}


def make(name, scale=0.5):
    return randomised(MODELS[name](), scale=scale)
