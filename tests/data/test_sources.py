import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf import Task
from emoc_tf.data import from_dataset
from tests.data.pictures import write

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 6, 5, 3), dtype=np.uint8)
IMAGES[0, 0, 0] = 255
LABELS = np.array([0, 1, 2, 1, 0, 2, 1])
NAMES = ("a", "b", "c")


def dataset(images=IMAGES, labels=LABELS):
    return tf.data.Dataset.from_tensor_slices(images if labels is None else (images, labels))


BATCHES = {
    "single": lambda data: data,
    "batches": lambda data: data.batch(3),
    "whole batches": lambda data: data.batch(7, drop_remainder=True),
    "one": lambda data: data.batch(1),
    "prefetched": lambda data: data.batch(4).cache().prefetch(1),
}


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_and_labels(batches, channels):
    given = np.repeat(IMAGES[..., :1], channels, -1)
    images, labels, names = from_dataset(BATCHES[batches](dataset(given)), NAMES)
    np.testing.assert_array_equal(images, given)
    np.testing.assert_array_equal(labels, LABELS)
    assert (images.dtype, labels.dtype, names) == (np.uint8, np.int64, NAMES)


def test_names_that_are_empty_or_in_another_form():
    given = np.array(["the\u0301", "", " ", "th\u00e9", "a", "b", "a"])
    _, labels, names = from_dataset(dataset(labels=given).batch(3))
    assert labels.tolist() == [2, -1, -1, 2, 0, 1, 0] and names == ("a", "b", "the\u0301")
    _, labels, names = from_dataset(dataset(labels=given).batch(3), ["b", "th\u00e9", "a"])
    assert labels.tolist() == [1, -1, -1, 1, 2, 0, 2] and names == ("b", "th\u00e9", "a")
    assert Task(IMAGES, labels, names).labels.tolist() == labels.tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([b"\xff", *6 * [b"a"]], r"names in UTF-8 as labels, got b'\\xff'"),
        ([2**40, *6 * [0]], "class ids that count classes, got 1099511627776"),
    ],
)
def test_labels_that_are_none_are_told(given, message):
    with pytest.raises(ValueError, match=message):
        from_dataset(dataset(labels=np.array(given)))


FORMS = {
    "int32": (LABELS.astype(np.int32), ("0", "1", "2")),
    "uint8": (LABELS.astype(np.uint8), ("0", "1", "2")),
    "a column": (LABELS[:, None], ("0", "1", "2")),
    "floats": (LABELS.astype(np.float32), ("0", "1", "2")),
    "one-hot": (np.eye(4, dtype=np.float32)[LABELS], ("0", "1", "2", "3")),
    "one-hot of integers": (np.eye(3, dtype=np.int64)[LABELS], ("0", "1", "2")),
    "names": (np.array(["x", "y", "z"])[LABELS], ("x", "y", "z")),
}


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("form", FORMS)
def test_labels_in_the_usual_forms(form, batches):
    given, expected = FORMS[form]
    _, labels, names = from_dataset(BATCHES[batches](dataset(labels=given)))
    np.testing.assert_array_equal(labels, LABELS)
    assert names == expected


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("dtype", [np.float32, np.int32, bool])
def test_binary_labels(batches, dtype):
    given = (LABELS % 2).astype(dtype)[:, None]
    _, labels, names = from_dataset(BATCHES[batches](dataset(labels=given)), ["no", "yes"])
    np.testing.assert_array_equal(labels, LABELS % 2)
    assert names == ("no", "yes")


@pytest.mark.parametrize("batches", BATCHES)
def test_images_without_labels(batches):
    for data in (dataset(labels=None), dataset(labels=None).map(lambda image: (image,))):
        images, labels, names = from_dataset(BATCHES[batches](data))
        np.testing.assert_array_equal(images, IMAGES)
        assert labels.tolist() == [-1] * 7
        assert names == ()


def test_labels_that_are_unknown_in_part():
    given = np.where(LABELS == 2, -1, LABELS)
    _, labels, names = from_dataset(dataset(labels=given))
    np.testing.assert_array_equal(labels, given)
    assert names == ("0", "1")


def test_dictionaries():
    data = tf.data.Dataset.from_tensor_slices({"image": IMAGES, "label": LABELS, "id": LABELS})
    np.testing.assert_array_equal(from_dataset(data.batch(2))[1], LABELS)


@pytest.mark.parametrize("dtype", [tf.float32, tf.float64, tf.float16, tf.bfloat16, tf.int32])
@pytest.mark.parametrize("batch", [2, 7])
def test_whole_pixels_become_uint8(dtype, batch):
    data = dataset().map(lambda image, label: (tf.cast(image, dtype), label))
    images, _, _ = from_dataset(data.batch(batch))
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, IMAGES)


FLOATS = {
    "in [0, 1]": IMAGES / 255,
    "in [-1, 1]": IMAGES / 127.5 - 1,
    "resized": IMAGES * 0.9,
    "one of them not whole": IMAGES + (np.arange(7) == 5)[:, None, None, None] * 0.5 * (IMAGES < 9),
    "black and white": np.float32(IMAGES > 99),
    "beyond 255": IMAGES * 2.0,
    "whole below 0": IMAGES - 100.0,
}


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("kind", FLOATS)
def test_other_floats_stay(kind, batch):
    given = FLOATS[kind].astype(np.float32)
    images, _, _ = from_dataset(dataset(given).batch(batch))
    assert images.dtype == np.float32
    np.testing.assert_array_equal(images, given)


def several_sizes(channels=3):
    for i in range(6):
        yield np.full((4 + i, 9 - i, channels), 40 * i + 10, np.uint8), i % 2


def of_several_sizes():
    spec = (tf.TensorSpec((None, None, 3), tf.uint8), tf.TensorSpec((), tf.int64))
    return tf.data.Dataset.from_generator(several_sizes, output_signature=spec)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize(("size", "shape"), [(8, (8, 8)), ((4, 6), (4, 6))])
def test_sizes_are_brought_together(ragged, size, shape):
    data = of_several_sizes()
    if ragged:
        data = data.ragged_batch(4)
    images, labels, _ = from_dataset(data, image_size=size, fit="crop")
    assert images.shape == (6, *shape, 3)
    assert labels.tolist() == [0, 1] * 3
    np.testing.assert_array_equal(images[:, 0, 0, 0], 40 * np.arange(6) + 10)


@pytest.mark.parametrize("ragged", [False, True])
def test_several_sizes_need_one(ragged):
    data = of_several_sizes().ragged_batch(6) if ragged else of_several_sizes()
    with pytest.raises(ValueError, match=r"dataset: expected images of one shape.*image_size=96"):
        from_dataset(data)


def refused(data, message, **options):
    with pytest.raises(ValueError, match=message):
        from_dataset(data, **options)


def test_data_sets_without_an_end(monkeypatch):
    refused(dataset().repeat(), r"dataset: expected one with an end.*take\(n\)")
    refused(dataset().batch(2).repeat(), "infinite")
    unknown = dataset().filter(lambda image, label: label < 2)
    assert from_dataset(unknown)[1].tolist() == [0, 1, 1, 0, 1]
    monkeypatch.setattr("emoc_tf.data.sources._memory", lambda: 10**5)
    refused(dataset().repeat().filter(lambda image, label: True), "without a known end")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([IMAGES], "expected a tf.data.Dataset, got list.*ImageData"),
        (IMAGES, "expected a tf.data.Dataset, got ndarray"),
        (dataset().take(0), "at least one image, got none"),
        (dataset(IMAGES[..., 0]), r"one to four channels.*\(6, 5\)"),
        (
            dataset(IMAGES[..., 0]).batch(2),
            r"one to four channels.*\(2, 6, 5\).*image\[..., None\]",
        ),
        (dataset(IMAGES.reshape(7, -1)), "one to four channels"),
        (dataset(np.repeat(IMAGES, 2, -1)), "one to four channels"),
        (dataset(IMAGES.astype(np.int32) - 9), r"pixels in 0-255 or floats, got int32 in \[-9"),
        (dataset(IMAGES.astype(np.uint16) * 257), "pixels in 0-255 or floats, got uint16"),
        (dataset(IMAGES > 9), "pixels in 0-255 or floats, got bool"),
        (dataset(np.full((2, 3, 3, 1), np.nan), [0, 1]), "finite pixels"),
        (dataset().map(lambda image, label: (image, label, 1.0)), "got 3 things"),
        (dataset().map(lambda image, label: {"x": image}), r"got \['x'\]"),
        (dataset(labels=LABELS + 0.5), "whole numbers as labels"),
        (dataset(labels=np.full(7, np.nan)), "whole numbers as labels"),
        (dataset(labels=np.ones((7, 3))), "not one-hot"),
        (dataset(labels=np.eye(3)[LABELS] * 0.9), "whole numbers|one-hot"),
        (dataset(labels=np.ones((7, 3))).batch(2), "not one-hot"),
        (dataset(labels=np.zeros((7, 2, 2))), "one label an image"),
        (dataset(labels=LABELS - 2), r"labels in \[-2"),
    ],
)
def test_what_is_refused(data, message):
    refused(data, message)


def test_names_and_labels_have_to_fit():
    refused(
        dataset(),
        "class_names: expected one name a class id, got 2 names",
        class_names=["a", "b"],
    )
    refused(dataset(), "class_names: expected a sequence of names", class_names="abc")
    refused(dataset(labels=np.array(list("abcabca"))), "'c' is not there", class_names=["a", "b"])
    refused(dataset(), "image_size: expected", image_size=-3)


def test_broken_files_in_a_data_set(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    data = tf.data.Dataset.from_tensor_slices([str(tmp_path / "a.png")])
    data = data.map(lambda path: tf.io.decode_png(tf.io.read_file(path)))
    refused(data, "dataset: reading failed after 0 images: ")


@pytest.fixture
def classes(tmp_path):
    for seed in range(8):
        write(tmp_path / "images" / "ab"[seed % 2] / f"{seed}.png", seed, (6, 6))
    return tmp_path / "images"


@pytest.mark.parametrize("label_mode", ["int", "categorical", "binary", None])
@pytest.mark.parametrize("batch_size", [3, None])
def test_keras_own_folders(classes, label_mode, batch_size):
    data = keras.utils.image_dataset_from_directory(
        classes, label_mode=label_mode, image_size=(6, 6), batch_size=batch_size, shuffle=False,
        verbose=False,
    )  # fmt: skip
    images, labels, names = from_dataset(data)
    assert images.dtype == np.uint8
    assert names == (("a", "b") if label_mode else names)
    assert labels.tolist() == ([0] * 4 + [1] * 4 if label_mode else [-1] * 8)
    np.testing.assert_array_equal(images[0], write(classes / "a" / "0.png", 0, (6, 6)))
