"""Scores of a linear layer alone, in closed form."""

import keras
import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, linear, reference, scored_part

layers = keras.layers
CLASSES, FEATURES = 4, 6


def make_model(bias=True, decay=0.0, dtype="float32"):
    keras.utils.set_random_seed(0)
    penalty = keras.regularizers.L2(decay) if decay else None
    image = keras.Input((FEATURES,), dtype=dtype)
    head = layers.Dense(
        CLASSES, use_bias=bias, kernel_regularizer=penalty, bias_regularizer=penalty, dtype=dtype,
        bias_initializer="normal",
    )  # fmt: skip
    return keras.Model(image, head(image))


def make_images(count, seed=1):
    return np.random.default_rng(seed).normal(size=(count, FEATURES)).astype(np.float32)


REFERENCE, CANDIDATES = make_images(11), make_images(17, 2)
SETS = np.array([[0, 1, 2], [3, 4, -1], [2, 5, 16], [-1, -1, -1], [9, 0, 7]])


@pytest.fixture(params=[False, True], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    if request.param:
        for name, size in (("REFERENCES", 4), ("IMAGES", 5), ("PAIRS", 3)):
            monkeypatch.setattr(linear, name, size)


@pytest.mark.parametrize(
    ("output", "decay", "bias", "dtype"),
    [
        ("logits", 0.0, True, "float32"),
        ("logits", 0.0, False, "float64"),
        ("logits", 0.1, True, "float64"),
        ("softmax", 0.0, True, "float32"),
        ("softmax", 0.1, False, "float32"),
    ],
)
def test_scores_are_those_of_the_reference(output, decay, bias, dtype, blocks):
    model = make_model(bias, decay, dtype)
    ours = EMOCScorer(model, output)
    kind = {"output": output}
    labels = np.arange(len(CANDIDATES)) % CLASSES
    for given in (None, labels):
        expected = reference.scores(model, REFERENCE, CANDIDATES, given, **kind)
        found = ours.scores(REFERENCE, CANDIDATES, given)
        np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == "float32" else 1e-12)
    expected = reference.expected_scores(model, REFERENCE, CANDIDATES, **kind)
    np.testing.assert_allclose(ours.expected_scores(REFERENCE, CANDIDATES), expected, rtol=1e-5)
    for mode in ("set", "expected", "joint"):
        expected = reference.set_scores(model, REFERENCE, CANDIDATES, SETS, mode, **kind)
        found = ours.set_scores(REFERENCE, CANDIDATES, SETS, mode)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        chosen = ours.select_set(REFERENCE, CANDIDATES, SETS, mode)
        assert chosen.index == expected.argmax()


@pytest.mark.parametrize("output", ["logits", "softmax"])
def test_a_class_without_an_output_is_scored_as_the_general_way_does(output, monkeypatch):
    model, unseen = make_model(decay=0.1), np.linspace(0, 1, len(SETS))
    found = EMOCScorer(model, output).set_scores(REFERENCE, CANDIDATES, SETS, unseen=unseen)
    monkeypatch.setattr(scored_part, "is_linear_layer", lambda model: False)
    general = EMOCScorer(model, output)
    expected = general.set_scores(REFERENCE, CANDIDATES, SETS, unseen=unseen)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("output", ["logits", "softmax"])
def test_a_set_that_is_chosen_is_the_best_of_all(output):
    model = make_model()
    ours = EMOCScorer(model, output)
    scores = ours.set_scores(REFERENCE, CANDIDATES, SETS)
    chosen = ours.select_set(REFERENCE, CANDIDATES, SETS, offsets=np.zeros(len(SETS)))
    assert chosen.exact and chosen.index == scores.argmax() and chosen.score == scores.max()
    offsets = np.where(np.arange(len(SETS)) == 3, 1e6, 0)
    assert ours.select_set(REFERENCE, CANDIDATES, SETS, offsets=offsets).index == 3


def test_it_says_where_gradients_overflow():
    model = make_model()
    huge = np.full((2, FEATURES), 3e37, np.float32)
    with pytest.raises(ValueError, match="finite"):
        EMOCScorer(model).scores(huge, huge)


class Doubled(layers.Dense):
    def call(self, x):
        return 2 * super().call(x)


def of(head, before=None):
    x = image = keras.Input((FEATURES,))
    return keras.Model(image, head(x if before is None else before(x)))


def frozen_kernel():
    model = of(layers.Dense(3))
    model.layers[-1].kernel.trainable = False
    return model


@pytest.mark.parametrize(
    ("make", "is_linear"),
    [
        (lambda: of(layers.Dense(3)), True),
        (lambda: keras.Sequential([keras.Input((FEATURES,)), layers.Dense(3)]), True),
        (lambda: of(layers.Dense(3), layers.ReLU()), False),
        (lambda: of(layers.Dense(3), layers.Dense(4)), False),
        (lambda: of(Doubled(3)), False),
        (frozen_kernel, False),
    ],
)
def test_only_a_head_alone_is_a_linear_layer(make, is_linear):
    assert linear.is_linear_layer(make()) == is_linear
