import keras
import numpy as np
import pytest

from emoc_tf.data import views
from emoc_tf.models.dropout import DropoutSampler

layers = keras.layers
SEEDS = np.array([[1, 2], [3, 4], [5, 6]], np.int32)


def images(shape, count=9, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def sampled(model, given, seeds=SEEDS):
    return DropoutSampler(model).logits(given, np.arange(len(given)), seeds)


def ones(size, classes=1):
    """The last layer: a sum of what it gets."""
    return layers.Dense(classes, kernel_initializer="ones")


def model_of(shape, *middle):
    image = x = keras.Input(shape)
    for layer in middle:
        x = layer(x)
    return keras.Model(image, ones(1)(x))


@pytest.mark.parametrize("rate", [0.2, 0.7])
def test_dropout_keeps_or_drops_and_scales(rate):
    """Each feature by itself, for all images alike."""
    model = model_of((2000,), layers.Dropout(rate))
    basis = np.eye(2000, dtype=np.float32)[:400]
    found = sampled(model, basis)[..., 0]  # (3, 400): what is made of each feature
    kept = found > 0
    np.testing.assert_allclose(found[kept], 1 / (1 - rate), rtol=1e-5)
    assert abs(kept.mean() - (1 - rate)) < 0.05
    assert (kept[0] != kept[1]).any()
    # One mask a sample: outputs of a linear model add up over images.
    added = sampled(model, basis[:2].sum(axis=0, keepdims=True))[:, 0, 0]
    np.testing.assert_allclose(added, found[:, :2].sum(axis=1), rtol=1e-5)


def test_gaussian_dropout_multiplies():
    model = model_of((3000,), layers.GaussianDropout(0.5))
    found = sampled(model, np.eye(3000, dtype=np.float32)[:1000])[..., 0]
    assert abs(found.mean() - 1) < 0.1
    assert abs(found.std() - 1) < 0.1  # √(0.5/0.5)


def test_alpha_dropout_keeps_mean_and_variance():
    normal = keras.Input((4000,))
    x = layers.AlphaDropout(0.3)(normal)
    picked = keras.Model(normal, layers.Dense(4000, kernel_initializer="identity")(x))
    found = sampled(picked, images((4000,), 5))
    assert abs(found.mean()) < 0.05
    assert abs(found.std() - 1) < 0.05


@pytest.mark.parametrize(
    ("layer", "axes"),
    [
        (layers.SpatialDropout2D(0.5), (0, 1)),
        (layers.SpatialDropout2D(0.5, data_format="channels_first"), (1, 2)),
        (layers.Dropout(0.5, noise_shape=(None, 1, None, None)), (0,)),
    ],
)
def test_masks_that_positions_share(layer, axes):
    image = keras.Input((6, 7, 8))
    x = layers.Flatten()(layer(image))
    model = keras.Model(image, layers.Dense(336, kernel_initializer="identity")(x))
    found = sampled(model, np.ones((2, 6, 7, 8), np.float32)).reshape(3, 2, 6, 7, 8)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert set(np.unique(found)) == {0.0, 2.0}
    assert (np.ptp(found[:, 0], axis=tuple(axis + 1 for axis in axes)) == 0).all()
    other = next(axis for axis in range(3) if axis not in axes)
    assert (np.ptp(found[:, 0], axis=other + 1) > 0).any()


def convolutional():
    image = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="relu")(image)
    x = layers.BatchNormalization()(x)
    y = x = layers.SpatialDropout2D(0.3)(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.GaussianNoise(0.5)(layers.Add()([x, y]))
    x = layers.Dense(5, "tanh")(layers.Flatten()(x))
    x = layers.Dropout(0.5)(layers.Dropout(0.0)(x))
    return keras.Model(image, layers.Dense(3)(x))


def nested():
    inner = convolutional()
    image = keras.Input((6, 6, 2))
    return keras.Model(image, layers.Dense(2)(inner(image)))


def at_the_end():
    """Behind a body of its own, and with a part that goes around the dropout."""
    image = keras.Input((5,))
    x = layers.Dense(4, "relu")(image)
    y = layers.Dropout(0.5)(x)
    return keras.Model(image, layers.Dense(3)(layers.Concatenate()([y, x, layers.Dense(2)(image)])))


def sequential():
    return keras.Sequential(
        [keras.Input((5,)), layers.Dropout(0.4), layers.Dense(4, "relu"), layers.Dense(3)]
    )


def masked():
    image = keras.Input((7,), dtype="int32")
    x = layers.Embedding(5, 3, mask_zero=True)(image)
    x = layers.GlobalAveragePooling1D()(layers.Dropout(0.5)(x))
    return keras.Model(image, layers.Dense(3)(x))


MODELS = [convolutional, nested, at_the_end, sequential, masked]


def given(model, count=9):
    shape = model.input_shape[1:]
    if "int" in model.inputs[0].dtype:
        return np.random.default_rng(0).integers(0, 5, (count, *shape)).astype(np.int32)
    return images(shape, count)


@pytest.mark.parametrize("make", MODELS)
def test_samples_are_functions_of_their_seeds(make):
    model = make()
    before = [variable.numpy() for variable in model.variables]
    sampler, x = DropoutSampler(model), given(model)
    assert sampler.is_random
    all_of_them = sampler.logits(x, np.arange(9), SEEDS)
    assert all_of_them.shape == (3, 9, model.output_shape[-1])
    some = DropoutSampler(model).logits(x, np.array([1, 4]), SEEDS[[2, 0]])
    np.testing.assert_allclose(some, all_of_them[[2, 0]][:, [1, 4]], rtol=1e-5, atol=1e-6)
    assert np.ptp(all_of_them, axis=0).max() > 1e-3
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


@pytest.mark.parametrize("make", MODELS)
def test_with_hardly_any_dropout_it_is_inference(make):
    """Normalisations, noise and masks of time steps are as in inference."""
    model = make()
    for each in model.layers if make is not nested else model.layers[1].layers:
        if getattr(each, "rate", 0):
            each.rate = 1e-9
    model.set_weights([w + 0.3 for w in model.get_weights()])
    x = given(model)
    expected = model(x, training=False).numpy()
    for found in sampled(model, x):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_later_weights_are_seen():
    model = at_the_end()
    sampler, x = DropoutSampler(model), given(model)
    before = sampler.logits(x, np.arange(9), SEEDS)
    model.set_weights([2 * w for w in model.get_weights()])
    assert not np.allclose(before, sampler.logits(x, np.arange(9), SEEDS))


def test_views_are_read_in_batches():
    model = at_the_end()
    x = images((5,), 300)
    view = views.ImageView(x)
    sampler, rows = DropoutSampler(model), np.arange(2, 299)
    np.testing.assert_array_equal(sampler.logits(view, rows, SEEDS), sampler.logits(x, rows, SEEDS))


def test_models_without_dropout():
    image = keras.Input((5,))
    x = layers.Dropout(0.0)(image)
    assert not DropoutSampler(keras.Model(image, layers.Dense(3)(x))).is_random
    assert not DropoutSampler(keras.Model(image, layers.Dense(3)(image))).is_random


def test_models_whose_images_have_any_size():
    image = keras.Input((None, None, 2))
    x = layers.SpatialDropout2D(0.5)(layers.Conv2D(3, 3)(image))
    model = keras.Model(image, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    assert sampled(model, images((6, 7, 2))).shape == (3, 9, 3)
