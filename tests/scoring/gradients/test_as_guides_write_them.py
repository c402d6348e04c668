"""Layers of several outputs, open sizes, and blocks as Keras' guides write them: all are right."""

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer
from emoc_tf.scoring.gradients import opening
from tests.scoring import forward_mode, models

layers, ops = keras.layers, keras.ops
TIMES = 6


def ended(inputs, x):
    x = layers.GlobalAveragePooling1D()(x) if len(x.shape) > 2 else x
    return keras.Model(inputs, layers.Dense(3)(x))


def given(model):
    """Signals or words of several lengths: zeros behind, in one before."""
    rng, image = np.random.default_rng(1), model.inputs[0]
    shape = (6, *(TIMES if size is None else size for size in image.shape[1:]))
    found = rng.integers(1, 9, shape) if "int" in image.dtype else rng.normal(size=shape)
    for i, each in enumerate(found):
        each[len(each) - i % 4 :] = 0
    found[0, 0] = 0
    return found.astype(image.dtype)


def checked(model):
    """Compares the scores with forward mode; returns the layers that have no stages."""
    model = models.randomised(model, scale=1.0)
    images = given(model)
    expected = forward_mode.scores(model, images[:3], images[3:])
    scorer = EMOCScorer(model)
    found = scorer.scores(images[:3], images[3:])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())
    assert expected.min() > 0
    return [each.layer for each in scorer.plan() if each.contraction == "generic"]


def signals(times=TIMES, masked=False):
    found = keras.Input((times, 3))
    return found, layers.Masking()(found) if masked else found


def words(times=TIMES):
    found = keras.Input((times,), dtype="int32")
    return found, layers.Embedding(9, 4, mask_zero=True)(found)


class Codes(layers.Layer):
    """Numbers, which of them is the largest, and whether they are above 0."""

    def __init__(self, form=lambda *found: found):
        super().__init__()
        self.form = form

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], 4))

    def call(self, x):
        z = ops.tanh(ops.matmul(x, self.kernel))
        return self.form(z, ops.argmax(z, axis=-1), ops.sum(self.kernel**2))


def with_codes(form, masked=False):
    inputs, x = signals(masked=masked)
    first, second = Codes(form)(x)
    numbers, code = (first, second) if "int" in second.dtype else (second, first)
    return ended(inputs, ops.concatenate([numbers, layers.Embedding(4, 2)(code)], -1))


def scaled_by_a_scalar():
    inputs, x = signals()
    numbers, scale = Codes(lambda z, code, square: (z, square))(x)
    return ended(inputs, numbers * scale)


def codes_alone():
    inputs, x = signals()
    return ended(inputs, layers.Embedding(4, 2)(Codes(lambda z, code, square: code)(x)))


class Heads(layers.Layer):
    """Attention as guides write it out: with the number of images in the shapes."""

    def __init__(self, how="batch"):
        super().__init__()
        self.supports_masking, self.how = True, how
        self.parts = [layers.Dense(4) for _ in range(4)]

    def build(self, shape):
        for each in self.parts:
            each.build((None, None, shape[-1]))

    def split(self, x):
        batch, times, size = ops.shape(x)
        times = -1 if self.how == "batch" else times
        return ops.transpose(ops.reshape(x, (batch, times, 2, size // 2)), (0, 2, 1, 3))

    def call(self, x, mask=None):
        query, key, value = (self.split(each(x)) for each in self.parts[:3])
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        if mask is not None:
            scores = ops.where(mask[:, None, None, :], scores, -1e9)
        found = ops.transpose(ops.matmul(ops.softmax(scores), value), (0, 2, 1, 3))
        return self.parts[3](ops.reshape(found, (ops.shape(x)[0], -1, 4)))

    def compute_output_shape(self, shape):
        return shape


class Guide(layers.Layer):
    """A transformer's block to which the mask is given as integers."""

    def __init__(self):
        super().__init__()
        self.supports_masking = True
        self.attention, self.norm = layers.MultiHeadAttention(2, 2), layers.LayerNormalization()
        self.dense = keras.Sequential([layers.Dense(5, activation="relu"), layers.Dense(4)])

    def build(self, shape):
        self.attention.build(shape, shape)
        self.norm.build(shape)
        self.dense.build(shape)

    def call(self, x, mask=None):
        hidden = None if mask is None else ops.cast(mask[:, None, :], "int32")
        return self.dense(self.norm(x + self.attention(x, x, x, attention_mask=hidden)))


class Merged(layers.Layer):
    """Times as rows of their own, one image after the other."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4, activation="tanh")

    def build(self, shape):
        self.dense.build((None, shape[-1]))

    def call(self, x):
        return ops.reshape(self.dense(ops.reshape(x, (-1, x.shape[-1]))), (-1, x.shape[1], 4))


class Under(layers.Layer):
    """A mask of your own; of drawn images it hides nothing."""

    def __init__(self, bound=0.5):
        super().__init__()
        self.supports_masking, self.bound = True, bound

    def call(self, x):
        return x + 0

    def compute_mask(self, x, previous_mask=None):
        return ops.less(
            ops.reshape(x, (-1, TIMES, 12 if len(x.shape) > 3 else 3))[..., 0], self.bound
        )


def flattened_under_a_mask():
    """What has no weights is opened too where there are masks."""
    inputs = keras.Input((TIMES, 4, 3))
    x = layers.TimeDistributed(layers.Flatten())(Under()(inputs))
    return ended(inputs, layers.GRU(2)(x))


def sentences(inner):
    inputs = keras.Input((3, 4), dtype="int32")
    x = layers.Embedding(9, 3, mask_zero=True)(inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(layers.TimeDistributed(inner)(x))))


def attended(make, source=signals, **how):
    inputs, x = source(**how)
    return ended(inputs, make(layers.Dense(4)(x)))


def two_tables(make):
    inputs = keras.Input((TIMES,), dtype="int32")
    query = layers.Embedding(9, 4, mask_zero=True)(inputs)
    value = layers.Embedding(9, 4, mask_zero=True)(ops.flip(inputs, axis=1))
    return ended(inputs, make(query, value))


STAGES = {
    "heads, masked": lambda: attended(Heads(), masked=True),
    "heads, all sizes": lambda: attended(Heads("all")),
    "heads, open times": lambda: attended(Heads("all"), times=None),
    "guide": lambda: ended(*(lambda i, x: (i, Guide()(x)))(*words())),
    "guide, open times": lambda: ended(*(lambda i, x: (i, Guide()(x)))(*words(None))),
    "flattened under a mask": flattened_under_a_mask,
    "sentences": lambda: sentences(layers.LSTM(2)),
    "sentences both ways": lambda: sentences(layers.Bidirectional(layers.GRU(2))),
    "two tables": lambda: two_tables(layers.MultiHeadAttention(2, 3, output_shape=5)),
    "two tables, grouped": lambda: two_tables(
        lambda q, v: layers.GroupQueryAttention(2, 2, 1)(q, v, use_causal_mask=True)
    ),
    "two tables, summed": lambda: two_tables(
        lambda q, v: layers.AdditiveAttention(use_scale=False)([q, v])
    ),
    "axes": lambda: attended(
        lambda x: ops.mean(
            (lambda y: layers.MultiHeadAttention(2, 2, attention_axes=(1, 2))(y, y))(
                layers.Reshape((3, 2, 4))(x)
            ),
            axis=2,
        )
    ),
    "given masks": lambda: attended(
        lambda x: layers.MultiHeadAttention(2, 2)(
            x, x, query_mask=ops.less(x[..., 0], 0.8), value_mask=ops.less(x[..., 1], 0.5)
        )
    ),
}
IN_BATCHES = {
    "number, code": lambda: with_codes(lambda z, code, square: (z, code)),
    "code, number": lambda: with_codes(lambda z, code, square: (code, z), masked=True),
    "another precision": lambda: ended(
        *(lambda i, x: (i, Codes(lambda z, code, square: ops.cast(z, "float64"))(x)))(*signals())
    ),
    "merged": lambda: attended(Merged()),
    "values of another size": lambda: two_tables(layers.MultiHeadAttention(2, 3, value_dim=2)),
    "scaled scores": lambda: two_tables(
        lambda q, v: layers.Attention(use_scale=True, score_mode="concat")([q, v])
    ),
    "cells, open times": lambda: attended(
        layers.RNN([layers.LSTMCell(2, recurrent_dropout=0.3), layers.GRUCell(2)]),
        times=None,
        masked=True,
    ),
}
SLOW = {"a scalar": scaled_by_a_scalar, "codes alone": codes_alone}


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("name", STAGES)
def test_by_stages(name):
    assert checked(STAGES[name]()) == []


@pytest.mark.filterwarnings("error:scored exactly but slowly")
@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
@pytest.mark.parametrize("name", IN_BATCHES)
def test_in_batches(name):
    assert len(checked(IN_BATCHES[name]())) == 1


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["guide", "two tables", "heads, masked"])
def test_nothing_is_told_of_graphs_that_nobody_made(name):
    checked(STAGES[name]())


@pytest.mark.parametrize("name", SLOW)
def test_one_at_a_time(name):
    with pytest.warns(UserWarning, match=r"one example at a time: codes"):
        assert len(checked(SLOW[name]())) == 1


def test_rows_that_are_no_images():
    """Only the first of them counts, so that one image told nothing of the others."""
    inputs, x = signals()
    x = layers.Dense(4, activation="tanh", name="rows")(ops.reshape(x, (-1, 3)))
    with pytest.warns(UserWarning, match=r"one example at a time: rows"):
        assert checked(ended(inputs, ops.reshape(x, (-1, TIMES, 4))[:, 0])) == ["rows"]


def test_times_that_keras_leaves_out_are_told():
    """Compiled, it computes as many times as there are images."""
    inputs, x = signals(times=None)
    model = ended(inputs, layers.TimeDistributed(layers.Dense(4))(x))
    with pytest.raises(ValueError, match=r"keras.Input\(\(None.* TimeDistributed leaves"):
        EMOCScorer(model)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["MobileNetV2", "DenseNet121"])
def test_networks_as_keras_builds_them_for_any_size(name):
    build = getattr(keras.applications, name)
    base = build(include_top=False, weights=None, pooling="avg")  # takes (None, None, 3)
    base.trainable = False
    model = keras.Sequential([base, layers.Dense(3)])
    images = np.random.default_rng(0).random((3, 64, 64, 3), np.float32)
    assert EMOCScorer(model).scores(images[:1], images).shape == (3,)


def test_sizes_that_a_network_cannot_take_are_told():
    x = inputs = keras.Input((None, None, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 33)(x))
    wanted = r"of shape \(32, 32, 1\) \(in place of keras.Input\(\(None, None, 1\)\) give all sizes"
    with pytest.raises(ValueError, match=wanted):
        EMOCScorer(keras.Model(inputs, layers.Dense(3)(x)))


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")
def test_sequences_of_long_sequences_are_not_written_down(monkeypatch):
    monkeypatch.setattr(opening, "TIMES", 2)
    with pytest.warns(UserWarning, match="one example at a time: time_distributed"):
        assert len(checked(sentences(layers.LSTM(2)))) == 1


def test_a_mask_that_hides_nothing_of_what_is_drawn(monkeypatch):
    """That it was lost could not be seen when the scorer was made, but is on images."""
    inputs, x = signals()
    x = Under(1e5)(x)
    x = layers.Add()([x, layers.MultiHeadAttention(2, 2)(x, x)])
    model = models.randomised(ended(inputs, x))
    images = given(model)
    images[:, 2, 0] = 2e5
    expected = forward_mode.scores(model, images[:3], images[3:])
    found = EMOCScorer(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, expected, rtol=1e-4)

    huge = np.full_like(images[:1], -3e38)  # no mask is to blame for what is no number
    with pytest.raises(ValueError, match="reference: expected finite model outputs"):
        EMOCScorer(model).scores(huge, images[3:])

    monkeypatch.setattr(opening, "masked", lambda tensor, mask: tensor)
    monkeypatch.setattr(opening, "_with_masks", lambda layer, args, kwargs, found, own=(): found)
    copy = keras.models.clone_model(model, clone_function=lambda e: e)
    with pytest.raises(ValueError, match=r"reference: .* a mask of 'under.*' \(Under\) is lost"):
        EMOCScorer(copy).scores(images[:3], images[3:])
