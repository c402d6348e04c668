"""How an episode's images are drawn and brought to the model."""

import tracemalloc

import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData, streams
from emoc_tf.exploration import Exploration
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


SMALL = CONFIG.replace(pool_per_class=20)


def test_novel_classes_need_images_for_the_pool_only():
    train, test = make_data(np.uint8, counts=(25, 25, 20, 22), shape=(2, 2, 1))
    for root in range(5):
        episode = draw_episode(SMALL, train, test, root)
        assert set(episode.classes[:2]) == {0, 1}
        assert set(episode.classes[2:]) == {2, 3}
        assert episode.num_initial == 10
        assert set(episode.true_labels[:10]) == {0, 1}
        np.testing.assert_array_equal(np.bincount(episode.true_labels), [25, 25, 20, 20])
        each = {image.tobytes() for image in episode.raw_images}
        assert len(each) == len(episode.raw_images)


def test_small_classes_are_drawn_as_novel_ones_beside_large_ones():
    train, test = make_data(np.uint8, counts=(25, 25, 25, 25, 20, 19), shape=(2, 2, 1))
    config = SMALL.replace(known_classes=2, novel_classes=2)
    novel = []
    for root in range(60):
        classes = draw_episode(config, train, test, root).classes
        assert len(set(classes)) == 4
        assert set(classes[:2]) <= {0, 1, 2, 3}
        novel += classes[2:]
    counts = np.bincount(novel, minlength=6)
    assert counts[5] == 0
    assert 25 < counts[4] < 55  # two of the three that are left: 40
    given = draw_episode(config, train, test, 0, known_ids=(3, 0))
    assert given.classes[:2] == (3, 0)


def test_classes_that_are_all_large_enough_are_drawn_as_ever():
    train, test = make_data(np.uint8, counts=(25, 30, 25, 40, 26), shape=(2, 2, 1))
    episode = draw_episode(SMALL, train, test, 4)
    classes = streams.generator(4, 0, "classes").choice(np.arange(5), 4, replace=False)
    np.testing.assert_array_equal(episode.classes, classes)
    rng, first, waiting = streams.generator(4, 0, "images"), [], []
    for position, class_id in enumerate(classes):
        members = rng.permutation(np.flatnonzero(train.labels == class_id))
        first += members[:5].tolist() if position < 2 else []
        waiting += members[5:25].tolist()
    chosen = [*first, *rng.permutation(waiting)]
    np.testing.assert_array_equal(episode.raw_images, train.images[chosen])


@pytest.mark.parametrize("counts", [(25, 25, 20, 19), (25, 24, 24, 24), (19, 19, 19, 19)])
def test_too_few_classes_are_counted_in_words(counts):
    data = make_data(np.uint8, counts=counts, shape=(2, 2, 1))
    message = (
        r"initial_per_class \+ pool_per_class: expected 4 classes with 25 training images \(20 for "
        r"the 2 novel ones\) and a test image each, got \d \(\d with 20\)"
    )
    with pytest.raises(ValueError, match=message):
        draw_episode(SMALL, *data, root=0)


def test_a_model_knows_large_enough_classes_only():
    data = make_data(np.uint8, counts=(25, 25, 20, 22), shape=(8, 8, 1))
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    with pytest.raises(ValueError, match=r"model_classes: expected classes with enough .*\[0, 1\]"):
        Exploration(SMALL, data, model=model, model_classes=[0, 2])
    exploration = Exploration(SMALL.replace(pretrain_iterations=0), data, model=model)
    exploration.reset(0)
    assert set(exploration.state.known_classes) == {0, 1}
