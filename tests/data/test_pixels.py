"""Which range images are in, and how networks made for pixels get them."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData, load
from emoc_tf.data import pixels
from emoc_tf.exploration import Exploration

CONFIG = ExplorationConfig(known_classes=3, novel_classes=2, initial_per_class=5, pool_per_class=5)
DIGITS = [part.images for part in load("digits")]


def scaled(change, dtype=np.float64):
    return tuple(
        ImageData(change(part.images.astype(dtype)), part.labels, part.class_names)
        for part in load("digits")
    )


PLAIN = {
    "[0, 1]": (lambda x: x / 255, 1),
    "[0, 1], float16": (lambda x: (x / 255).astype(np.float16), 1),
    "[0, 1], dark": (lambda x: x / 255 * 0.5, 0.5),
    "[0, 1], rounded beyond 1": (lambda x: x / 255 * (1 + 1e-6), 1),
    "[-1, 1]": (lambda x: x / 127.5 - 1, 1),
    "[-1, 1], dark": (lambda x: x / 255 * 1.2 - 1, 0.6),
    "[-1, 1], negative, bright": (lambda x: 1 - x / 255 * 1.2, -0.6),
    "pixels": (lambda x: x, 1),
    "pixels, float16": (lambda x: x.astype(np.float16), 1),
    "pixels, not integers": (lambda x: x * 0.77, 0.77),
}


@pytest.mark.parametrize("name", PLAIN)
def test_floats_of_a_plain_range_are_fed_as_pixels_minus_the_mean(name):
    change, contrast = PLAIN[name]
    exploration = Exploration(CONFIG.replace(pretrain_iterations=0), scaled(change))
    exploration.reset(0)
    images, episode = exploration.state.pool.images, exploration.episode
    plain = Exploration(CONFIG.replace(pretrain_iterations=0))
    plain.reset(0)
    assert images.dtype == np.float32
    close = {"rtol": 0, "atol": 0.2 if "float16" in name else 1e-3}
    np.testing.assert_allclose(images, contrast * plain.state.pool.images, **close)
    expected = contrast * plain.episode.test_images
    np.testing.assert_allclose(episode.test_images, expected, **close)
    if name == "pixels":
        np.testing.assert_array_equal(images, plain.state.pool.images)


@pytest.mark.parametrize("network", ["small_cnn", "cifar10_quick"])
@pytest.mark.parametrize("name", ["[0, 1]", "[-1, 1]"])
def test_known_classes_are_learnt_in_every_plain_range(network, name):
    config = CONFIG.replace(network=network, initial_per_class=10, pretrain_iterations=200)
    if network == "cifar10_quick":
        config = config.replace(learning_rate=1e-3, pretrain_iterations=400)
    as_pixels, floats = Exploration(config), Exploration(config, scaled(PLAIN[name][0], np.float32))
    accuracy = as_pixels.reset(0).known_accuracy
    assert accuracy > 0.8
    assert floats.reset(0).known_accuracy == pytest.approx(accuracy, abs=0.03)


NOT_PLAIN = {
    "standardised": lambda x: (x - x.mean()) / x.std(),
    "standardised by channel": lambda x: (x / 255 - 0.485) / 0.229,
    "[-0.5, 0.5]": lambda x: x / 255 - 0.5,
    "mean-free in [0, 1]": lambda x: (x - DIGITS[0].mean(axis=0)) / 255,
    "mean-free pixels": lambda x: x - DIGITS[0].mean(axis=0),
    "centred pixels": lambda x: x - 128,
    "divided twice": lambda x: x / 255 / 255,
    "16 levels": lambda x: x / 255 * 16,
    "16 bits": lambda x: x * 257,
    "12 bits": lambda x: x * 16,
    "negative": lambda x: -x,
    "0 or 1 as uint8": lambda x: (x > 100).astype(np.uint8),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_other_ranges_get_one_sentence_before_any_training(name):
    data = scaled(NOT_PLAIN[name])
    message = (
        r"data: expected .*0 to 255: .*\[0, 1\].*\[-1, 1\].*got training images of .* in \[.*; "
    )
    with pytest.raises(ValueError, match=message) as error:
        Exploration(CONFIG, data)
    assert "model of your own" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("[0, 1]", "pixels"),
        ("pixels", "[0, 1]"),
        ("[-1, 1]", "[0, 1]"),
        ("[0, 1]", "[-1, 1]"),
    ],
)
def test_both_parts_are_of_one_range(train, test):
    data = scaled(PLAIN[train][0])[0], scaled(PLAIN[test][0])[1]
    with pytest.raises(ValueError, match="data: expected training and test images of one range"):
        Exploration(CONFIG, data)
    twice = scaled(PLAIN["pixels"][0])[0], scaled(NOT_PLAIN["divided twice"])[1]
    with pytest.raises(ValueError, match="data: expected training and test images of one range"):
        Exploration(CONFIG, twice)


def test_a_test_part_need_not_reach_the_ends_of_the_range():
    train, test = scaled(PLAIN["[-1, 1]"][0])
    dull = ImageData(test.images * 0.5, test.labels, test.class_names)
    assert pixels.factor_to_pixels(train.images, dull.images) == 127.5


@pytest.mark.parametrize("shape", [(300, 8, 8, 1), (200, 32, 32, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_the_mean_is_subtracted_bit_for_bit_as_in_float64(shape, dtype):
    images = np.random.default_rng(0).integers(256, size=shape).astype(dtype)
    mean = images[:70].mean(axis=0, dtype=np.float64)
    found = pixels.centred(images, mean, 1.0)
    np.testing.assert_array_equal(found, (images - mean).astype(np.float32))
    np.testing.assert_array_equal(pixels.centred(images[:, ::2], mean[::2], 1.0), found[:, ::2])
