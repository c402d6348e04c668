"""Layers that Keras ships beside the most common ones, and layers of your own, in batches."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.applications.convnext import LayerScale

from emoc_tf.scoring import EMOCScorer
from emoc_tf.scoring.gradients import generic, products
from tests.scoring import forward_mode, models
from tests.scoring.own_models import scorer_of

layers = keras.layers


def check(model, but=None):
    """Compares with the literal scores, without a warning `but` one; returns the contractions."""
    model = models.randomised(model)
    images = models.inputs(model, 7)
    labels = np.arange(4) % model.output_shape[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        if but:
            warnings.filterwarnings("ignore", but)
        scorer = EMOCScorer(model)
    found = scorer.scores(images[:3], images[3:], labels)
    right = literal(model, images[:3], images[3:], labels)
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-4 * np.abs(right).max())
    return {row.contraction for row in scorer.plan()}


def literal(model, x, candidates, labels):
    """Eq. 4 by automatic differentiation of the model itself, in the precision that it has."""
    values = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        rows = tf.unstack(tf.reshape(model(x, training=False), [-1]))
        logits = model(candidates, training=False)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        losses = [loss + sum(model.losses) for loss in tf.unstack(losses)]

    def flat(target):
        found = tape.gradient(target, values, unconnected_gradients="zero")
        return np.concatenate([np.ravel(tf.convert_to_tensor(each)) for each in found])

    products = np.stack([flat(row) for row in rows]) @ np.stack([flat(each) for each in losses]).T
    return np.abs(products).sum(axis=0) / len(x)


def ended(inputs, x):
    x = layers.Flatten()(x) if len(x.shape) > 2 else x
    return keras.Model(inputs, layers.Dense(3, kernel_regularizer=models.l2())(x))


def scales():
    image = x = keras.Input((3, 4, 6))
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(6, 1)(x))
    x = layers.GroupNormalization(3)(x)
    x = LayerScale(0.5, 6)(layers.PReLU()(x))
    return ended(image, layers.GroupNormalization(-1, scale=False)(x))


def more_scales():
    image = x = keras.Input((3, 4, 6))
    x = layers.GroupNormalization(2, axis=2, center=False)(layers.PReLU(shared_axes=[2])(x))
    x = layers.RMSNormalization()(layers.BatchNormalization(renorm=True)(x))
    x = layers.RMSNormalization(axis=[-2, -1])(layers.UnitNormalization()(x))
    return ended(image, layers.LayerNormalization(axis=[1, 3])(x))


def transposed():
    image = x = keras.Input((4, 3, 2))
    x = layers.Conv2DTranspose(3, 3, strides=2, padding="same", activation="tanh")(x)
    x = layers.Conv2DTranspose(2, (2, 3), strides=(1, 2), use_bias=False)(x)
    x = layers.Conv2DTranspose(2, 3, strides=2, output_padding=0)(x)
    return ended(image, layers.GlobalAveragePooling2D()(x * x))


def more_transposed():
    signal = x = keras.Input((5, 3))
    x = layers.Conv1DTranspose(4, 3, strides=2, padding="same", output_padding=0)(x)
    x = layers.Conv1DTranspose(3, 1, strides=3, activation="tanh")(x)
    x = layers.Reshape((3, 3, 3, 3))(x)
    return ended(signal, layers.Conv3DTranspose(2, 2, activation="softplus")(x))


def sums():
    image = x = keras.Input((4, 6))
    x = layers.EinsumDense("abc,cde->abde", (4, 2, 3), bias_axes="de")(x)
    x = layers.EinsumDense("abde,def->abf", (4, 5), bias_axes="f", activation="tanh")(x)
    x = layers.EinsumDense("abc,bcd->abd", (4, 3), bias_axes="bd")(x)
    x = layers.EinsumDense("...x,xy->...y", 4)(x)
    x = layers.EinsumDense("abc,cd->adb", (3, 4), bias_axes="d")(x)
    return ended(image, x)


def sums_of_vectors():
    """Offsets of several axes where gradients are kept as factors."""
    image = x = keras.Input((6,))
    x = layers.EinsumDense("ac,cde->ade", (2, 3), bias_axes="de", activation="tanh")(x)
    x = layers.EinsumDense("ade,defg->afg", (2, 4), bias_axes="fg")(x)
    return ended(image, x)


class Positions(layers.Layer):
    """A bare variable that is added."""

    def build(self, shape):
        self.table = self.add_weight(shape=shape[1:], initializer="normal")

    def call(self, x):
        return x + self.table


class Block(layers.Layer):
    """A transformer's block, as Keras' guides write it."""

    def __init__(self, causal=False, **settings):
        super().__init__(**settings)
        self.attention = layers.MultiHeadAttention(2, 3)
        self.dense = keras.Sequential([layers.Dense(5, "gelu"), layers.Dense(4)])
        self.norms = [layers.LayerNormalization(), layers.LayerNormalization()]
        self.drop, self.causal = layers.Dropout(0.5), causal

    def build(self, shape):
        self.attention.build(shape, shape)
        self.dense.build(shape)
        for norm in self.norms:
            norm.build(shape)

    def call(self, x, training=None):
        seen = self.attention(x, x, use_causal_mask=self.causal)
        x = self.norms[0](x + self.drop(seen, training=training))
        return self.norms[1](x + self.dense(x))


def attention():
    image = x = keras.Input((5, 4))
    x = layers.MultiHeadAttention(2, 3, value_dim=2, dropout=0.3)(x, x)
    x = layers.GroupQueryAttention(3, 4, 2)(x, image)
    return ended(image, x)


def blocks():
    image = x = keras.Input((5, 4))
    return ended(image, layers.GlobalAveragePooling1D()(Block()(Block(causal=True)(x))))


def distributed():
    image = x = keras.Input((5, 4))
    return ended(image, layers.TimeDistributed(layers.Dense(3, activation="tanh"))(x))


def other_axes():
    image = x = keras.Input((4, 4, 4))
    x = layers.RMSNormalization(axis=1)(layers.Dense(4, activation="tanh")(x))
    x = layers.RMSNormalization(axis=[1, 2])(x)
    return ended(image, x)


def channels_first():
    image = x = keras.Input((2, 5, 6))
    how = {"data_format": "channels_first"}
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, activation="tanh", **how)(x)
    x = layers.SeparableConv2D(3, 2, padding="same", activation="tanh", **how)(x)
    x = layers.Reshape((3, -1))(x)
    return ended(image, layers.DepthwiseConv1D(3, strides=2, dilation_rate=1, **how)(x))


@pytest.mark.parametrize(
    "build",
    [
        other_axes,
        channels_first,
        scales,
        more_scales,
        transposed,
        more_transposed,
        sums,
        sums_of_vectors,
        attention,
        blocks,
        distributed,
    ],
)
def test_what_keras_ships_has_stages(build):
    assert "generic" not in check(build())


DEPRECATED = "You passed `rms_scaling=True`, which is deprecated"


@pytest.mark.filterwarnings(f"ignore:{DEPRECATED}")  # models that people have saved have it
def test_a_layer_normalisation_that_subtracts_no_mean():
    image = x = keras.Input((3, 4, 6))
    x = layers.LayerNormalization(rms_scaling=True)(layers.Dense(6, activation="tanh")(x))
    x = layers.LayerNormalization(axis=[1, 3], rms_scaling=True)(x)
    assert "generic" not in check(ended(image, x), but=DEPRECATED)


def masked_text(kind):
    """Words, of which 0 is none, through attention that masks hide some of."""
    text = keras.Input((5,), dtype="int32")
    x = layers.Embedding(9, 4, mask_zero=True)(text)
    if kind == "nested":
        inside = keras.Input((5, 4))
        inner = keras.Model(inside, layers.MultiHeadAttention(2, 3)(inside, inside))
        x = inner(x)
    else:
        x = layers.Add()([x, layers.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)])
        x = layers.LayerNormalization()(layers.GroupQueryAttention(2, 2, 1)(x, x))
    return ended(text, layers.GlobalAveragePooling1D()(x))


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("kind", ["self", "nested"])
def test_masks_hide_words(kind):
    model = models.randomised(masked_text(kind))
    words = np.random.default_rng(0).integers(0, 9, (7, 5))
    words[:, 0] = np.arange(7) % 3  # some begin with a masked one
    words[:4, -2:] = 0
    scorer = EMOCScorer(model)
    expected = forward_mode.scores(model, words[:3], words[3:])
    np.testing.assert_allclose(scorer.scores(words[:3], words[3:]), expected, rtol=1e-4)
    assert "generic" not in {row.contraction for row in scorer.plan()}


class Twice(layers.Layer):
    """A weight that is used twice, not linearly, and one that is not used at all."""

    def build(self, shape):
        self.first = self.add_weight(shape=(shape[-1], 3), initializer="normal")
        self.unused = self.add_weight(shape=(2,))

    def call(self, x, other=None):
        x = keras.ops.tanh(keras.ops.matmul(x, self.first)) @ keras.ops.transpose(self.first)
        return x if other is None else x * other


def own_layers():
    image = x = keras.Input((4, 6))
    x = Positions()(x)
    x = Twice()(x, other=keras.ops.sin(x))
    twice = layers.TimeDistributed(layers.LayerNormalization())
    return ended(image, twice(twice(x)))


def grouped():
    """Where vectorising the whole network's gradient fails."""
    image = x = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 2, groups=2, activation="tanh")(layers.DepthwiseConv2D(2)(x))
    return ended(image, Twice()(x))


@pytest.mark.parametrize("build", [own_layers, grouped])
def test_layers_of_your_own_are_scored_in_batches(build, monkeypatch):
    def fail(*given):
        raise AssertionError("one at a time")

    monkeypatch.setattr(generic, "rows", fail)
    assert "generic" in check(build())


def test_what_cannot_be_vectorised_goes_one_at_a_time():
    image = keras.Input((3, 2, 2))
    model = models.randomised(ended(image, layers.ConvLSTM1D(2, 2)(image)))
    images = models.inputs(model, 6)
    with pytest.warns(UserWarning, match="one example at a time: conv_lstm"):
        scorer = EMOCScorer(model)
    right = forward_mode.scores(model, images[:3], images[3:])
    np.testing.assert_allclose(scorer.scores(images[:3], images[3:]), right, rtol=1e-4)


@pytest.mark.parametrize(
    ("equation", "rank", "known"),
    [
        ("ab,bc->ac", 2, True),
        ("abc,cde->abde", 3, True),
        ("...x,xy->...y", 4, True),
        ("ab...,bc->ac...", 4, True),
        ("abc,bcd->abd", 3, True),
        ("abc,cd->ad", 3, False),  # b is summed in the input alone
        ("abc,cde->abd", 3, False),  # e is summed in the kernel alone
        ("ab,acb->ac", 2, False),  # a kernel for each example
        ("ab,bc->ca", 2, False),
    ],
)
def test_which_sums_are_known(equation, rank, known):
    assert (products.letters_of(equation, rank) is not None) == known


def test_gradients_that_do_not_tell_their_rank():
    image = keras.Input((5, 5, 2))
    x = layers.GlobalMaxPooling2D()(layers.Conv2DTranspose(3, 3, strides=2)(image))
    model = models.randomised(keras.Model(image, layers.Dense(3)(x)))
    images = models.inputs(model, 6)
    expected = forward_mode.scores(model, images[:3], images[3:])
    found = EMOCScorer(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_loops_that_are_written_out():
    """They can be vectorised for some numbers of examples and not for others."""
    text = keras.Input((3, 2))
    x = layers.GRU(2, unroll=True, reset_after=False)(text)
    model = models.randomised(keras.Model(text, layers.Dense(3)(x)))
    images = models.inputs(model, 6)
    expected = forward_mode.scores(model, images[:3], images[3:])
    found = scorer_of(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
