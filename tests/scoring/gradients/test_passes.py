"""What is traced of a model: one pass forward, one back, and nothing of what is frozen."""

import functools
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import structure, traces
from emoc_tf.scoring import EMOCScorer, changes, reference
from emoc_tf.scoring.gradients import bodies, passes, windows
from tests.scoring import models

layers = keras.layers


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setattr(traces, "_kept", type(traces._kept)())


@pytest.fixture
def traced(monkeypatch):
    """Notes which passes are traced, and what is verified."""
    noted, trace, verify = [], passes.Passes._trace, bodies.verified
    monkeypatch.setattr(
        passes.Passes, "_trace", lambda self, uses: noted.append("passes") or trace(self, uses)
    )
    monkeypatch.setattr(
        bodies, "verified", lambda *given: noted.append("verified") or verify(*given)
    )
    return noted


def deep(outputs, frozen=0, blocks=2, normalised=True):
    """A convolution and a normalisation a block; the first blocks may be frozen."""
    x = image = keras.Input((8, 8, 3))
    for block in range(blocks):
        x = layers.Conv2D(4, 3, padding="same", activation="tanh", trainable=block >= frozen)(x)
        if normalised:
            x = layers.BatchNormalization(trainable=block >= frozen)(x)
    x = layers.GlobalAveragePooling2D()(x)
    return models.randomised(keras.Model(image, layers.Dense(outputs)(x)))


def operations(scorer):
    """Counts the operations, by kind, of all that was traced for a scorer."""
    count = Counter()
    for function in scorer._changes._traced.values():
        graph = function.graph.as_graph_def()
        bodies_of_functions = [f.node_def for f in graph.library.function]
        for nodes in (graph.node, *bodies_of_functions):
            count.update(node.op for node in nodes)
    return count


def scored(model):
    """Returns a scorer that made a first call, which is right."""
    images = models.inputs(model, 6)
    scorer = EMOCScorer(model)
    found = scorer.scores(images[:3], images[3:])
    right = reference.scores(model, images[:3], images[3:])
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-5 * np.abs(right).max())
    return scorer


def test_nothing_is_traced_back_through_frozen_layers():
    """Beside trained ones; what lies before all of those is no part of what is scored."""
    image = frozen = keras.Input((8, 8, 3))
    for _ in range(2):
        frozen = layers.Conv2D(4, 3, activation="sigmoid", trainable=False)(frozen)
    trained = layers.Conv2D(4, 5, activation="tanh")(image)
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()([frozen, trained]))
    count = operations(scored(models.randomised(keras.Model(image, layers.Dense(4)(x)))))
    assert min(count["Conv2D"], count["Sigmoid"], count["TanhGrad"]) > 0
    assert not [kind for kind in count if "Conv2DBackprop" in kind or kind == "SigmoidGrad"]


def test_no_gradient_of_weights_is_traced():
    count = operations(scored(deep(4, frozen=1)))
    assert count["TanhGrad"] > 0
    assert not count["Conv2DBackpropFilter"] or count["Conv2DBackpropFilter"] <= 4


def test_a_backward_pass_is_traced_once_whatever_the_outputs():
    few, many = (operations(scored(deep(outputs, normalised=False))) for outputs in (3, 12))
    assert few["Conv2DBackpropInput"] == many["Conv2DBackpropInput"] > 0
    assert few["TanhGrad"] == many["TanhGrad"] > 0


@pytest.mark.parametrize("normalised", [True, False])  # functions of its own, and shared ones
def test_a_body_that_grew_no_further_is_not_traced_again(normalised, traced):
    model = deep(3, normalised=normalised)
    first = scored(model)
    assert Counter(traced) == {"passes": 1, "verified": 1}
    grown = structure.grow_head(model, 1, np.random.default_rng(0))
    second = scored(grown)
    assert Counter(traced) == {"passes": 1, "verified": 1}
    scored(structure.select_outputs(grown, [3, 0]))
    assert Counter(traced) == {"passes": 1, "verified": 1}
    assert first.model is model
    assert second.model is grown


def rectified(kind):
    """A rectifier in the body, behind something frozen, normalised or random."""
    x = image = keras.Input((8, 8, 3))
    x = layers.ReLU()(layers.Conv2D(4, 3, trainable=kind != "frozen")(x))
    if kind != "frozen":
        x = (layers.BatchNormalization() if kind == "normalised" else layers.Dropout(0.5))(x)
    x = layers.Dense(4)(layers.GlobalAveragePooling2D()(x))
    return models.randomised(keras.Model(image, layers.Dense(3)(x)))


@pytest.mark.parametrize("kind", ["normalised", "dropout", "frozen"])
def test_no_layer_of_a_body_whose_head_grows_is_called_again(kind, monkeypatch):
    called, call = [], layers.ReLU.__call__
    noted = functools.wraps(call)(lambda *a, **k: called.append(1) or call(*a, **k))
    monkeypatch.setattr(layers.ReLU, "__call__", noted)
    unfold = windows.unfold
    windows._traced.cache_clear()
    monkeypatch.setattr(windows, "unfold", lambda *a: called.append(1) or unfold(*a))
    model = rectified(kind)
    images, scorers, counts = models.inputs(model, 6), [], []
    for units in (1, 2, 0):
        scorers.append(EMOCScorer(model))
        scorers[-1].set_scores(images[:3], images[3:], np.array([[0, 1]]))
        counts.append(len(called))
        model = structure.grow_head(model, units, np.random.default_rng(0))
    assert counts[0] == counts[1] == counts[2] > 0


@pytest.mark.parametrize("kind", ["normalised", "frozen"])
def test_layers_hold_no_graph_of_a_scorer_that_is_gone(kind):
    model, counts = rectified(kind), []
    for _ in range(3):
        EMOCScorer(model)
        notes = [(e._inbound_nodes, e._outbound_nodes) for e in model._flatten_layers()]
        counts.append(sum(len(each) for pair in notes for each in pair))
    assert counts[0] == counts[1] == counts[2]


def unfrozen(model):
    model.layers[1].trainable = True


def squashed(model):
    model.layers[3].activation = keras.activations.sigmoid


def narrower(model):
    model.layers[4].epsilon = 0.5


@pytest.mark.parametrize("change", [unfrozen, squashed, narrower])
def test_a_body_that_changed_is_traced_again(change, traced):
    model = deep(3, frozen=1)
    kept = scored(model)
    change(model)
    scored(structure.grow_head(model, 1, np.random.default_rng(0)))
    assert Counter(traced) == {"passes": 2, "verified": 2}
    assert kept


def test_other_models_of_one_architecture_share_a_body(traced):
    one, other = deep(3, normalised=False), deep(5, normalised=False)
    scored(one)
    scored(models.randomised(other, seed=3))
    assert Counter(traced) == {"passes": 1, "verified": 1}


def test_models_with_other_penalties_of_the_body_do_not_share_one(traced):
    one, other = deep(3, normalised=False), deep(5, normalised=False)
    other.layers[1].kernel.regularizer = keras.regularizers.L2(0.1)
    scored(one)
    scored(other)
    assert Counter(traced) == {"passes": 2, "verified": 2}


def test_a_large_model_runs_in_parts_and_is_right(monkeypatch, traced):
    whole = EMOCScorer(model := deep(3))
    monkeypatch.setattr(changes, "WHOLE_LAYERS", 3)
    images, sets = models.inputs(model, 8), np.arange(8).reshape(4, 2)
    parts = scored(model)
    assert Counter(traced) == {"passes": 1, "verified": 1}
    for labels in ("set", "expected", "joint"):
        np.testing.assert_allclose(
            parts.set_scores(images, images, sets, labels),
            whole.set_scores(images, images, sets, labels),
            rtol=1e-4,
        )
    assert parts.select_set(images, images, sets).index == (
        whole.set_scores(images, images, sets).argmax()
    )
    assert "jacobian" not in parts._changes._traced


def test_a_large_model_prints_no_tensor(monkeypatch):
    # TensorFlow does, number by number, where a traced function is called as it was not traced.
    model = deep(3)
    monkeypatch.setattr(changes, "WHOLE_LAYERS", 3)
    images = models.inputs(model, 4)
    scorer = EMOCScorer(model)
    for kind in (tf.Tensor, type(tf.constant(0))):
        monkeypatch.setattr(kind, "__repr__", lambda tensor: pytest.fail("a tensor is printed"))
    scorer.scores(images, images, [0, 1, 2, 1])
    scorer.set_scores(images, images, [[0, 1], [2, 3]])
    scorer.select_set(images, images, [[0, 1], [2, 3]])


def while_loops():
    text = keras.Input((5, 3))
    x = layers.LSTM(4, return_sequences=True)(layers.Dense(3)(text))
    return keras.Model(text, layers.Dense(3)(layers.GRU(3)(x)))


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize("parts", [True, False])
def test_loops_in_the_graph(parts, monkeypatch):
    monkeypatch.setattr(changes, "WHOLE_LAYERS", 1 if parts else 60)
    scored(models.randomised(while_loops()))
