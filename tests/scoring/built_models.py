"""Models in the ways in which Keras' guides and users build them; small, with random weights."""

import keras
import numpy as np

from tests.scoring import models

layers, ops = keras.layers, keras.ops
SHAPE = (6, 6, 3)


def _ended(image, x, classes=3):
    """A model whose last features are pooled and classified."""
    while len(x.shape) > 2:
        x = ops.mean(x, axis=1)
    return keras.Model(image, layers.Dense(classes, kernel_regularizer="l2")(x))


def branches():
    image = keras.Input(SHAPE)
    stem = layers.Conv2D(4, 3, padding="same", activation="relu")(image)
    parts = [layers.Conv2D(2, size, padding="same", activation="tanh")(stem) for size in (1, 3)]
    parts.append(layers.Conv2D(2, 1)(layers.MaxPooling2D(3, 1, padding="same")(stem)))
    return _ended(image, layers.Concatenate()(parts))


def functional_in_sequential():
    inner = keras.Input(SHAPE)
    x = layers.Conv2D(4, 3, padding="same", activation="tanh")(inner)
    block = keras.Model(inner, layers.Add()([layers.Conv2D(4, 1)(inner), x]))
    return keras.Sequential([keras.Input(SHAPE), block, layers.Flatten(), layers.Dense(3)])


def shared_backbone():
    """Two views of an image through one network."""
    backbone = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(4, 3, activation="tanh"), layers.GlobalMaxPooling2D()]
    )
    image = keras.Input(SHAPE)
    views = [backbone(image), backbone(ops.flip(image, axis=2))]
    return _ended(image, layers.Concatenate()([*views, ops.abs(views[0] - views[1])]))


def called_three_times():
    image = keras.Input(SHAPE)
    x = layers.Dense(5)(image)
    again, norm = layers.Dense(5, activation="tanh"), layers.LayerNormalization()
    for _ in range(3):
        x = x + norm(again(x))
    return _ended(image, x)


def frames():
    image = keras.Input((3, *SHAPE))
    x = layers.TimeDistributed(layers.Conv2D(2, 3, activation="tanh"))(image)
    return _ended(image, layers.TimeDistributed(layers.Flatten())(x))


def both_ways():
    signal = keras.Input((3, 2))
    return _ended(signal, layers.Bidirectional(layers.LSTM(2, return_sequences=True))(signal))


def masked():
    signal = keras.Input((3, 2))
    return _ended(signal, layers.GRU(2)(layers.Masking(mask_value=0.0)(signal)))


def spectral():
    image = keras.Input(SHAPE)
    x = layers.SpectralNormalization(layers.Conv2D(4, 3))(image)
    return _ended(image, layers.SpectralNormalization(layers.Dense(4, activation="tanh"))(x))


def adapters():
    image = keras.Input(SHAPE)
    inner = layers.Dense(5, activation="tanh", kernel_regularizer="l2")
    model = _ended(image, inner(layers.Flatten()(image)))
    inner.enable_lora(2)
    return model


def adapters_alone():
    """Fine-tuning of adapters: all else is frozen, and the head has one."""
    model = adapters()
    model.layers[-1].enable_lora(1)
    for variable in model.trainable_variables:
        variable.trainable = "lora" in variable.path
    return model


def frozen_normalization():
    """A base that is frozen and called in inference mode; a normalisation that trains."""
    base_image = keras.Input(SHAPE)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(base_image))
    base = keras.Model(base_image, layers.Activation("relu")(x))
    base.trainable = False
    image = keras.Input(SHAPE)
    x = layers.BatchNormalization()(layers.Conv2D(3, 2)(base(image, training=False)))
    return _ended(image, x)


def partly_unfrozen():
    """The base is frozen as a whole, then its last convolution is unfrozen."""
    model = functional_in_sequential()
    model.layers[0].trainable = False
    model.layers[0].layers[-2].trainable = True
    return model


class Shift(layers.Layer):
    """Holds variables that it made without `add_weight`, one of them not trained."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.offset = keras.Variable(np.array([0.3, -0.2, 0.1], "float32"), name="offset")
        self.scale = keras.Variable(1.5, trainable=False, name="scale")

    def call(self, inputs):
        return ops.tanh(self.scale * inputs + self.offset)


def own_variables():
    image = keras.Input(SHAPE)
    return _ended(image, layers.Conv2D(3, 2)(Shift()(image)))


def variable_operand():
    """A variable in the graph that belongs to no layer, which nothing trains."""
    image = keras.Input(SHAPE)
    return _ended(image, layers.Conv2D(3, 2)(image * keras.Variable(1.7) + 0.5))


@keras.saving.register_keras_serializable("tests")
class Block(layers.Layer):
    """A residual block with layers of its own within."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.first, self.norm = layers.Dense(width, activation="tanh"), layers.LayerNormalization()
        self.last = layers.Dense(width, kernel_regularizer="l2")

    def call(self, inputs):
        return inputs + self.last(self.norm(self.first(inputs)))

    def get_config(self):
        return {**super().get_config(), "width": self.width}


def blocks():
    image = keras.Input(SHAPE)
    return _ended(image, Block(3)(Block(3)(image)))


def unfrozen_within_a_block():
    """A layer of several, frozen as a whole, in which one was unfrozen since."""
    model = blocks()
    block = model.layers[1]
    block.trainable = False
    block.last.trainable = True
    return model


def frozen_block():
    model = blocks()
    model.layers[1].trainable = False
    return model


def variable_unfrozen_alone():
    model = branches()
    model.layers[1].trainable = False
    model.layers[1].bias.trainable = True
    return model


class Net(keras.Model):
    """A model of a class of its own, without a graph."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = layers.Conv2D(4, 3, activation="tanh"), layers.Dense(4)

    def call(self, inputs, training=False):
        return self.last(self.first(inputs))


def subclassed_within():
    image = keras.Input(SHAPE)
    return _ended(image, Net()(image))


class OnGraph(keras.Model):
    """A functional model of a class of its own that changes nothing of `call`."""

    def __init__(self, width=4, **kwargs):
        image = keras.Input(SHAPE)
        x = ops.mean(layers.Conv2D(width, 3, activation="tanh")(image), axis=(1, 2))
        super().__init__(image, layers.Dense(3)(x), **kwargs)


class OnGraphAndMore(OnGraph):
    """One that feeds its graph with something else than it gets."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs**2 + 1, training=training, mask=mask)


def more_within():
    image = keras.Input(SHAPE)
    return _ended(image, layers.Dense(4, activation="tanh")(OnGraphAndMore()(image)))


def attention():
    """Patches with learnt positions and attention, in layers of Keras."""
    image = keras.Input(SHAPE)
    x = layers.Reshape((9, 4))(layers.Conv2D(4, 2, strides=2)(image))
    x = x + layers.Embedding(9, 4)(ops.arange(9))
    x = x + layers.MultiHeadAttention(2, 3)(x, x)
    return _ended(image, layers.LayerNormalization()(x))


class Unregistered(layers.Layer):
    def call(self, inputs):
        return ops.tanh(inputs)


def shared_between_models():
    """A layer within a nested model and beside it, and a layer that Keras cannot find by name."""
    dense = layers.Dense(4)
    inner = keras.Input((6, 6, 4))
    nested = keras.Model(inner, dense(Unregistered()(dense(inner))))
    image = keras.Input(SHAPE)
    x = layers.Conv2D(4, 1)(image)
    return _ended(image, dense(nested(x)) + x)


def arithmetic():
    image = keras.Input(SHAPE)
    x = (image - 0.4) / 0.7
    x = ops.concatenate([x, ops.sqrt(ops.abs(x) + 1)], axis=-1)
    return _ended(image, ops.relu(layers.Conv2D(4, 3)(x)) ** 2 - 1)


def part_of_another():
    """A body cut out of another model, below its top."""
    other = branches()
    return _ended(other.input, layers.Dense(4, activation="tanh")(other.layers[-3].output))


def double_precision():
    image = keras.Input(SHAPE, dtype="float64")
    x = layers.Conv2D(4, 3, activation="tanh", dtype="float64")(image)
    x = layers.GlobalAveragePooling2D(dtype="float64")(x)
    return keras.Model(image, layers.Dense(3, dtype="float64")(x))


def decoder():
    image = keras.Input(SHAPE)
    x = layers.Conv2DTranspose(4, 3, strides=2, activation="tanh")(image)
    x = layers.PReLU(shared_axes=[1, 2])(layers.UpSampling2D()(layers.Conv2D(3, 3, 2)(x)))
    return _ended(image, layers.GroupNormalization(1)(x))


def popped():
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(4, 3), layers.ReLU(), layers.Flatten()]
    )
    model.add(layers.Dense(9, activation="softmax"))
    model.pop()
    model.add(layers.Dense(5, kernel_constraint="max_norm"))
    model.add(layers.LeakyReLU())
    model.add(layers.Dense(3))
    return model


def words_as_floats():
    text = keras.Input((100,))
    return _ended(text, layers.Embedding(11, 4)(text))


def two_words():
    """As few words as there can be."""
    text = keras.Input((5,))
    return _ended(text, layers.Embedding(2, 4, mask_zero=True)(text))


def sentences():
    """Numbers of words in two axes."""
    text = keras.Input((3, 4))
    return _ended(text, layers.Dense(3, activation="tanh")(layers.Embedding(3, 4)(text)))


BUILT = {
    each.__name__: each
    for each in (
        branches, functional_in_sequential, shared_backbone, called_three_times, frames, both_ways,
        masked, spectral, adapters, adapters_alone, frozen_normalization, partly_unfrozen,
        variable_operand, blocks, unfrozen_within_a_block, frozen_block,
        variable_unfrozen_alone, subclassed_within, OnGraph, more_within, attention,
        shared_between_models, arithmetic, part_of_another, double_precision, decoder, popped,
        words_as_floats, two_words, sentences,
    )
}  # fmt: skip


def make(name):
    return models.randomised(BUILT[name]())


def make_images(model, count=7):
    """Images, or words where an embedding comes first."""
    rng, shape = np.random.default_rng(1), (count, *model.input_shape[1:])
    words = [layer for layer in model.layers if isinstance(layer, layers.Embedding)]
    if words and len(shape) < 4:
        return rng.integers(0, words[0].input_dim, shape).astype(np.float32)
    return rng.normal(size=shape).astype(np.float32)
