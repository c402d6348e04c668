"""Data sets that tensorflow-datasets has prepared, by name or from their builders."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from emoc_tf.data import from_tfds, load
from tests.data.pictures import page_scripts, write
from tests.data.test_sources import dataset

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "val"), ("full",), ("train",)])
def test_tfds_own_folders(tmp_path, splits):
    for split in splits:
        for seed in range(10):
            write(tmp_path / split / "ab"[seed % 2] / f"{seed}.png", seed, (6 + seed, 6))
    for options, shape in (({}, (96, 96, 3)), ({"image_size": (4, 5)}, (4, 5, 3))):
        train, test = from_tfds(tfds.ImageFolder(str(tmp_path)), **options)
        assert train.images.shape[1:] == test.images.shape[1:] == shape
        assert train.class_names == ("a", "b")
        counts = (10, 10) if len(splits) == 2 else (8, 2)
        assert (len(train.labels), len(test.labels)) == counts


def make_builder(folder, splits, shape=(None, None, 3), label=("label", None)):
    label, kind = label[0], label[1] or tfds.features.ClassLabel(names=["a", "b"])
    features = {"image": tfds.features.Image(shape=shape), label: kind}
    sides = [4 + i if shape[0] is None else shape[0] for i in range(12)]
    images = [np.full((side, 6, shape[2]), i, np.uint8) for i, side in enumerate(sides)]
    spec = {"image": tf.TensorSpec(shape, tf.uint8), label: tf.TensorSpec((), tf.int64)}
    data = tf.data.Dataset.from_generator(
        lambda: ({"image": image, label: i % 2} for i, image in enumerate(images)),
        output_signature=spec,
    )
    return tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny", version="1.2.0", config="small", data_dir=folder,
        split_datasets=dict.fromkeys(splits, data),
        features=tfds.features.FeaturesDict(features), disable_shuffling=True,
    )  # fmt: skip


NAMES_OF_ONE = ["tiny", "tiny/small", "tiny/small:1.2.0", "tiny/small/1.2.0", "tiny:1.2.0"]


@pytest.mark.parametrize("shape", [(None, None, 3), (4, 6, 1)])
@pytest.mark.parametrize("splits", [("train", "validation"), ("full",)])
def test_prepared_data_by_name(tmp_path, shape, splits):
    make_builder(tmp_path, splits, shape)
    for name in NAMES_OF_ONE[:4]:
        train, test = load(name, str(tmp_path))
        assert train.images.shape[1:] == ((96, 96, 3) if shape[0] is None else shape)
        assert (len(train.labels), len(test.labels)) == ((12, 12) if len(splits) == 2 else (10, 2))
    small, _ = load(f"{NAMES_OF_ONE[1]}?image_size=8", str(tmp_path))
    assert small.images.shape[1:] == (8, 8, shape[2])


@pytest.mark.parametrize("name", ["tiny:9.9.9", "tiny/9.9.9", "tiny/other", "tiny/small/9.9.9"])
def test_versions_that_are_not_there(tmp_path, name):
    make_builder(tmp_path, ("train", "test"))
    with pytest.raises(ValueError, match=f"dataset: expected 'digits' or .*got '{name}'"):
        load(name, str(tmp_path))


@pytest.mark.parametrize("splits", [("part1", "part2"), ("test", "extra")])
def test_splits_without_a_training_part(tmp_path, splits):
    builder = make_builder(tmp_path, splits)
    with pytest.raises(ValueError, match=re.escape("expected a split 'train', or a single one")):
        from_tfds(builder)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (("kind", None), r"features 'image' and 'label', got 'tiny' with \['image', 'kind'\]"),
        (
            ("label", tfds.features.Scalar(tf.int64)),
            "expected 'label' to be a ClassLabel, got Scal",
        ),
    ],
)
def test_builders_without_classes(tmp_path, label, message):
    with pytest.raises(ValueError, match=message):
        from_tfds(make_builder(tmp_path, ("train",), label=label))


def test_builders_that_are_none(tmp_path):
    for builder in ("cifar10", dataset(), None):
        with pytest.raises(ValueError, match="builder: expected a builder of tensorflow-datasets"):
            from_tfds(builder)
    with pytest.raises(FileNotFoundError, match=r"not prepared.*download_and_prepare"):
        from_tfds(tfds.builder("mnist", data_dir=tmp_path))


def test_the_script_of_the_page(tmp_path):
    builder = make_builder(tmp_path, ("train", "test"))
    exec(page_scripts()[1], names := {"builder": builder, "dataset": dataset()})
    assert names["test"].class_names == ("a", "b")
    assert names["train"].class_names == ("0", "1", "2")
