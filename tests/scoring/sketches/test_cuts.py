"""Sketched scores against exact ones, with all directions, and against literal cutting."""

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, changes, pairs, reference
from tests.scoring import models
from tests.scoring.gradients import test_more_layers as more
from tests.scoring.sketches import drawn

layers = keras.layers


@pytest.fixture(autouse=True)
def small(monkeypatch):
    drawn.small_stages_are_cut(monkeypatch)
    monkeypatch.setattr(pairs, "GRADIENT_BATCH", 4)
    monkeypatch.setattr(pairs, "REFERENCE_BATCH", 4)
    monkeypatch.setattr(pairs, "BLOCK", 8)


def wide_transposed():
    """Transposed convolutions of every padding and stride, wide enough for each kind of cut."""
    image = x = keras.Input((3, 2, 4))
    x = layers.Conv2DTranspose(5, 3, strides=2, padding="same", activation="tanh")(x)
    x = layers.Conv2DTranspose(1, 1, strides=3, use_bias=False)(x)
    x = layers.Conv2DTranspose(2, (2, 3), strides=(1, 2), padding="valid")(x)
    return more.ended(image, layers.AveragePooling2D(6)(x * x))


def called_twice():
    """A transposed convolution and a sum with more positions than the graph has in one call."""
    image = x = keras.Input((4, 3))
    grow = layers.Conv1DTranspose(3, 2, strides=2, activation="tanh", bias_regularizer=models.l2())
    mix = layers.EinsumDense("abc,cde->adbe", (2, None, 3), bias_axes="e")
    x = layers.Reshape((8, 6))(layers.Permute((2, 1, 3))(mix(grow(x))))
    x = layers.Reshape((16, 3))(x)
    return more.ended(image, layers.GlobalAveragePooling1D()(grow(x)))


def depthwise():
    """Depthwise convolutions of every padding, stride and dilation, of signals too."""
    image = x = keras.Input((7, 6, 3))
    x = layers.DepthwiseConv2D(3, strides=2, padding="same", activation="tanh")(x)
    x = layers.DepthwiseConv2D((2, 1), use_bias=False)(layers.Conv2D(4, 1)(x))
    x = layers.DepthwiseConv2D(2, dilation_rate=2, padding="same", activation="tanh")(x)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, padding="same")(x)
    x = layers.Reshape((-1, 8))(x)
    x = layers.DepthwiseConv1D(3, strides=2, padding="same", activation="tanh")(x)
    return more.ended(image, layers.DepthwiseConv1D(2)(x))


NAMED = [
    ("dense", "logits", True),
    ("convolutional", "logits", False),
    ("dilated", "softmax", False),
    ("unusual", "logits", True),
    ("separable", "softmax", True),
    ("signals", "logits", True),
    ("normalised", "logits", True),
    ("words", "logits", True),
    ("few_positions", "softmax", True),
    ("unknown", "logits", True),
    ("headless_training", "logits", True),
]
BUILT = [
    more.transposed,
    more.more_transposed,
    wide_transposed,
    called_twice,
    depthwise,
    more.sums,
    more.attention,
    more.blocks,
    more.distributed,
    more.scales,
    more.more_scales,
    more.own_layers,
    more.sums_of_vectors,
]
# With fewer directions these are compared with literal cutting, of these kinds.
PROJECTED = {
    "convolutional": {"inputs", "both"},
    "few_positions": {"both"},
    "separable": {"inputs", "both", "rows"},
    "normalised": {"both", "rows"},
    "unusual": {"inputs", "both", "rows"},
    more.transposed: {"both", "rows"},
    more.more_transposed: {"inputs", "both", "rows"},
    wide_transposed: {"inputs", "both", "rows"},
    called_twice: {"both", "rows"},
    depthwise: {"both", "rows"},
    more.sums: {"inputs", "both", "rows"},
}
# Sets and expectations are made of the same gradients in each model: these few show that.
EVERY_KIND = ("convolutional", "dilated", "words", "unknown")
CUT_NOTHING = ("dense", more.own_layers, more.sums_of_vectors)


def problem(make, count=9):
    """Returns a model in float64, four reference images, candidates and a label of each."""
    built = models.make(make) if isinstance(make, str) else models.randomised(make())
    model = reference.rebuild(built)
    images = models.inputs(model, count)
    images = images if images.dtype.kind == "i" else images.astype(np.float64)
    return model, images[:4], images[4:], np.arange(count - 4) % model.output_shape[-1]


def all_scores(scorer, x, candidates, labels, every=True):
    """Returns scores of every kind, or those of single images alone."""
    sets = np.array([[0, 1, 2], [3, -1, 4], [2, 0, 0]])
    found = [scorer.scores(x, candidates, labels)]
    if not every:
        return found
    return [
        *found,
        scorer.expected_scores(x, candidates),
        scorer.set_scores(x, candidates, sets),
        scorer.set_scores(x, candidates, sets, "joint"),
        scorer.set_scores(x, candidates, sets, unseen=np.array([0.0, 0.5, 1.0])),
    ]


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize(
    ("make", "output", "regularizer"), [*NAMED, *((make, "logits", True) for make in BUILT)]
)
def test_all_directions_lose_nothing_and_fewer_are_a_projection(
    make, output, regularizer, monkeypatch
):
    """By one scorer: its functions are made once, for any number of directions."""
    given = drawn.use(monkeypatch, 1.0)
    model, *parts = problem(make)
    scorer = EMOCScorer(model, output, regularizer, method="sketch", memory_budget=1 << 18)
    every = make in EVERY_KIND
    right = all_scores(EMOCScorer(model, output, regularizer), *parts, every)
    for have, want in zip(all_scores(scorer, *parts, every), right, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9)
    assert scorer.sketch.error < 1e-9
    assert bool(given) == (make not in CUT_NOTHING)
    if make in PROJECTED:
        given = drawn.use(monkeypatch, 0.4)
        scorer._sketch._fitted_to = None
        found = scorer.scores(*parts)
        literal = drawn.Literal(model, *parts, output, regularizer)
        np.testing.assert_allclose(found, literal.scores(given), rtol=1e-9)
        assert np.abs(found / right[0] - 1).max() > 1e-3
        assert {cut.kind for cut, _ in given} == PROJECTED[make]


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize("name", ["convolutional", "few_positions", "normalised", "dense", "words"])
def test_models_in_parts(name, monkeypatch):
    monkeypatch.setattr(changes, "WHOLE_LAYERS", 0)
    model = reference.rebuild(models.make(name))
    images = models.inputs(model, 9)
    images = images if images.dtype.kind == "i" else images.astype(np.float64)
    labels, sets = np.arange(5) % model.output_shape[-1], np.array([[0, 1], [3, -1]])
    exact, scorer = EMOCScorer(model), EMOCScorer(model, method="sketch")
    literal = drawn.Literal(model, images[:4], images[4:], labels)
    for share in (0.4, 1.0):
        given = drawn.use(monkeypatch, share)
        scorer._sketch._fitted_to = None
        found = scorer.scores(images[:4], images[4:], labels)
        np.testing.assert_allclose(found, literal.scores(given), rtol=1e-9)
        if share == 1.0:
            parts = images[:4], images[4:], sets, "joint"
            want = exact.set_scores(*parts)
            np.testing.assert_allclose(scorer.set_scores(*parts), want, rtol=1e-9)


def frozen_at_first(trained):
    image = x = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, activation="tanh", trainable=False)(x)
    x = layers.Conv2D(6, 3, strides=2, activation="tanh", trainable=trained)(x)
    return models.randomised(more.ended(image, x))


def test_behind_frozen_layers(monkeypatch):
    given = drawn.use(monkeypatch, 1.0)
    model = reference.rebuild(frozen_at_first(True))
    images = models.inputs(model, 9).astype(np.float64)
    sets = np.arange(8).reshape(4, 2) % 5
    exact, scorer = EMOCScorer(model), EMOCScorer(model, method="sketch")
    found = scorer.set_scores(images[:4], images[4:], sets)
    np.testing.assert_allclose(found, exact.set_scores(images[:4], images[4:], sets), rtol=1e-9)
    assert [cut.layer.stage.fan_in for cut, _ in given] == [36]
    chosen = scorer.select_set(images[:4], images[4:], sets)
    assert chosen.index == found.argmax()


def test_what_is_linear_is_scored_exactly():
    model = frozen_at_first(False)
    images, sets = models.inputs(model, 60), np.arange(80).reshape(40, 2) % 50
    exact, scorer = EMOCScorer(model), EMOCScorer(model, method="sketch", sketch_size=3)
    parts = images[:10], images[10:]
    np.testing.assert_array_equal(scorer.scores(*parts), exact.scores(*parts))
    for labels in ("set", "joint"):
        found = scorer.set_scores(*parts, sets, labels)
        np.testing.assert_array_equal(found, exact.set_scores(*parts, sets, labels))
        assert scorer.select_set(*parts, sets, labels) == exact.select_set(*parts, sets, labels)
    assert scorer.sketch is None


def test_seconds_are_told_before_any_sketch():
    model = models.make("convolutional")
    images, scorer = models.inputs(model, 6), EMOCScorer(model, method="sketch")
    assert 0 < scorer.expected_seconds(100, 1000) < scorer.expected_seconds(200, 3000)
    before = EMOCScorer(model, method="sketch").scores(images, images)
    np.testing.assert_array_equal(scorer.scores(images, images), before)
