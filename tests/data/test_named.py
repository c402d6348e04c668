import pathlib
import shutil

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, load
from emoc_tf.data import ImageFolder
from emoc_tf.exploration import Exploration
from tests.data.pictures import write


def fill(root, counts, first=0, size=(8, 8)):
    """Writes so many images of each class."""
    seed = first
    for name, count in counts.items():
        for i in range(count):
            write(root / name / f"{i:02}.png", seed := seed + 1, size)
    return root


def told(recwarn):
    return " ".join(str(warning.message) for warning in recwarn.list)


def as_counts(data):
    return dict(zip(data.class_names, np.bincount(data.labels), strict=False))


def test_every_fifth_image_of_each_class_is_tested_on(tmp_path, recwarn):
    fill(tmp_path, {"dog": 11, "cat": 5, "unlabelled": 3})
    train, test = load(f"folder:{tmp_path}?image_size=8")
    assert train.class_names == test.class_names == ("cat", "dog")
    assert as_counts(train) == {"cat": 4, "dog": 9}
    assert as_counts(test) == {"cat": 1, "dog": 2}
    assert "3 images without a label are not used" in told(recwarn)
    images = ImageFolder(tmp_path, 8)
    places = [images.paths.index(path) for path in ("cat/04.png", "dog/04.png", "dog/09.png")]
    np.testing.assert_array_equal(test.images, images[places])
    assert not {image.tobytes() for image in train.images} & {i.tobytes() for i in test.images}


@pytest.mark.parametrize("train", ["train", "Training"])
@pytest.mark.parametrize("test", ["test", "val", "validation", "Valid"])
def test_parts_by_name(tmp_path, train, test):
    fill(tmp_path / train, {"b": 4, "a": 3})
    fill(tmp_path / test, {"a": 2, "b": 1, "c": 1}, first=50)
    parts = load(f"folder:{tmp_path}?image_size=8")
    assert parts[0].class_names == parts[1].class_names == ("a", "b", "c")
    assert [np.bincount(part.labels).tolist() for part in parts] == [[3, 4], [2, 1, 1]]


def test_what_is_in_both_parts_is_not_tested_on(tmp_path, recwarn):
    fill(tmp_path / "train", {"a": 3, "b": 3})
    fill(tmp_path / "test", {"a": 3, "b": 3}, first=50)
    shutil.copy(tmp_path / "train/a/00.png", tmp_path / "test/b/copy.png")
    fill(tmp_path / "val", {"a": 1}, first=90)
    _, test = load(f"folder:{tmp_path}")
    assert as_counts(test) == {"a": 3, "b": 3}
    assert "1 test images are training images too" in told(recwarn)
    assert "not used: val" in told(recwarn)


@pytest.mark.parametrize("layout", ["alone", "among classes"])
def test_a_folder_called_train(tmp_path, layout):
    if layout == "alone":
        fill(tmp_path / "train", {"a": 5, "b": 5})
        names = ("a", "b")
    else:
        fill(tmp_path, {"train": 5, "bus": 5})
        names = ("bus", "train")
    train, test = load(f"folder:{tmp_path}")
    assert train.class_names == names
    assert (len(train.labels), len(test.labels)) == (8, 2)


@pytest.mark.parametrize(
    ("options", "size", "fit"),
    [
        ("", (96, 96), "letterbox"),
        ("?image_size=64", (64, 64), "letterbox"),
        ("?image_size=20x30&fit=crop", (20, 30), "crop"),
        ("?fit=crop", (96, 96), "crop"),
    ],
)
def test_sizes_and_fits(tmp_path, options, size, fit):
    fill(tmp_path, {"a": 5}, size=(10, 14))
    fill(tmp_path, {"b": 5}, first=50, size=(7, 5))
    train, test = load(f"folder:{tmp_path}{options}")
    assert train.images.shape[1:] == test.images.shape[1:] == (*size, 3)
    expected = ImageFolder(tmp_path, size, fit)
    np.testing.assert_array_equal(train.images[0], expected[0])


@pytest.mark.parametrize(
    "options", ["?image_size=0", "?size=3", "?image_size=3x", "?fit=stretch", "?image_size=64&a=b"]
)
def test_options_that_are_none(tmp_path, options):
    fill(tmp_path, {"a": 5})
    with pytest.raises(ValueError, match=r"dataset: expected image_size=64 or .*got 'folder:"):
        load(f"folder:{tmp_path}{options}")


@pytest.mark.parametrize("name", ["a?b", "what?x=y", "ä b", "100%"])
def test_odd_paths(tmp_path, name, monkeypatch):
    fill(tmp_path / name, {"a": 5, "b": 5})
    assert load(f"folder:{tmp_path / name}")[0].class_names == ("a", "b")
    monkeypatch.chdir(tmp_path)
    assert load(f"folder:{name}")[0].class_names == ("a", "b")


def test_lists_are_folders_too(tmp_path):
    fill(tmp_path, {"x": 10})
    rows = [f"x/{i:02}.png,{'ab'[i % 2]}" for i in range(10)]
    (tmp_path / "list.csv").write_text("\n".join(["path,label", *rows]))
    train, test = load(f"folder:{tmp_path / 'list.csv'}")
    assert as_counts(train) == {"a": 4, "b": 4}
    assert as_counts(test) == {"a": 1, "b": 1}


@pytest.mark.filterwarnings("ignore:.*no test image")
def test_a_folder_is_read_again_when_it_changed(tmp_path, monkeypatch):
    fill(tmp_path, {"a": 5, "b": 5})
    name = f"folder:{tmp_path}?image_size=8"
    train, _ = load(name)
    assert load(name)[0] is train
    write(tmp_path / "b" / "00.png", 99)
    assert not np.array_equal(load(name)[0].images, train.images)
    (tmp_path / "b" / "01.png").rename(tmp_path / "a" / "99.png")
    assert as_counts(load(name)[0]) == {"a": 5, "b": 4}


def test_small_classes_are_told(tmp_path, recwarn):
    fill(tmp_path, {"large": 5, "small": 4})
    load(f"folder:{tmp_path}")
    assert "fewer than 5 images have no test image: small" in told(recwarn)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"unlabelled": 5}, "expected labelled images to train on and to test on, got 0 and 0"),
        ({"a": 3}, "got 3 and 0"),
        ({}, "expected at least one usable image"),
        (None, "not there"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path, counts, message):
    path = tmp_path / "images"
    if counts is not None:
        path.mkdir()
        fill(path, counts)
    with pytest.raises(ValueError, match=message) as error:
        load(f"folder:{path}")
    assert str(error.value).startswith(f"dataset 'folder:{path}': ")


@pytest.mark.parametrize("name", ["folder:", "folder: "])
def test_no_path(name):
    with pytest.raises(ValueError, match="expected a path behind 'folder:'"):
        load(name)


def test_an_episode_of_a_folder(tmp_path):
    fill(tmp_path, dict.fromkeys("abcd", 10))
    config = ExplorationConfig(
        dataset=f"folder:{tmp_path}?image_size=8", known_classes=2, novel_classes=2,
        initial_per_class=3, pool_per_class=5, num_candidate_sets=3, set_size=2,
        pretrain_iterations=2, update_iterations=1, network="small_cnn", max_steps=1,
    )  # fmt: skip
    exploration = Exploration(config)
    exploration.reset(0)
    assert exploration.advance(0).step == 1


@pytest.mark.parametrize("thing", [None, 3, b"digits", pathlib.Path("photos"), object()])
def test_what_is_no_name(thing):
    with pytest.raises(ValueError, match=r"dataset: expected a name, got .*from_tfds"):
        load(thing)


def test_files_that_are_left_out_are_told(tmp_path, recwarn):
    fill(tmp_path, {"a": 5, "b": 5})
    (tmp_path / "b" / "x.png").write_bytes(b"no image")
    load(f"folder:{tmp_path}")
    assert "1 file is left out, such as 'b/x.png': not a JPEG" in told(recwarn)


def test_nothing_is_told_without_need(tmp_path, recwarn):
    fill(tmp_path, {"a": 5, "b": 5})
    load(f"folder:{tmp_path}")
    assert not recwarn.list
