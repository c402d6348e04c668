import numpy as np
import pytest

from emoc_tf import ImageData, load


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
    import subprocess
    import sys

    code = "import emoc_tf; print(len(emoc_tf.load('cifar100')[0].labels))"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={"TFDS_DATA_DIR": cifar_dir, "HOME": "/nonexistent", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
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
