"""Images of TensorFlow's data sets, as arrays: `tf.data`, and builders of tensorflow-datasets."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoc_tf.data import decoding, elements, parts
from emoc_tf.data.images import ImageData


def from_dataset(
    dataset: Any,
    class_names: Sequence[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    fit: str = "letterbox",
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Reads a finite `tf.data.Dataset`, batched or not, into memory.

    Its elements are images, pairs of image and label, or dictionaries of `"image"` and `"label"`;
    images have shape (H, W, channels). Labels are integers, one-hot, binary (0.0 or 1.0) or names.
    Floating images become uint8 if all pixels are whole numbers in [0, 255] and one is above 1,
    which loses nothing; others stay floating, as float32. Images keep the order of the one pass
    that is made: give `shuffle=False` to functions such as `image_dataset_from_directory` if it is
    to be the same each time.

    Args:
        dataset: Such as `keras.utils.image_dataset_from_directory` gives.
        class_names: One name a class id; None takes the data set's own `class_names`, which those
            made from it by `map` and the like have lost, else the labels' own names or numbers.
        image_size: Pixels: a square's side, or (height, width), that images are brought to; None
            where all have the same size.
        fit: `"letterbox"` or `"crop"`, see `decoding.fitted`.

    Returns:
        Images (n, H, W, channels), uint8 or float32; labels (n,) int64, −1 where unknown; names.

    Raises:
        ValueError: It is no such data set, has no end, or holds other things.

    Example:
        >>> import numpy as np
        >>> import tensorflow as tf
        >>> from emoc_tf.data import from_dataset
        >>> pixels = np.full((6, 8, 8, 1), 200, np.float32)
        >>> dataset = tf.data.Dataset.from_tensor_slices((pixels, [0, 1, 2, 0, 1, 2])).batch(4)
        >>> images, labels, class_names = from_dataset(dataset, class_names=["a", "b", "c"])
        >>> images.shape, images.dtype, labels
        ((6, 8, 8, 1), dtype('uint8'), array([0, 1, 2, 0, 1, 2]))
    """
    import tensorflow as tf

    size = None if image_size is None else decoding.check_size(image_size, fit)
    if not isinstance(dataset, tf.data.Dataset):
        raise ValueError(
            f"dataset: expected a tf.data.Dataset, got {type(dataset).__name__}; arrays go to "
            f"ImageData, and builders of tensorflow-datasets to from_tfds"
        )
    cardinality = int(dataset.cardinality())
    if cardinality == tf.data.INFINITE_CARDINALITY:
        raise ValueError("dataset: expected one with an end, got an infinite one; take(n) of it")
    limit = _memory() // 2 if cardinality == tf.data.UNKNOWN_CARDINALITY else np.inf
    images, labels = elements.Images(size, fit), elements.Labels()
    try:
        for element in dataset:
            image, label = elements.image_and_label(element)
            labels.add(label, images.add(image))
            if images.nbytes > limit:
                raise ValueError(
                    f"dataset: expected one that fits into memory, got one without a known end "
                    f"that takes half of it after {images.count} images; take(n) of it"
                )
    except tf.errors.OpError as error:
        raise ValueError(
            f"dataset: reading failed after {images.count} images: "
            f"{(error.message or type(error).__name__).splitlines()[0]}"
        ) from None
    if class_names is None:
        class_names = getattr(dataset, "class_names", None)
    return images.array(), *labels.ids_and_names(class_names)


def from_tfds(
    builder: Any, image_size: int | tuple[int, int] | None = None, fit: str = "letterbox"
) -> tuple[ImageData, ImageData]:
    """Returns the training and the test part of a prepared builder of tensorflow-datasets.

    The test part is the split `test`, else `validation`, `val` or `valid`; where there is none,
    every fifth image of each class of `train`, or of the only split.

    Args:
        builder: Such as `tfds.builder` and `tfds.ImageFolder` make.
        image_size: What images are brought to, see `from_dataset`; None leaves images of one size
            as they are, and brings others to 96 by 96 pixels.
        fit: `"letterbox"` or `"crop"`, see `decoding.fitted`.

    Raises:
        ValueError: It is no builder, or no classification of images.
        FileNotFoundError: Its data are not prepared.

    Example:
        >>> import os
        >>> import tensorflow_datasets as tfds
        >>> from PIL import Image
        >>> from emoc_tf.data import from_tfds
        >>> for name in ("all/train/cat/1.png", "all/train/dog/2.png", "all/test/cat/3.png"):
        ...     os.makedirs(os.path.dirname(name), exist_ok=True)
        ...     Image.new("RGB", (8, 8), color=len(name)).save(name)
        >>> train, test = from_tfds(tfds.ImageFolder("all"))
        >>> train.images.shape, train.class_names, test.labels
        ((2, 96, 96, 3), ('cat', 'dog'), array([0]))
    """
    import tensorflow_datasets as tfds

    if not isinstance(builder, tfds.core.DatasetBuilder):
        raise ValueError(
            f"builder: expected a builder of tensorflow-datasets, got {type(builder).__name__}; "
            f"a tf.data.Dataset goes to from_dataset"
        )
    own_files = isinstance(builder, tfds.folder_dataset.ImageFolder)
    if not own_files and not builder.is_prepared():
        raise FileNotFoundError(
            f"builder: {builder.name!r} is not prepared: looked in {builder.data_dir}; "
            f"download_and_prepare() does it"
        )
    features, name = builder.info.features, builder.name
    known = sorted(features) if isinstance(features, tfds.features.FeaturesDict) else []
    if not {"image", "label"} <= set(known):
        raise ValueError(
            f"dataset: expected one with features 'image' and 'label', got {name!r} with {known}"
        )
    names = getattr(features["label"], "names", None)
    if names is None:
        raise ValueError(f"dataset: expected 'label' to be a ClassLabel, got {features['label']}")
    splits = list(builder.info.splits)
    test = next((split for split in parts.TEST_NAMES if split in splits), None)
    train = splits[0] if len(splits) == 1 else "train"
    if train not in splits:
        raise ValueError(
            f"dataset: expected a split 'train', or a single one, got {name!r} with {splits}"
        )
    # What else an image comes with is not decoded.
    wanted = tfds.decode.PartialDecoding({"image": True, "label": True})
    reading = {"shuffle_files": False} | ({} if own_files else {"decoders": wanted})
    fixed = None not in features["image"].shape and image_size is None

    def read(split: str) -> tuple[np.ndarray, np.ndarray]:
        if fixed:
            part = builder.as_dataset(split=split, batch_size=-1, **reading)
            return part["image"].numpy(), part["label"].numpy()
        part = builder.as_dataset(split=split, **reading)
        return from_dataset(part, names, image_size or decoding.IMAGE_SIZE, fit)[:2]

    found = [read(train)] if test in (None, train) else [read(train), read(test)]
    return parts.training_and_test(found, tuple(names), f"data set {name!r}")


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
