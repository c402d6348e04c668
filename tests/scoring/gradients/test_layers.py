"""Gradient factors of every kind of layer, each contraction, on random networks."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emoc_tf.scoring import EMOCScorer, reference
from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.layers import STAGES
from tests.scoring import forward_mode, models

layers = keras.layers


def given_to(model):
    """Returns reference images, candidates and labels."""
    inputs = models.inputs(model, 8)
    return inputs[:3], inputs[3:], np.arange(5) % model.output_shape[-1]


def check(model, tolerance=1e-4, literal=None):
    """Compares the fast scores with the literal ones; returns the contractions that were used."""
    scorer = EMOCScorer(model)
    fast = scorer.scores(*given_to(model))
    literal = reference.scores(model, *given_to(model)) if literal is None else literal
    assert np.abs(fast - literal).max() <= tolerance * np.abs(literal).max()
    return {layer.layer: layer.contraction for layer in scorer.plan()}


@functools.cache
def literal_of(name):
    model = models.make(name)
    return reference.scores(model, *given_to(model))


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
    used = check(models.make(name), literal=literal_of(name))
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
    scorer = EMOCScorer(models.make("convolutional"))
    assert scorer.plan()
    assert capsys.readouterr().out == ""
    scorer.print_plan()
    printed = capsys.readouterr().out
    assert "explicit" in printed
    assert "gram" in printed


def test_frozen_layers_have_no_part():
    plan = EMOCScorer(models.make("partly_frozen")).plan()
    assert len(plan) == 2


def test_weights_shared_with_a_layer_around_a_layer():
    image = keras.Input((3, 4))
    shared = layers.Dense(4, activation="tanh")
    x = layers.Flatten()(layers.TimeDistributed(shared)(shared(image)))
    model = models.randomised(keras.Model(image, layers.Dense(3)(x)))
    inputs, labels = models.inputs(model, 8), np.arange(5) % 3
    scorer = EMOCScorer(model)
    plan = scorer.plan()
    assert (plan[0].layer, plan[0].positions) == (shared.name, 6)
    assert len(plan) == 2
    fast = scorer.scores(inputs[:3], inputs[3:], labels)
    right = forward_mode.scores(model, inputs[:3], inputs[3:], labels)
    np.testing.assert_allclose(fast, right, rtol=1e-4)
    # A configuration does not tell that the two share their weights.
    with pytest.raises(ValueError, match=r"model: expected one that can be copied, got a layer"):
        reference.scores(model, inputs[:3], inputs[3:], labels)


def causal():
    signal = keras.Input((10, 2))
    x = layers.Conv1D(3, 3, strides=2, padding="causal")(signal)
    return keras.Model(signal, layers.Dense(3)(layers.Flatten()(x)))


def one_feature():
    """Normalisation of a single feature meets a regulariser."""
    image = keras.Input((4,))
    x = layers.BatchNormalization()(layers.Dense(1)(image))
    return keras.Model(image, layers.Dense(5, kernel_regularizer="l2")(x))


def integers():
    numbers = keras.Input((4,), dtype="int32")
    return keras.Model(numbers, layers.Dense(3)(numbers))


def double_precision():
    image = keras.Input((4,))
    x = layers.Flatten()(layers.Dense(4, dtype="float64", activation="tanh")(image))
    return keras.Model(image, layers.Dense(3, dtype="float64")(x))


def alike_names():
    image = keras.Input((5, 5, 2))
    x = layers.SeparableConv2D(3, 2, name="x")(image)
    x = layers.Flatten()(layers.DepthwiseConv2D(2, name="x_depthwise")(x))
    return keras.Model(image, layers.Dense(3)(x))


def cancelling():
    """A shift that the next layer takes back: its gradient is zero but for rounding."""
    image = keras.Input((4, 5))
    x = layers.LayerNormalization()(layers.BatchNormalization(axis=1, scale=False)(image))
    return keras.Model(image, layers.Dense(3)(layers.Flatten()(x)))


@pytest.mark.parametrize(
    "build", [causal, one_feature, integers, double_precision, alike_names, cancelling]
)
def test_special_cases(build):
    used = check(models.randomised(build()))
    assert "generic" not in used.values()


def test_weights_that_an_operation_uses_too_are_noticed():
    """No rule sees it, but the gradient differs from automatic differentiation's."""
    image = keras.Input((4,))
    first = layers.Dense(4, name="first")
    x = keras.ops.matmul(first(image), first.kernel)
    model = models.randomised(keras.Model(image, layers.Dense(3, use_bias=False)(x)))
    with pytest.warns(UserWarning, match="one example at a time: first"):
        scorer = EMOCScorer(model, regularizer=False)
    inputs = tf.constant(models.inputs(model, 2))
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        logits = model(inputs)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([1], logits[1:])
        rows = tf.unstack(logits[0])
    gradient = tape.gradient(loss, variables)
    change = [
        sum(
            float(tf.reduce_sum(a * b))
            for a, b in zip(tape.gradient(r, variables), gradient, strict=True)
        )
        for r in rows
    ]
    score = scorer.scores(inputs[:1], inputs[1:], [1])
    assert score[0] == pytest.approx(np.abs(change).sum(), rel=1e-4)


def test_adapters_have_no_factors():
    dense = layers.Dense(4, name="adapted")
    image = keras.Input((4,))
    x = dense(image)
    dense.enable_lora(2)
    model = models.randomised(keras.Model(image, layers.Dense(3)(x)))
    assert check(model)["adapted"] == "generic"


class Penalised(layers.Layer):
    def call(self, inputs):
        self.add_loss(keras.ops.sum(inputs**2))
        return inputs


def test_losses_added_in_a_call_are_refused():
    image = keras.Input((4,))
    model = keras.Model(image, layers.Dense(3)(Penalised()(layers.Dense(4)(image))))
    with pytest.raises(ValueError, match="losses of its weights alone, 0 regularisers, got 1"):
        EMOCScorer(model)


def test_an_operation_after_the_head_is_refused():
    image = keras.Input((4,))
    with pytest.raises(ValueError, match=r"ends in a linear Dense layer .*'softmax"):
        EMOCScorer(keras.Model(image, keras.ops.softmax(layers.Dense(3)(image))))


@pytest.mark.parametrize("model", [None, len, keras.Sequential([layers.Dense(3)])])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(ValueError, match=r"model: expected a built keras\.Model"):
        EMOCScorer(model)


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
            "bias_regularizer": draw(st.sampled_from([None, "l2"])),
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
        x = layers.Dense(5, activation=draw(ACTIVATIONS), kernel_regularizer="l2")(x)
    penalty = draw(st.sampled_from([None, "l2"]))
    head = layers.Dense(draw(st.integers(2, 4)), kernel_regularizer=penalty)
    model = keras.Model(image, head(x))
    return models.randomised(model, seed=draw(st.integers(0, 99)))


@given(networks())
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_random_networks(model):
    check(model)
