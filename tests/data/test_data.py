import pickle

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData, load
from emoc_tf.exploration import Exploration
from tests import processes


def test_digits_are_embedded_and_brought_to_pixels():
    train, test = load("digits")
    assert train.images.shape == (len(train.labels), 8, 8, 1)
    assert train.images.dtype == np.uint8
    assert (train.images.min(), train.images.max()) == (0, 255)
    assert len(train.labels) + len(test.labels) == 1797
    assert np.bincount(train.labels).min() >= 116
    assert np.bincount(test.labels).min() >= 58
    seen = {image.tobytes() for image in train.images}
    assert not any(image.tobytes() in seen for image in test.images)


def test_cifar100_is_complete(cifar_dir):
    train, test = load("cifar100", cifar_dir)
    assert train.images.shape == (50000, 32, 32, 3)
    assert test.images.shape == (10000, 32, 32, 3)
    assert (np.bincount(train.labels) == 500).all()
    assert (np.bincount(test.labels) == 100).all()
    assert train.class_names[:3] == ("apple", "aquarium_fish", "baby")


def test_the_environment_variable_is_followed(cifar_dir, monkeypatch):
    """As tensorflow-datasets reads it: once, when it is imported."""
    code = "import emoc_tf; print(len(emoc_tf.load('cifar100')[0].labels))"
    variables = {"TFDS_DATA_DIR": cifar_dir, "HOME": "/nonexistent", "PATH": ""}
    result = processes.run("-c", code, env=variables)
    assert result.stdout.strip() == "50000", result.stderr


def test_missing_data_say_which_where_and_how(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        load("cifar10", str(tmp_path))
    for part in ("'cifar10'", str(tmp_path), "tfds build cifar10", "--data_dir", "TFDS_DATA_DIR"):
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["no_such_set", "foo bar", "", "cifar10:9.9.9", "cifar10/x"])
def test_unknown_data_set(name, tmp_path):
    with pytest.raises(ValueError, match=f"dataset: expected 'digits' or .*got '{name}'"):
        load(name, str(tmp_path))


def test_arrays_are_read_only():
    train, _ = load("digits")
    with pytest.raises(ValueError, match="read-only"):
        train.images[0] = 0


def made(count=100, dtype=np.uint8):
    rng = np.random.default_rng(0)
    images = rng.integers(1, 250, (count, 4, 4, 1)).astype(dtype)
    return images, np.arange(count) % 4


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_are_a_view_and_labels_a_copy(dtype):
    images, labels = made(dtype=dtype)
    data = ImageData(images, labels, tuple("abcd"))
    assert np.shares_memory(data.images, images)
    labels[:] = 3
    np.testing.assert_array_equal(data.labels, np.arange(100) % 4)
    images[7] = 0  # still the caller's own
    data.check_unchanged()


WRITES = {
    "scaled": lambda images: np.multiply(images, 0.5, out=images, casting="unsafe"),
    "shifted": lambda images: np.add(images, 1, out=images, casting="unsafe"),
    "shuffled": lambda images: np.random.default_rng(1).shuffle(images),
    "used as a buffer": lambda images: images.fill(0),
    "turned": lambda images: np.copyto(images, images[::-1].copy()),
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("count", [20, 1000])
def test_images_that_were_written_over_are_noticed(write, dtype, count):
    images, labels = made(count, dtype)
    data = ImageData(images, labels, ("a", "b", "c", "d"))
    data.check_unchanged()
    pickle.loads(pickle.dumps(data)).check_unchanged()
    WRITES[write](images)
    with pytest.raises(ValueError, match=r"images: expected those that ImageData was made of.*cop"):
        data.check_unchanged()


def test_no_episode_begins_with_images_that_were_written_over():
    images, labels = made()
    data = (ImageData(images, labels, tuple("abcd")), ImageData(*made(40), tuple("abcd")))
    config = ExplorationConfig(
        known_classes=2, novel_classes=1, initial_per_class=2, pool_per_class=3, set_size=2,
        num_candidate_sets=2, pretrain_iterations=0, update_iterations=1,
    )  # fmt: skip
    exploration = Exploration(config, data)
    exploration.reset(0)
    before = exploration.state.pool.images.copy()
    images //= 2
    assert exploration.advance(0).step == 1  # an episode has images of its own
    np.testing.assert_array_equal(exploration.state.pool.images, before)
    with pytest.raises(ValueError, match="images: expected those that ImageData was made of"):
        exploration.reset(1)


IMAGES = np.zeros((3, 4, 4, 1), np.uint8)
NAN = np.zeros((3, 4, 4, 1))
NAN[1, 2, 2] = np.nan


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (
            IMAGES[..., 0],
            [0, 1, 0],
            r"images: expected .* \(n, H, W, channels\), got .*\(3, 4, 4\)",
        ),
        (IMAGES[:0], [], "images: expected a non-empty"),
        (IMAGES.astype(int), [0, 1, 0], "images: expected dtype uint8 or floating, got int64"),
        (NAN, [0, 1, 0], "images: expected finite pixels, got NaN or infinity in image 1"),
        (IMAGES, [0, 1], r"labels: expected shape \(3,\), one an image, got \(2,\)"),
        (IMAGES, [0.0, 1.0, 0.0], "labels: expected integer class ids, got dtype float64"),
        (IMAGES, [0, 1, 2], r"labels: expected class ids in \[0, 2\).*got values in \[0, 2\]"),
        (IMAGES, [0, 1, -1], r"labels: expected class ids in \[0, 2\).*got values in \[-1, 1\]"),
        (IMAGES, [0, 1, -1], r"emoc_tf\.Task takes images without a label"),
        (IMAGES.astype(bool), [0, 1, 0], r"got bool; .*astype\(np.uint8\).*floats"),
    ],
)
def test_bad_arrays_get_one_sentence(images, labels, message):
    with pytest.raises(ValueError, match=message):
        ImageData(images, np.array(labels), ("a", "b"))


@pytest.mark.parametrize("names", ["ab", 2, [1, 2]])
def test_class_names_are_names(names):
    with pytest.raises(ValueError, match="class_names: expected a sequence of names, got"):
        ImageData(IMAGES, np.array([0, 1, 0]), names)


def test_images_of_several_sizes():
    with pytest.raises(ValueError, match="images: expected images of one shape, got several"):
        ImageData([np.zeros((4, 4, 1)), np.zeros((5, 4, 1))], np.array([0, 1]), ("a", "b"))
