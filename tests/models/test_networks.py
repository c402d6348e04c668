import keras
import numpy as np
import pytest

from emoc_tf.models import checks, networks, structure
from tests.scoring import models, own_models


def rng():
    return np.random.default_rng(0)


def test_the_papers_network():
    model = networks.build("cifar10_quick", (32, 32, 3), 10, 5e-4, rng())
    shapes = [layer.output.shape[1:] for layer in model.layers if hasattr(layer, "kernel")]
    assert shapes == [(32, 32, 32), (16, 16, 32), (8, 8, 64), (64,), (10,)]
    assert model.get_layer("flatten").output.shape == (None, 4 * 4 * 64)
    kernels = [layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")]
    for kernel, stddev in zip(kernels, (1e-4, 0.01, 0.01, 0.1, 0.1), strict=True):
        assert kernel.std() == pytest.approx(stddev, rel=0.1)
    assert all((w == 0).all() for w in model.get_weights() if w.ndim == 1)


@pytest.mark.parametrize("name", ["small_cnn", "cifar10_quick"])
def test_the_penalty_is_half_the_weight_decay_times_the_squared_norm(name):
    model = models.randomised(networks.build(name, (8, 8, 1), 4, 5e-4, rng()))
    square = sum((w.astype(np.float64) ** 2).sum() for w in model.get_weights())
    assert float(sum(model.losses)) == pytest.approx(0.5 * 5e-4 * square, rel=1e-5)
    assert not networks.build(name, (8, 8, 1), 4, 0.0, rng()).losses


@pytest.mark.parametrize("name", ["convolutional", "sequential", "unusual", "grown"])
def test_growing_keeps_old_weights_bit_for_bit_and_old_logits(name):
    model = models.make(name, scale=2.0)
    images = models.images(6, model.input_shape[1:])
    before, classes = [w.copy() for w in model.get_weights()], model.output_shape[-1]
    logits = model(images).numpy()
    for units in (1, 3):
        model = structure.grow_head(model, units, rng())
    assert model.output_shape == (None, classes + 4)
    after = model.get_weights()
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new[tuple(slice(size) for size in old.shape)])
    grown = model(images).numpy()
    assert np.abs(grown[:, :classes] - logits).max() < 1e-5
    assert np.abs(grown[:, classes:]).max() < 0.1
    assert len({tuple(row) for row in np.round(grown[:, classes:].T, 9)}) == 4
    checks.check_model(model, grows=True)


def test_features_are_the_inputs_of_the_head():
    model = models.make("grown")
    images = models.images(3, model.input_shape[1:])
    head = model.layers[-1]
    features = structure.feature_extractor(model)(images)
    np.testing.assert_allclose(
        features @ head.kernel.numpy() + head.bias.numpy(),
        model(images).numpy(),
        rtol=1e-5,
        atol=1e-6,
    )


def with_adapter(dtype):
    image = keras.Input((4,), dtype=dtype)
    adapted = keras.layers.Dense(3, dtype=dtype)
    model = keras.Model(image, keras.layers.Dense(2, dtype=dtype)(adapted(image)))
    adapted.enable_lora(2)
    return model


def bad_models():
    image, layers = keras.Input((4,)), keras.layers
    hidden = layers.Dense(3, name="hidden")(image)
    return {
        "softmax activation": (
            keras.Model(image, layers.Dense(3, activation="softmax", name="last")(image)),
            "got layer 'last' with activation 'softmax'; give it activation=None",
        ),
        "softmax layer": (
            keras.Model(image, layers.Softmax(name="last")(hidden)),
            "linear Dense layer.*got last layer 'last' of type Softmax .drop the softmax",
        ),
        "no head": (keras.Model(image, layers.ReLU(name="last")(hidden)), "type ReLU"),
        "two outputs": (
            keras.Model(image, [hidden, layers.Dense(2)(hidden)]),
            "expected one input and one output, got 1 and 2",
        ),
        "not built": (keras.Sequential([layers.Dense(3)]), "expected a built keras.Model"),
        "activity regulariser": (
            keras.Model(
                image, layers.Dense(2)(layers.Dense(3, name="h", activity_regularizer="l2")(image))
            ),
            "regularisers of weights only, got layer 'h' with an activity_regularizer",
        ),
        "mixed precision": (
            keras.Model(image, layers.Dense(2)(layers.Dense(3, name="h", dtype="float64")(image))),
            "expected one precision, got layer 'h' in float64",
        ),
        "adapter in another precision": (
            with_adapter(dtype="float64"),
            "expected one precision, got variable '.*lora_kernel_a' in float32.*in_float32",
        ),
        "half precision": (
            keras.Model(image, layers.Dense(2, dtype="float16")(image)),
            "expected layers in float32 or float64, got float16",
        ),
        "frozen": (
            keras.Model(image, layers.Dense(2, trainable=False)(image)),
            "expected trainable weights, got a model that is frozen.*; set model.trainable = True",
        ),
        "no model": (len, "expected a built keras.Model"),
        "texts": (
            keras.Model(text := keras.Input((1,), dtype="string"), layers.Identity()(text)),
            "an input of numbers, got dtype string; .*TextVectorization",
        ),
    }


def bad_cases():
    of_new_keras = "adapter in another precision"
    of_all = sorted(bad_models().keys() - {of_new_keras})
    return [*of_all, pytest.param(of_new_keras, marks=own_models.needs_keras_3_15)]


@pytest.mark.parametrize("case", bad_cases())
def test_models_that_cannot_grow_are_refused(case):
    model, message = bad_models()[case]
    with pytest.raises(ValueError, match=f"model: .*{message}"):
        checks.check_model(model)


def test_copies_compute_the_same_with_weights_of_their_own():
    image = keras.Input((4,))
    normalization = keras.layers.Normalization()
    normalization.adapt(models.images(50, (4,)) * 7 + 3)
    nested = keras.Model(image, normalization(image))
    model = keras.Model(image, keras.layers.Dense(2)(nested(image)))
    duplicate = structure.copy(model)
    x = models.images(3, (4,))
    np.testing.assert_array_equal(duplicate(x), model(x))
    duplicate.set_weights([w + 1 for w in duplicate.get_weights()])
    assert not np.allclose(duplicate(x), model(x))


def test_copies_of_a_normalisation_compute_what_it_computes():
    """Its weights may have changed since it made its constants of them."""
    image = keras.Input((4,))
    model = keras.Model(image, keras.layers.Dense(2)(keras.layers.Normalization()(image)))
    models.randomised(model)
    x = models.images(3, (4,))
    np.testing.assert_array_equal(structure.copy(model)(x), model(x))


def lora():
    image = keras.Input((4,))
    head = keras.layers.Dense(3, name="last")
    model = keras.Model(image, head(image))
    head.enable_lora(2)
    return model


def called_twice():
    image = keras.Input((3,))
    head = keras.layers.Dense(3, name="last")
    return keras.Model(image, head(keras.layers.ReLU()(head(image))))


@pytest.mark.parametrize(
    ("build", "message"),
    [(lora, "'last' with an adapter"), (called_twice, "'last' called 2 times")],
)
def test_heads_that_cannot_grow(build, message):
    model = build()
    checks.check_model(model)
    with pytest.raises(ValueError, match=f"model: expected a head .*{message}"):
        checks.check_model(model, grows=True)
