"""Small models for comparing scorers, with weights that make all outputs and scores distinct."""

import keras
import numpy as np

from emoc_tf import networks

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
    return networks.grow_head(randomised(convolutional(3)), 1, np.random.default_rng(3))


MODELS = {
    "dense": dense,
    "convolutional": convolutional,
    "dilated": dilated,
    "sequential": sequential,
    "unusual": unusual,
    "partly_frozen": partly_frozen,
    "headless_training": headless_training,
    "grown": grown,
}


def make(name, scale=0.5):
    return randomised(MODELS[name](), scale=scale)
