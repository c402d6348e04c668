"""How an episode's images are drawn and brought to the model."""

import tracemalloc

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData
from emoc_tf.exploration.episode import draw_episode

CONFIG = ExplorationConfig(known_classes=2, novel_classes=2, initial_per_class=5, pool_per_class=95)


def make_data(dtype, counts=(100, 100, 100, 100), shape=(32, 32, 3), seed=0):
    rng = np.random.default_rng(seed)

    def part(counts):
        labels = np.repeat(np.arange(len(counts)), counts)
        images = rng.integers(256, size=(len(labels), *shape)).astype(dtype)
        return ImageData(images, labels, tuple(map(str, range(len(counts)))))

    return part(counts), part([60] * len(counts))


@pytest.mark.parametrize("as_they_are", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_drawing_takes_hardly_more_memory_than_what_is_kept(dtype, as_they_are):
    data = make_data(dtype)
    draw_episode(CONFIG, *data, root=0, as_they_are=as_they_are)
    tracemalloc.start()
    try:
        episode = draw_episode(CONFIG, *data, root=0, as_they_are=as_they_are)
        kept, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    arrays = (episode.raw_images, episode.images, episode.test_images)
    assert kept < 1.1 * sum(array.nbytes for array in arrays)
    # A copy of the test images as they came, and of the initial ones.
    assert peak - kept < data[1].images.nbytes + 0.2 * episode.images.nbytes


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_pixels_minus_the_mean_have_the_bits_of_the_plain_expression(dtype):
    train, test = make_data(dtype)
    episode = draw_episode(CONFIG, train, test, root=3)
    mean = episode.raw_images[: episode.num_initial].mean(axis=0, dtype=np.float64)
    expected = (episode.raw_images - mean).astype(np.float32)
    np.testing.assert_array_equal(episode.images, expected)
    expected = (test.images - mean).astype(np.float32)
    np.testing.assert_array_equal(episode.test_images, expected)
