"""Scorers of models of one architecture share their compiled functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import structure, traces
from emoc_tf.scoring import EMOCScorer, changes
from tests.scoring import models

layers = keras.layers


def results(model, output="logits"):
    """Returns what a new scorer of a model says in all ways."""
    scorer, x = EMOCScorer(model, output), models.inputs(model, 8)
    sets = np.arange(8).reshape(4, 2)
    chosen = scorer.select_set(x, x, sets)
    return [
        scorer.scores(x[:5], x),
        scorer.set_scores(x[:5], x, sets, labels="joint"),
        scorer.set_scores(x[:5], x, sets, labels=np.arange(4) % 2),
        chosen.score,
        chosen.index,
    ]


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """Counts what is traced, and begins with nothing kept."""
    monkeypatch.setattr(traces, "_kept", type(traces._kept)())
    count, trace = [], changes.OutputChanges._trace
    monkeypatch.setattr(
        changes.OutputChanges, "_trace", lambda *given: count.append(1) or trace(*given)
    )
    return count


def slow():
    """A layer without factors, which is differentiated alone."""
    image = keras.Input((4, 3))
    x = layers.TimeDistributed(layers.LayerNormalization())(layers.Dense(4)(image))
    return keras.Model(image, layers.Dense(3, kernel_regularizer=models.l2())(layers.Flatten()(x)))


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize(
    ("make", "output"),
    [
        (models.dense, "softmax"),
        (models.convolutional, "logits"),
        (models.words, "logits"),
        (slow, "logits"),
    ],
)
def test_shared_functions_give_the_bits_of_ones_own(make, output, traced, monkeypatch):
    first = models.randomised(make())
    second = models.randomised(structure.copy(first), seed=7)
    assert traces.architecture(first) is not None
    results(first, output)
    before = len(traced)
    shared = results(second, output)
    assert len(traced) == before
    monkeypatch.setattr(traces, "architecture", lambda *_, **__: None)
    for ours, right in zip(shared, results(second, output), strict=True):
        np.testing.assert_array_equal(ours, right)
    assert len(traced) > before


def test_each_scorer_keeps_to_the_weights_of_its_model():
    one, other = models.make("dense"), models.randomised(models.make("dense"), seed=7)
    x = models.inputs(one, 6)
    scorers = [EMOCScorer(model) for model in (one, other)]
    first = [scorer.scores(x, x) for scorer in scorers]
    assert not np.allclose(*first)
    other.set_weights(one.get_weights())
    np.testing.assert_array_equal(scorers[1].scores(x, x), first[0])
    np.testing.assert_array_equal(scorers[0].scores(x, x), first[0])


def test_plans_and_warnings_name_the_layers_of_their_own_model():
    def named(name):
        image = keras.Input((2, 2, 1))
        x = layers.Flatten()(layers.ConvLSTM1D(2, 2, name=f"{name}_cell")(image))
        return keras.Model(image, layers.Dense(2, name=f"{name}_head")(x))

    for name in ("one", "other", "one"):
        with pytest.warns(UserWarning, match=f"one example at a time: {name}_cell"):
            scorer = EMOCScorer(named(name))
        assert f"{name}_head" in {layer.layer for layer in scorer.plan()}


def test_large_models_have_functions_of_their_own(monkeypatch):
    monkeypatch.setattr(changes, "SHARED_PARAMETERS", 10)
    EMOCScorer(models.make("dense"))
    assert not [key for key in traces._kept if key[0] == "changes"]


def test_the_model_that_was_traced_is_nobodys():
    model = models.make("dense")
    scorer = EMOCScorer(model)
    (kept,) = [value for key, value in traces._kept.items() if key[0] == "changes"]
    assert kept._model is not model
    assert scorer.model is model
    assert tf.nest.flatten(kept._variables)[0] is not model.trainable_variables[0].value
