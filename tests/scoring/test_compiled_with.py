"""Scores take the plain cross-entropy: that is said of models compiled with another loss."""

import warnings

import keras
import pytest

from emoc_tf.exploration import Exploration
from emoc_tf.scoring import EMOCScorer
from tests.scoring import own_models

losses = keras.losses


def warned(compiled, **keywords):
    """What is said of a model, besides what its layers are told of."""
    model = own_models.classifier()
    if compiled is not None:
        model.compile("adam", compiled, **keywords)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        EMOCScorer(model)
    assert all(warning.filename == __file__ for warning in found)
    return [str(warning.message) for warning in found]


@pytest.mark.parametrize(
    "loss",
    [
        None,
        "sparse_categorical_crossentropy",
        "categorical_crossentropy",
        losses.sparse_categorical_crossentropy,
        losses.SparseCategoricalCrossentropy(from_logits=True, reduction="sum"),
        losses.CategoricalCrossentropy(name="mine"),
        [losses.SparseCategoricalCrossentropy(from_logits=True)],
    ],
)
def test_nothing_is_said_of_the_cross_entropy(loss):
    assert warned(loss) == []


class Weighted(losses.Loss):
    """With weights of classes."""

    def call(self, truth, logits):
        return losses.sparse_categorical_crossentropy(truth, logits, from_logits=True) * (1 + truth)


@pytest.mark.parametrize(
    ("loss", "keywords", "named"),
    [
        (losses.CategoricalCrossentropy(True, 0.1), {}, r"entropy (label_smoothing=0.1)"),
        (losses.SparseCategoricalCrossentropy(True, ignore_class=0), {}, "loss sparse_cat"),
        (losses.CategoricalFocalCrossentropy(from_logits=True), {}, "loss categorical_focal"),
        ("mse", {}, "loss mse"),
        (losses.CategoricalHinge(), {}, "loss categorical_hinge"),
        (Weighted(), {}, "loss weighted"),
        (lambda truth, logits: logits, {}, "loss <lambda>"),
        (
            losses.SparseCategoricalCrossentropy(from_logits=True),
            {"loss_weights": [2.0]},
            "loss_weights [2.0]",
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_another_loss_is_named_once(loss, keywords, named):
    (said,) = warned(loss, **keywords)
    assert said.startswith("model: it was compiled with ")
    assert named in said
    assert "plain cross-entropy of its softmax" in said
    assert "\n" not in said


def test_in_an_exploration_the_loss_is_named_once(tiny):
    layers = keras.layers
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(2)])
    model.compile("adam", losses.CategoricalCrossentropy(True, 0.1))
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        exploration = Exploration(tiny, model=model)
        exploration.reset(0)
        EMOCScorer(exploration.state.model)
    assert sum("compiled with" in str(warning.message) for warning in found) == 1
