"""Gradient factors of every kind of layer, each contraction, on random networks."""

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emoc_tf.scoring import EMOCScorer, contractions, reference
from emoc_tf.scoring.layers import STAGES
from tests.scoring import models

layers = keras.layers


def check(model, tolerance=1e-4):
    """Compares the fast scores with the literal ones; returns the contractions that were used."""
    inputs = models.inputs(model, 8)
    labels = np.arange(5) % model.output_shape[-1]
    scorer = EMOCScorer(model)
    fast = scorer.scores(inputs[:3], inputs[3:], labels)
    literal = reference.scores(model, inputs[:3], inputs[3:], labels)
    assert np.abs(fast - literal).max() <= tolerance * np.abs(literal).max()
    return {layer.layer: layer.contraction for layer in scorer.plan()}


@pytest.mark.parametrize("contraction", contractions.CONTRACTIONS)
@pytest.mark.parametrize(
    "name", ["convolutional", "dilated", "signals", "words", "nested", "few_positions", "unusual"]
)
def test_every_contraction_gives_the_same(name, contraction, monkeypatch):
    cheapest = contractions.multiply_adds

    def prefer(*arguments):
        costs = cheapest(*arguments)
        return {contraction: 0} if contraction in costs else costs

    monkeypatch.setattr(contractions, "multiply_adds", prefer)
    model = models.make(name)
    used = check(model)
    assert contraction in used.values()


def test_the_cheapest_contraction_is_chosen_from_shapes():
    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(4, 3, name="many_positions")(image)
    x = layers.Conv2D(64, 6, name="one_position")(x)
    x = layers.Dense(32, name="dense")(layers.Flatten()(x))
    x = layers.BatchNormalization(name="scale")(x)
    model = keras.Model(image, layers.Dense(20, name="head")(x))
    plan = {row.layer: row for row in EMOCScorer(models.randomised(model)).plan()}
    assert plan["many_positions"].contraction == "explicit"
    assert plan["many_positions"].positions == 36
    assert plan["many_positions"].multiply_adds == 20 * (27 * 4 + 4)
    assert plan["one_position"].contraction == "gram"
    assert plan["one_position"].multiply_adds == 6 * 6 * 4 + 1 + 20 * 64
    assert plan["dense"].multiply_adds == 65 + 20 * 32
    assert plan["scale"].contraction == "explicit"
    assert plan["scale"].multiply_adds == 20 * 64


def test_costs_of_the_design():
    """Per pair: explicit C·F·O, factored F + C·O, apply S·F·O + C·S·O, Gram S²(F+O) + C·S·O."""
    image = keras.Input((5, 5, 3))
    layer = layers.Conv2D(4, 3, use_bias=False)
    layer(image)
    (stage,) = STAGES[layers.Conv2D](layer, 4)
    assert contractions.multiply_adds(stage, 9, 10) == {
        "explicit": 10 * 27 * 4,
        "gram": 81 * (27 + 4) + 10 * 9 * 4,
        "apply": 9 * 27 * 4 + 10 * 9 * 4,
    }
    assert contractions.multiply_adds(stage, 1, 10)["gram"] == 27 + 10 * 4
    assert set(contractions.multiply_adds(stage, None, 10)) == {"explicit"}


def test_the_plan_is_printed(capsys):
    EMOCScorer(models.make("convolutional")).plan()
    printed = capsys.readouterr().out
    assert "explicit" in printed
    assert "gram" in printed


def test_frozen_layers_have_no_part():
    plan = EMOCScorer(models.make("partly_frozen")).plan()
    assert len(plan) == 2


def test_layers_called_in_training_mode_are_refused():
    image = keras.Input((4,))
    x = layers.BatchNormalization(name="norm")(layers.Dense(3)(image), training=True)
    with pytest.raises(ValueError, match="inference mode, got 'norm' called with training=True"):
        EMOCScorer(keras.Model(image, layers.Dense(2)(x)))


def test_weights_shared_between_layers_go_the_generic_way():
    image = keras.Input((3, 4))
    shared = layers.Dense(4, activation="tanh")
    x = layers.Flatten()(layers.TimeDistributed(shared)(shared(image)))
    model = keras.Model(image, layers.Dense(3)(x))
    with pytest.warns(UserWarning, match=r"dense.*time_distributed"):
        plan = EMOCScorer(model).plan()
    assert [row.contraction for row in plan] == ["gram", "generic", "generic"]


ACTIVATIONS = st.sampled_from([None, "relu", "tanh", "softplus"])


@st.composite
def networks(draw):
    """Random small image networks, residual and shared layers among them."""
    side, channels = draw(st.integers(4, 7)), draw(st.sampled_from([1, 2, 4]))
    image = x = keras.Input((side, side, channels))
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(
            st.sampled_from(
                ["conv", "conv", "shared", "depthwise", "separable", "norm", "scale", "residual"]
            )
        )
        size = draw(st.integers(1, min(3, x.shape[1], x.shape[2])))
        stride = draw(st.integers(1, 2))
        window = {
            "kernel_size": size,
            "strides": stride,
            "padding": "same" if stride == 1 else draw(st.sampled_from(["same", "valid"])),
            "dilation_rate": draw(st.integers(1, 2)) if stride == 1 else 1,
            "activation": draw(ACTIVATIONS),
            "use_bias": draw(st.booleans()),
        }
        same = {"padding": "same", "activation": draw(ACTIVATIONS)}
        if kind == "conv":
            groups = draw(st.sampled_from([g for g in (1, 2, 4) if x.shape[-1] % g == 0]))
            x = layers.Conv2D(4, groups=groups, **window)(x)
        elif kind == "shared":
            layer = layers.Conv2D(x.shape[-1], size, **same)
            x = layer(layer(x))
        elif kind == "depthwise":
            x = layers.DepthwiseConv2D(depth_multiplier=draw(st.integers(1, 2)), **window)(x)
        elif kind == "separable":
            x = layers.SeparableConv2D(3, **window)(x)
        elif kind == "norm":
            x = layers.LayerNormalization()(x)
        elif kind == "scale":
            x = layers.BatchNormalization()(x)
        else:
            x = layers.Add()([x, layers.Conv2D(x.shape[-1], size, **same)(x)])
    x = draw(st.sampled_from([layers.Flatten, layers.GlobalAveragePooling2D]))()(x)
    if draw(st.booleans()):
        x = layers.Dense(5, activation=draw(ACTIVATIONS))(x)
    model = keras.Model(image, layers.Dense(draw(st.integers(2, 4)))(x))
    return models.randomised(model, seed=draw(st.integers(0, 99)))


@given(networks())
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_networks(model):
    check(model)
