"""Data sets by name: the embedded digits, and those of tensorflow-datasets."""

import functools
from typing import Any

import numpy as np

from emoc_tf.data.images import ImageData


@functools.lru_cache(maxsize=2)
def load(dataset: str, data_dir: str | None = None) -> tuple[ImageData, ImageData]:
    """Loads the training and the test part of a data set; nothing is ever downloaded.

    Args:
        dataset: `"digits"` (scikit-learn's, embedded, 8×8 grey, brought to 0–255), or the name of
            a tensorflow-datasets image-classification data set with images of one size, such as
            `"cifar100"`, `"cifar10"` or `"fashion_mnist"`.
        data_dir: The folder given to tensorflow-datasets; None means its default, the
            environment variable `TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Raises:
        ValueError: The data set is unknown or is no classification of images of one size.
        FileNotFoundError: The data set is not in the folder.
    """
    return _load_digits() if dataset == "digits" else _load_tfds(dataset, data_dir)


def _load_digits() -> tuple[ImageData, ImageData]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
    names = tuple(str(name) for name in digits.target_names)
    # Every third image of each class is a test image: a fixed split that needs no seed.
    rank_in_class = np.zeros(len(digits.target), np.int64)
    for label in range(len(names)):
        members = np.flatnonzero(digits.target == label)
        rank_in_class[members] = np.arange(len(members))
    test = rank_in_class % 3 == 2
    return (
        ImageData(images[~test], digits.target[~test], names),
        ImageData(images[test], digits.target[test], names),
    )


def _load_tfds(dataset: str, data_dir: str | None) -> tuple[ImageData, ImageData]:
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(dataset, data_dir=data_dir)
    except (ValueError, AssertionError, tfds.core.DatasetNotFoundError):
        raise ValueError(
            f"dataset: expected 'digits' or the name of a tensorflow-datasets data set, "
            f"got {dataset!r}"
        ) from None
    if not builder.is_prepared():
        raise FileNotFoundError(
            f"dataset {dataset!r} is not prepared: looked in {builder.data_dir}; set --data_dir "
            f"or TFDS_DATA_DIR to the folder that holds it, or download it with "
            f"`tfds build {dataset}" + (f" --data_dir={data_dir}`" if data_dir else "`")
        )
    features, splits = builder.info.features, list(builder.info.splits)
    names = sorted(features) if isinstance(features, tfds.features.FeaturesDict) else []
    if not {"image", "label"} <= set(names):
        raise ValueError(
            f"dataset: expected one with features 'image' and 'label', got {dataset!r} with {names}"
        )
    if None in features["image"].shape:
        raise ValueError(
            f"dataset: expected images of one size, got {dataset!r} with image shape "
            f"{features['image'].shape}"
        )
    test = next((name for name in ("test", "validation") if name in splits), None)
    if "train" not in splits or test is None:
        raise ValueError(
            f"dataset: expected splits 'train' and 'test' (or 'validation'), got {dataset!r} "
            f"with {splits}"
        )
    class_names = tuple(features["label"].names)
    train_part, test_part = builder.as_dataset(
        split=["train", test],
        batch_size=-1,
        shuffle_files=False,
        decoders=tfds.decode.PartialDecoding({"image": True, "label": True}),
    )
    return _image_data(train_part, class_names), _image_data(test_part, class_names)


def _image_data(part: dict[str, Any], names: tuple[str, ...]) -> ImageData:
    return ImageData(part["image"].numpy(), part["label"].numpy(), names)
