"""Copies of models that people hand in, and episodes that begin with them."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.config import ExplorationConfig
from emoc_tf.models import episode_model, structure
from emoc_tf.models.episode_model import EpisodeModel, copy_own
from tests.scoring import models, own_models
from tests.scoring.own_models import SHAPE, classifier

layers = keras.layers
IMAGES = own_models.make_images(12)


def episode(model, images=IMAGES, classes=3):
    config = ExplorationConfig(known_classes=classes, batch_size=4, learning_rate=0.01)
    own = copy_own(model, images, classes)
    return EpisodeModel(config, own, images.astype(np.float32), root=3)


def learnt(model, images=IMAGES):
    """What an episode learns that starts with a model, and is asked twice about its start."""
    labels = np.arange(len(images)) % 3
    one = episode(model, images)
    start = one.predict(images)[1]
    np.testing.assert_array_equal(one.predict(images)[1], start)
    np.testing.assert_allclose(start, model(images, training=False), rtol=1e-4, atol=1e-5)
    one.update(1, labels, np.arange(6), np.arange(6, 12))
    one.change_outputs(2, [0, 1, 2], 1, "new units")
    one.update(2, labels, np.arange(6), np.arange(6, 12))
    features, logits = one.predict(images)
    head = one.model.layers[-1]
    np.testing.assert_allclose(features @ head.kernel.numpy() + head.bias, logits, atol=1e-4)
    assert logits.shape[1] == 4
    assert not np.allclose(logits[:, :3], start)
    return logits


@pytest.mark.parametrize("kind", sorted(own_models.augmentations()))
def test_augmentation_layers_are_random_in_training_alone(kind):
    model = classifier(*own_models.augmentations()[kind])
    before = model.get_weights()
    logits = learnt(model)
    if kind != "drawn in Python":
        np.testing.assert_array_equal(learnt(model), logits)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_noise_takes_part_in_training():
    noisy = learnt(classifier(layers.GaussianNoise(0.5)))
    assert not np.allclose(noisy, learnt(classifier()), atol=1e-3)


def activation_set_to_none():
    model = classifier(layers.Conv2D(3, 3, padding="same"))
    for layer in (model.layers[1], model.layers[-1]):
        layer.activation = None
    return model


def activation_set_to_none_inside():
    inner = keras.Sequential([keras.Input(SHAPE), layers.Conv2D(3, 3, activation="relu")])
    model = classifier(inner)
    inner.layers[-1].activation = None
    return model


def linear_activation_at_the_end():
    model = classifier()
    model = keras.Model(model.inputs, layers.Activation("softmax")(model.outputs[0]))
    model.layers[-1].activation = keras.activations.linear
    return model


def called_on_a_batch():
    model = keras.Sequential([layers.Flatten(), layers.Dense(5), layers.Dense(3)])
    model(own_models.make_images(8))
    return models.randomised(model)


def of_a_fixed_number():
    image = keras.Input(batch_shape=(8, *SHAPE))
    return models.randomised(keras.Model(image, layers.Dense(3)(layers.Flatten()(image))))


def compiled_with_a_loss_of_its_own():
    model = classifier()
    model.compile("adam", lambda truth, found: keras.ops.mean((truth - found) ** 2))
    return model


def dropout_that_stays_on():
    image = keras.Input(SHAPE)
    x = layers.Flatten()(layers.Dropout(0.4)(image, training=True))
    return models.randomised(keras.Model(image, layers.Dense(3)(x)))


@pytest.mark.filterwarnings(
    "ignore:The object being serialized includes a .lambda", "ignore:The structure of .inputs"
)
@pytest.mark.parametrize(
    "build",
    [
        activation_set_to_none, activation_set_to_none_inside, linear_activation_at_the_end,
        called_on_a_batch, of_a_fixed_number, compiled_with_a_loss_of_its_own,
        dropout_that_stays_on,
        *(lambda k=kind, d=depth: own_models.nested_head(k, d)
          for kind in ("sequential", "functional") for depth in (1, 2)),
    ],
)  # fmt: skip
def test_models_of_all_sorts_learn_and_grow(build):
    learnt(build())


def test_a_nested_head_keeps_the_variables_of_the_copy():
    own = copy_own(own_models.nested_head("sequential", 2), IMAGES, 3)
    grown = structure.grow_head(own, 1, np.random.default_rng(0))
    shared = {id(variable) for variable in own.variables} & {id(v) for v in grown.variables}
    assert len(shared) == len(own.variables) - 2  # all but the head's


@pytest.mark.parametrize("kind", own_models.RANDOM)
def test_models_that_are_random_whatever_one_says_are_refused(kind):
    tf.random.set_seed(3)  # one in 128 times a coin falls on the same side all the time
    with pytest.raises(ValueError, match="the same outputs at each call with training=False"):
        copy_own(classifier(kind()), IMAGES, 3)


def test_one_output_is_one_known_class_or_refused():
    """Which of the two it is, the number of known classes tells."""
    model = classifier(outputs=1)
    assert copy_own(model, IMAGES, 1).output_shape == (None, 1)
    with pytest.raises(ValueError, match=r"expected 2 outputs.*got 1; .*head = .*Dense\(2\)"):
        copy_own(model, IMAGES, 2)


def test_a_head_that_cannot_grow_is_refused():
    model = classifier(head=own_models.Cosine(3))
    copy_own(model, IMAGES, 3)  # where nothing is to be discovered
    with pytest.raises(ValueError, match=r"head of type Dense, .* of type Cosine"):
        structure.grow_head(model, 1, np.random.default_rng(0))


def pixels(dtype):
    image = keras.Input(SHAPE, dtype=dtype)
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    return models.randomised(keras.Model(image, layers.Dense(3)(layers.Dense(4)(x))))


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_models_of_integers_get_integers(dtype):
    images = np.random.default_rng(0).integers(0, 256, (12, *SHAPE)).astype(np.float32)
    learnt(pixels(dtype), images)
    with pytest.raises(ValueError, match="images: expected integers for this model, got"):
        episode(pixels(dtype), images - images.mean(axis=0) + np.float32(0.25))
    if dtype == "uint8":
        with pytest.raises(ValueError, match=r"images: expected integers in \[0, 255\].*got 2"):
            episode(pixels(dtype), images + 1)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("part", [0, 1])
def test_models_of_integers_refuse_fractions_before_any_episode(dtype, part):
    images = np.random.default_rng(0).integers(0, 256, (12, *SHAPE))
    parts = [images.astype(np.float32), images[:4].astype(np.float64)]
    copy_own(pixels(dtype), parts[0], 3, parts[1])
    parts[part] = parts[part] / 255
    with pytest.raises(ValueError, match="images: expected integers for this model, got 0"):
        copy_own(pixels(dtype), parts[0], 3, parts[1])


@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_a_structure_of_one_input_is_called_as_it_wants(kind, recwarn):
    image = keras.Input(SHAPE, name="image")
    taken = {"dict": {"image": image}, "list": [image], "tuple": (image,)}[kind]
    x = layers.Conv2D(2, 3)(image)
    model = keras.Model(taken, layers.Dense(3)(layers.GlobalAveragePooling2D()(x)))
    one = episode(model)
    one.update(1, np.arange(12) % 3, np.arange(6), np.arange(6, 12))
    one.change_outputs(2, [0, 1, 2], 1, "new units")
    assert one.predict(IMAGES)[1].shape == (12, 4)
    assert [str(each.message) for each in recwarn if "inputs" in str(each.message)] == []


@own_models.needs_keras_3_15
def test_a_layer_that_cannot_be_copied_is_named():
    model = classifier(layers.Lambda(lambda x: 2 * x, name="double"))
    with pytest.raises(ValueError, match="got 'double' of type Lambda, which cannot; put"):
        episode_model.copy_own(model, IMAGES, 3)


def test_a_network_that_has_died_is_told():
    def warned(model):
        one = episode(model)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            one.warn_if_blind(4, one.predict(IMAGES)[0])
        return [str(each.message) for each in told]

    assert not warned(classifier())
    (message,) = warned(classifier(layers.Rescaling(0.0)))
    assert message.startswith("update step 4: the network computes the same of all 12 images")
    assert "learning_rate=0.001" in message
