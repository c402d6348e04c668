"""Models in mixed precision, made anew in float32."""

import contextlib

import keras
import numpy as np
import pytest

from emoc_tf.models import episode_model, in_float32
from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import built_models, forward_mode, models, own_models

layers = keras.layers
HALF = ("mixed_float16", "mixed_bfloat16", "bfloat16", "float16")


@contextlib.contextmanager
def precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def plain():
    return own_models.classifier()


def nested_with_normalization():
    inner = keras.Input(own_models.SHAPE)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(inner))
    block = keras.Sequential([keras.Input((6, 6, 4)), layers.Dense(5, activation="relu")])
    base = keras.Model(inner, block(x))
    base.trainable = False
    normalization = layers.Normalization()
    normalization.build((None, *own_models.SHAPE))
    image = keras.Input(own_models.SHAPE)
    x = layers.GlobalAveragePooling2D()(base(normalization(image)))
    return models.randomised(keras.Model(image, layers.Dense(3, kernel_regularizer="l2")(x)))


def blocks():
    image = keras.Input(own_models.SHAPE)
    x = layers.GlobalAveragePooling2D()(built_models.Block(3)(image))
    return models.randomised(keras.Model(image, layers.Dense(3, dtype="float32")(x)))


def wrapped():
    image = keras.Input(own_models.SHAPE)
    x = layers.TimeDistributed(layers.Dense(3, activation="tanh"))(layers.Reshape((2, 96))(image))
    x = layers.Bidirectional(layers.SimpleRNN(2))(x)
    return models.randomised(keras.Model(image, layers.Dense(3)(x)))


COMPOSED = (nested_with_normalization, blocks, wrapped)


@pytest.mark.parametrize(
    ("build", "policy", "stays"),
    [
        *((plain, policy, False) for policy in HALF),
        *((build, "mixed_float16", True) for build in COMPOSED),
        *((build, "mixed_bfloat16", False) for build in COMPOSED),
    ],
)
def test_the_way_out_of_mixed_precision(build, policy, stays):
    expected = build()
    images = own_models.make_images()
    with precision(policy):
        model = build()
        model.compile("adam", "sparse_categorical_crossentropy")
    with precision(policy if stays else "float32"):
        with pytest.raises(ValueError, match=f"got {policy} in layer .*in_float32.model. returns"):
            EMOCScorer(model)
        before = model.get_weights()
        new = in_float32(model)
        assert keras.config.dtype_policy().name == (policy if stays else "float32")
    assert model.compute_dtype != new.compute_dtype == "float32"
    for layer in new._flatten_layers():
        assert layer.dtype_policy.name == "float32"
    for ours, theirs in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for ours, theirs in zip(new.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs.astype(np.float32))
    assert len(new.trainable_variables) == len(expected.trainable_variables)
    expected.set_weights(new.get_weights())
    with precision(policy if stays else "float32"):
        found = own_models.scorer_of(new).scores(images[:3], images[3:])
        literal = reference.scores(new, images[:3], images[3:])
    scores = forward_mode.scores(expected, images[:3], images[3:])
    np.testing.assert_allclose(found, scores, rtol=0, atol=1e-4 * scores.max())
    np.testing.assert_allclose(literal, scores, rtol=0, atol=1e-4 * scores.max())


def test_float64_becomes_float32_for_training():
    with precision("float64"):
        model = plain()
    images = own_models.make_images()
    with pytest.raises(ValueError, match=r"layers in float32, got float64; .*in_float32"):
        episode_model.copy_own(model, images, 3)
    new = in_float32(model)
    np.testing.assert_allclose(new(images), model(images), rtol=1e-4, atol=1e-6)
    episode_model.copy_own(new, images, 3)


def half_a_layer():
    """All weights are in float32, but what they meet is not."""
    return own_models.classifier(layers.Rescaling(2.0, dtype="mixed_float16"))


def half_within():
    class Hidden(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.inner = layers.Dense(3, dtype="mixed_bfloat16")

        def call(self, inputs):
            return self.inner(inputs)

    return own_models.classifier(Hidden())


@pytest.mark.parametrize("build", [half_a_layer, half_within])
def test_half_precision_anywhere_is_told(build):
    own_models.assert_refused(build(), r"layers in float32 or float64, got mixed_b?float16")


class WithHiddenState(layers.Layer):
    factor = 1.0

    def call(self, inputs):
        return self.factor * inputs


@own_models.needs_keras_3_15
def test_a_lambda_cannot_be_built_anew():
    with precision("mixed_float16"):
        model = own_models.classifier(layers.Lambda(lambda x: 2 * x, name="double"))
    with pytest.raises(ValueError, match="got 'double' of type Lambda, which cannot; put"):
        in_float32(model)


def test_what_cannot_be_built_anew_is_told():
    with precision("mixed_float16"):
        hidden = WithHiddenState()
        hidden.factor = -3.0
        other = own_models.classifier(hidden)
    with pytest.raises(ValueError, match="got other outputs after it was built anew in float32"):
        in_float32(other)
    for wrong in (None, layers.Dense(2), keras.Sequential([layers.Dense(3)])):
        with pytest.raises(ValueError, match=r"model: expected a functional or Sequential keras"):
            in_float32(wrong)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a .quantize. method")
def test_quantised_models_are_told_from_mixed_ones():
    model = own_models.classifier(layers.Dense(3))
    model.quantize("int8")
    message = "layers that are not quantised, got .* in int8; take the model as it was before"
    own_models.assert_refused(model, message)
    with pytest.raises(ValueError, match=message):
        in_float32(model)


class Forgetful(keras.layers.Layer):
    """Its configuration leaves out a factor that rounding in half precision could account for."""

    def __init__(self, factor=1.0, **kwargs):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, inputs):
        return inputs * self.factor

    def get_config(self):
        return super().get_config()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
@pytest.mark.parametrize("head", ["glorot_uniform", "zeros"])
def test_a_configuration_that_tells_in_part_is_told(policy, head):
    """Where a head of zeros makes all outputs 0, too."""
    image = keras.Input((5,))
    x = keras.layers.Dense(4, dtype=policy)(image)
    x = Forgetful(1.05, dtype=policy)(x)
    last = keras.layers.Dense(3, dtype="float32", kernel_initializer=head)
    with pytest.raises(ValueError, match="get_config and get_weights tell whole"):
        in_float32(keras.Model(image, last(x)))
