"""How an episode's images are drawn and brought to the model."""

import tracemalloc
import warnings

import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData, streams
from emoc_tf.exploration import Exploration
from emoc_tf.exploration.drawing import distinct, draw_episode

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


@pytest.mark.parametrize("counts", [(118, 107, 8, 8), (25, 25, 20, 22), (3, 30, 1, 2)])
def test_a_class_with_fewer_images_than_asked_for_gives_what_it_has(counts):
    train, test = make_data(np.uint8, counts=counts, shape=(2, 2, 1))
    drawn = set()
    for root in range(12):
        episode = draw_episode(SMALL, train, test, root)
        drawn |= set(episode.classes[:2])
        found = np.bincount(episode.true_labels, minlength=4)
        initial = np.bincount(episode.true_labels[: episode.num_initial], minlength=4)
        for place, class_id in enumerate(episode.classes):
            known = place < 2
            assert initial[class_id] == (min(5, counts[class_id]) if known else 0)
            assert found[class_id] == min(counts[class_id], 25 if known else 20)
        each = {image.tobytes() for image in train.images[train.labels >= 0]}
        assert {image.tobytes() for image in episode.raw_images} <= each
    assert drawn == {0, 1, 2, 3}


def test_small_classes_are_told_with_their_numbers():
    data = make_data(np.uint8, counts=(118, 107, 8, 8), shape=(8, 8, 1))
    with pytest.warns(UserWarning, match=r"data: 2 of 4 classes have fewer .* 25, .*: 2 8, 3 8$"):
        exploration = Exploration(SMALL.replace(network="small_cnn"), data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Exploration(SMALL.replace(pool_per_class=3, set_size=3), data)
    assert exploration.class_names == ("0", "1", "2", "3")


@pytest.mark.filterwarnings("ignore:data")
@pytest.mark.parametrize("counts", [(30, 30, 3, 9), (6, 6, 2, 1)])
def test_a_class_with_fewer_images_than_a_set_gives_one_set(counts):
    """It would never be discovered otherwise."""
    data = make_data(np.uint8, counts=counts, shape=(8, 8, 1))
    config = SMALL.replace(
        set_size=4, initial_per_class=1, pretrain_iterations=1, update_iterations=1, max_steps=None
    )
    exploration = Exploration(config, data)
    exploration.reset(0)
    sizes = set()
    while not exploration.finished:
        sets = exploration.state.candidates[exploration.state.candidate_mask]
        classes = [exploration.episode.true_labels[row[row >= 0]] for row in sets]
        assert all(len(set(each)) == 1 for each in classes)
        sizes |= {len(each) for each in classes}
        exploration.advance(int(np.flatnonzero(exploration.state.candidate_mask)[0]))
    assert exploration.state.step == exploration.episode.num_steps(config)
    assert set(exploration.state.known_classes) == {0, 1, 2, 3}
    assert sizes & {1, 2, 3}


def test_all_images_of_a_class_are_taken_where_no_number_is_given():
    train, test = make_data(np.uint8, counts=(118, 107, 8, 9), shape=(2, 2, 1))
    episode = draw_episode(SMALL.replace(pool_per_class=None), train, test, 0)
    np.testing.assert_array_equal(np.bincount(episode.true_labels), [118, 107, 8, 9])


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


@pytest.mark.parametrize("counts", [(25, 25, 20, 0), (1, 0, 0, 1)])
def test_too_few_classes_are_counted_in_words(counts):
    data = make_data(np.uint8, counts=counts, shape=(2, 2, 1))
    have = sum(count > 0 for count in counts)
    message = (
        rf"known_classes \+ novel_classes: expected at most {have}, the classes with a training "
        r"and a test image, got 4"
    )
    with pytest.raises(ValueError, match=message):
        draw_episode(SMALL, *data, root=0)


def test_classes_of_one_name_are_told_apart():
    """Such as the two cranes of ImageNet, a bird and a machine."""
    train, test = make_data(np.uint8, counts=(25, 25, 25, 25), shape=(8, 8, 1))
    names = ("crane", "dog", "crane", "cat")
    data = [ImageData(part.images, part.labels, names) for part in (train, test)]
    exploration = Exploration(SMALL.replace(pretrain_iterations=0), tuple(data))
    assert exploration.reset(0).step == 0
    assert exploration.class_names == ("crane", "dog", "crane (2)", "cat")


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (("a", "a (2)", "a"), ("a", "a (2)", "a (2) (2)")),
        (("a", "a", "a (1)"), ("a", "a (1)", "a (1) (2)")),
        (("", " ", ""), (" (0)", "  (1)", " (2)")),
    ],
)
def test_there_is_a_name_for_each_class(names, told):
    assert distinct(names) == told


@pytest.mark.filterwarnings("ignore:data")
def test_a_model_knows_classes_with_images_only():
    data = make_data(np.uint8, counts=(25, 25, 0, 22, 3), shape=(8, 8, 1))
    layers = [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    model = keras.Sequential(layers)
    with pytest.raises(ValueError, match=r"model_classes: expected classes with .*\[0, 1, 3, 4\]"):
        Exploration(SMALL, data, model=model, model_classes=[0, 2])
    exploration = Exploration(SMALL, data, model=model, model_classes=[0, 4])
    exploration.reset(0)
    assert exploration.state.known_classes == (0, 4)
