"""What a task takes, and what it refuses."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData, Task
from emoc_tf.exploration import Exploration


def images(count=4, dtype=np.uint8, shape=(2, 3, 1), seed=0):
    values = np.random.default_rng(seed).integers(0, 255, (count, *shape))
    return values.astype(dtype) if dtype == np.uint8 else (values / 255).astype(dtype)


class Listed:
    """An array-like of your own."""

    def __init__(self, array):
        self._array, self.shape, self.dtype = array, array.shape, array.dtype

    def __len__(self):
        return len(self._array)

    def __getitem__(self, indices):
        return self._array[np.asarray(indices)]


class Foreign(Listed):
    """As tensors of other libraries, whose types are not NumPy's."""

    def __init__(self, array):
        super().__init__(array)
        self.dtype = object()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
def test_arrays_and_lists_are_taken(dtype):
    array = images(dtype=dtype)
    assert Task(array).images.dtype == dtype
    if dtype == np.float64:
        np.testing.assert_array_equal(Task(array.tolist()).images, array)


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_memory_maps_are_taken_as_they_are(tmp_path, mode):
    np.save(tmp_path / "images.npy", images())
    mapped = np.load(tmp_path / "images.npy", mmap_mode=mode)
    task = Task(mapped, [0, -1, -1, 0], ["a"])
    assert np.shares_memory(task.images, mapped)
    with pytest.raises(ValueError, match="read-only"):
        task.images[0] = 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_array_likes_of_your_own_are_taken(dtype):
    listed = Listed(images(dtype=dtype))
    task = Task(listed, None, ())
    assert task.images is listed
    assert task.digest() == Task(images(dtype=dtype)).digest()
    assert task.image_ids() is None


def test_nothing_can_be_written_through_a_task_nor_into_it():
    array, labels = images(), np.array([0, 1, -1, -2])
    task = Task(array, labels, ["a", "b"])
    labels[0] = 1
    assert task.labels.tolist() == [0, 1, -1, -2]
    for values in (task.images, task.labels):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 0
    assert array.flags.writeable


class NAType:
    def __bool__(self):
        raise TypeError


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (None, [-1] * 4),
        ([0, 1, 1, 0], [0, 1, 1, 0]),
        (np.array([1, 0, 1, 1], np.uint8), [1, 0, 1, 1]),
        ([0, -1, -2, 1], [0, -1, -2, 1]),
        ([0, np.nan, 1, np.nan], [0, -1, 1, -1]),
        (np.full(4, np.nan), [-1] * 4),
        ([None, 1, None, 0], [-1, 1, -1, 0]),
        ([None] * 4, [-1] * 4),
        (np.array([NAType(), 1, float("nan"), 0], object), [-1, 1, -1, 0]),
        (np.ma.masked_array([0, 1, 1, 0], [0, 1, 0, 0]), [0, -1, 1, 0]),
        (np.ma.masked_array([0, 77, 1, 88], [0, 1, 0, 1]), [0, -1, 1, -1]),
        (np.ma.masked_array([0.0, 1, 1, 0], True), [-1] * 4),
    ],
)
def test_labels_that_are_missing_are_unknown(labels, expected):
    task = Task(images(), labels, ["a", "b"])
    assert task.labels.dtype == np.int64
    assert task.labels.tolist() == expected
    assert task.start_classes == tuple(sorted({c for c in expected if c >= 0}))


@pytest.mark.parametrize("names", [["a", "b"], ("a", "b"), np.array(["a", "b"]), iter(["a", "b"])])
def test_class_names_are_any_sequence(names):
    assert Task(images(), None, names).class_names == ("a", "b")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": images()[0]}, r"images: expected \(n, H, W, channels\).*\(2, 3, 1\)"),
        ({"images": images(0)}, r"at least one image, got shape \(0, 2, 3, 1\)"),
        ({"images": None}, r"images: expected .*got shape \(\)"),
        ({"images": "folder"}, r"images: expected .*got shape \(\)"),
        ({"images": [images(1)[0], images(1, shape=(4, 4, 1))[0]]}, r"images: expected"),
        ({"images": images().astype(np.int64)}, r"dtype uint8 or floating, got int64"),
        ({"images": images().astype(np.uint16)}, r"dtype uint8 or floating, got uint16"),
        ({"images": images() > 9}, r"got bool"),
        ({"images": Foreign(images())}, r"expected a NumPy dtype, .*np.asarray\(images\)"),
        ({"images": np.full((3, 2, 2, 1), np.nan)}, r"got NaN or infinity in image 0"),
        (
            {"images": np.concatenate([images(5, np.float32), np.full((1, 2, 3, 1), np.inf)])},
            r"in image 5",
        ),
        ({"images": Listed(np.full((2, 2, 2, 1), -np.inf, np.float16))}, r"in image 0"),
        ({"labels": [0, 1, 1]}, r"labels: expected shape \(4,\), one an image, got \(3,\)"),
        ({"labels": [[0, 1, 1, 0]]}, r"got \(1, 4\)"),
        ({"labels": 0}, r"got \(\)"),
        ({"labels": [0, 1, 2, 0]}, r"class ids in \[0, 2\).*\[0, 2\]"),
        ({"labels": [0, 1, -3, 0]}, r"values in \[-3, 1\]"),
        ({"labels": [0.5, 1, 1, 0]}, r"integer class ids, -1 where unknown, got dtype float64"),
        ({"labels": [np.inf, 1, 1, 0]}, r"integer class ids, -1 where unknown, got dtype float64"),
        ({"labels": [True, False, True, True]}, r"got dtype bool"),
        ({"labels": [True, None, True, True]}, r"got dtype object"),
        ({"labels": ["a", True, "b", None]}, r"got True of type bool beside names"),
        ({"labels": ["a", 1, "b", None], "class_names": ()}, r"got 1 of type int beside names"),
        ({"class_names": "ab"}, r"class_names: expected a sequence of names, got 'ab'"),
        ({"class_names": None}, r"class_names: expected a sequence"),
        ({"class_names": ["a", ""]}, r"class_names: expected a sequence"),
        ({"class_names": ["a", 1]}, r"class_names: expected a sequence"),
        ({"class_names": ["a", "b", "a"]}, r"expected different names"),
        ({"test": images()}, r"test: expected an ImageData or None, got ndarray"),
        (
            {"test": ImageData(images(2, shape=(4, 4, 1)), np.array([0, 1]), ("a", "b"))},
            r"test: expected images of shape \(2, 3, 1\) as the task's, got \(4, 4, 1\)",
        ),
        (
            {"test": ImageData(images(2, np.float32), np.array([0, 1]), ("a", "b"))},
            r"both uint8 or both floating, got uint8 in the task",
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_the_rest_is_refused(given, message):
    arguments = {"images": images(), "labels": [0, 1, -1, -1], "class_names": ["a", "b"], **given}
    if "images" in given:
        arguments["labels"] = None
    with pytest.raises(ValueError, match=message):
        Task(**arguments)


def config(**changes):
    return ExplorationConfig(
        set_size=2, num_candidate_sets=3, pretrain_iterations=2, update_iterations=2, batch_size=4,
        **changes,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("own", [False, True])
def test_the_order_of_the_task_is_the_order_of_the_pool(dtype, own):
    array = images(9, dtype, (8, 8, 1))
    before, labels = array.copy(), [-1, 1, -1, 0, -2, 1, -1, -1, -1]
    task = Task(Listed(array) if own else array, labels, ("a", "b", "c"))
    exploration = Exploration(config(), task=task)
    exploration.reset(0)
    state = exploration.state
    assert state.known_classes == (0, 1)
    assert state.pool.labels.tolist() == labels
    shown = np.asarray(state.pool.images[np.arange(9)])
    scale = 1 if dtype == np.uint8 else 255
    mean = (array[[1, 3, 5]].astype(np.float64) * scale).mean(axis=0)
    np.testing.assert_allclose(shown, array * np.float64(scale) - mean, atol=1e-3)
    query = exploration.ask(int(np.flatnonzero(state.candidate_mask)[0]))
    np.testing.assert_array_equal(query.images, array[query.indices])
    exploration.answer(query, ["c", "a"])
    assert exploration.state.known_classes == (0, 1, 2)
    assert exploration.labels[query.indices].tolist() == [2, 0]
    np.testing.assert_array_equal(array, before)
    assert task.labels.tolist() == labels


def test_test_data_are_matched_in_any_unicode_form():
    array = images(4, shape=(8, 8, 1))
    test = ImageData(array[:2], np.zeros(2, int), ("th\u00e9",))
    task = Task(array, [0, 0, -1, -1], ("the\u0301",), test)
    assert Exploration(config(), task=task).reset(0).test_accuracy == 1


@pytest.mark.parametrize("order", [("b", "a"), ("x", "a", "b"), ("a", "b")])
def test_test_data_are_matched_by_name(order):
    array = images(8, shape=(8, 8, 1))
    test_labels = np.arange(len(order))
    test = ImageData(array[: len(order)], test_labels, order)
    task = Task(array, [0, 1, -1, -1, -1, -1, -1, -1], ("a", "b"), test)
    exploration = Exploration(config(), task=task)
    outcome = exploration.reset(0)
    logits = exploration.state.model(exploration.episode.test_images).numpy()
    predicted = [("a", "b")[i] for i in logits.argmax(axis=1)]
    right = [name == order[label] for name, label in zip(predicted, test_labels, strict=True)]
    assert outcome.test_accuracy == pytest.approx(np.mean(right))
    assert outcome.answer_accuracy is None
    before = exploration.state.known_classes
    exploration.answer(exploration.ask(0), ["x", None])
    exploration.rename(before[0], "y")
    assert exploration.class_names[:2] == ("y", "b")


@pytest.mark.parametrize("task", ["folder", 7, (images(), None)])
def test_what_is_no_task_is_refused(task):
    with pytest.raises(ValueError, match=r"task: expected an emoc_tf.Task, got"):
        Exploration(config(), task=task)


def test_a_task_has_no_other_data_beside_it():
    data = ImageData(images(2), np.array([0, 1]), ("a", "b"))
    with pytest.raises(ValueError, match="data: expected None beside a task"):
        Exploration(config(), (data, data), task=Task(images()))


@pytest.mark.parametrize(
    ("labels", "names", "expected", "all_names"),
    [
        (["dog", None, "cat", "dog"], (), [1, -1, 0, 1], ("cat", "dog")),
        (np.array(["dog", "", "cat", ""]), ["dog"], [0, -1, 1, -1], ("dog", "cat")),
        (["dog", " ", "cat", -1], (), [1, -1, 0, -1], ("cat", "dog")),
        (["the\u0301", "th\u00e9", "a", "a"], ["th\u00e9"], [0, 0, 1, 1], ("th\u00e9", "a")),
        (["th\u00e9", "the\u0301", "a", None], (), [1, 1, 0, -1], ("a", "the\u0301")),
        (["b", float("nan"), "a", -2], ("a", "b", "c"), [1, -1, 0, -2], ("a", "b", "c")),
    ],
)
def test_labels_may_be_names(labels, names, expected, all_names):
    task = Task(images(), labels, names)
    assert task.labels.tolist() == expected
    assert task.class_names == all_names


def test_a_folder_brings_its_own_labels():
    class Folder:
        shape, dtype = (4, 2, 2, 1), np.dtype(np.uint8)
        labels, class_names = np.array([0, -1, 1, -1]), ("hen", "owl")

        def __len__(self):
            return 4

        def __getitem__(self, index):
            return np.zeros((len(index), 2, 2, 1), np.uint8)

    assert Task(Folder()).labels.tolist() == [0, -1, 1, -1]
    assert Task(Folder()).class_names == ("hen", "owl")
    assert Task(Folder(), [1, 1, 1, 1], ["a", "b"]).class_names == ("a", "b")
