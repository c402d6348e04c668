"""Data sets by name: the embedded digits, labelled folders, and those of tensorflow-datasets."""

import functools
import hashlib
import os
import re
from pathlib import Path

import numpy as np

from emoc_tf.data import decoding, listings, parts
from emoc_tf.data.images import ImageData

_FOLDER = "folder:"
# What may stand behind a name, such as `?image_size=64&fit=crop` or `?image_size=64x48`.
_OPTIONS = re.compile(r"\?((?:\w+=\w*)(?:&\w+=\w*)*)$")


def load(dataset: str, data_dir: str | None = None) -> tuple[ImageData, ImageData]:
    """Loads the training and the test part of a data set; nothing is ever downloaded.

    Images of several sizes are brought to 96 by 96 pixels, whole and with black around them, as
    `ImageFolder` does it. `?image_size=64`, `?image_size=48x64` (height × width) or
    `?image_size=64&fit=crop` behind the name chooses otherwise.

    Args:
        dataset: One of

            - `"digits"`: scikit-learn's, embedded, 8×8 grey, brought to 0–255.
            - `"folder:PATH"`: a labelled folder, or a list of paths and labels, see `ImageFolder`.
              Subfolders `train` and `test` (or `validation`, `val`, `valid`) are the parts;
              otherwise every fifth image of each class is a test image. Images without a label are
              left out.
            - the name of an image-classification data set of tensorflow-datasets, such as
              `"cifar100"`, `"mnist:3.0.1"` (or `"mnist/3.0.1"`) or `"name/config:1.0.0"`. Where it
              has a single split, every fifth image of each class is a test image.
        data_dir: The folder given to tensorflow-datasets; None means its default, the
            environment variable `TFDS_DATA_DIR` or `~/tensorflow_datasets`.

    Raises:
        ValueError: The data set is unknown or is no classification of images.
        FileNotFoundError: The data set is not in the folder.

    Example:
        >>> from emoc_tf import load
        >>> train, test = load("digits")
        >>> train.images.shape, test.images.shape, train.class_names[:3]
        ((1201, 8, 8, 1), (596, 8, 8, 1), ('0', '1', '2'))
        >>> load("folder:nowhere")
        Traceback (most recent call last):
            ...
        ValueError: dataset 'folder:nowhere': path: expected a folder of images, ...
    """
    if not isinstance(dataset, str):
        raise ValueError(
            f"dataset: expected a name, got {type(dataset).__name__}; emoc_tf.data has from_tfds "
            f"for a builder of tensorflow-datasets and from_dataset for a tf.data.Dataset, and the "
            f"name of a folder is 'folder:PATH'"
        )
    if dataset == "digits":
        return _load_digits()
    name, size, fit = _options(dataset)
    if not name.startswith(_FOLDER):
        return _load_tfds(name, data_dir, size, fit)
    path = name.removeprefix(_FOLDER)
    try:
        if not path.strip():
            raise ValueError("expected a path behind 'folder:'")
        path = os.path.abspath(os.path.expanduser(path))
        size = size or (decoding.IMAGE_SIZE, decoding.IMAGE_SIZE)
        return _load_folder(path, size, fit, _state(path))
    except ValueError as error:
        raise ValueError(f"dataset {dataset!r}: {error}") from None


def folder_of(dataset: str) -> Path | None:
    """Returns the folder that the paths of a data set's images are relative to, if it is one."""
    name, _, _ = _options(dataset)
    if not name.startswith(_FOLDER):
        return None
    path = Path(os.path.abspath(os.path.expanduser(name.removeprefix(_FOLDER))))
    return path.parent if path.is_file() else path


def _options(dataset: str) -> tuple[str, tuple[int, int] | None, str]:
    """Returns the name alone, the size that images are brought to, if any, and the fit."""
    found = _OPTIONS.search(dataset)
    if not found or os.path.exists(dataset.removeprefix(_FOLDER)):
        return dataset, None, decoding.FITS[0]
    options = dict(pair.split("=") for pair in found[1].split("&"))
    size = re.fullmatch(r"([1-9]\d*)(?:x([1-9]\d*))?", options.pop("image_size", "96"))
    fit = options.pop("fit", decoding.FITS[0])
    if options or not size or fit not in decoding.FITS:
        raise ValueError(
            f"dataset: expected image_size=64 or image_size=48x64 (height x width), and "
            f"fit=letterbox or fit=crop, behind the '?', got {dataset!r}"
        )
    return dataset[: found.start()], (int(size[1]), int(size[2] or size[1])), fit


def _state(path: str) -> str:
    """Returns a digest that changes when files are added, changed, moved or removed."""
    root, listed, _ = listings.list_images(path)
    digest = hashlib.sha256()
    for image in listed:
        try:
            found = os.stat(root / image.path)
            state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        except OSError:
            state = None
        digest.update(repr((image, state)).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=2)
def _load_folder(
    path: str, size: tuple[int, int], fit: str, state: str
) -> tuple[ImageData, ImageData]:
    return parts.load_folder(Path(path), size, fit)


@functools.cache
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


@functools.lru_cache(maxsize=2)
def _load_tfds(
    dataset: str, data_dir: str | None, size: tuple[int, int] | None, fit: str
) -> tuple[ImageData, ImageData]:
    import tensorflow_datasets as tfds

    from emoc_tf.data import sources

    # As tensorflow-datasets itself writes it in the names that it prints.
    name = re.sub(r"/(\d+\.\d+\.\d+)$", r":\1", dataset)
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (ValueError, AssertionError, tfds.core.DatasetNotFoundError):
        raise ValueError(
            f"dataset: expected 'digits' or the name of a tensorflow-datasets data set, or "
            f"'folder:PATH' with a folder of images, got {dataset!r}"
        ) from None
    if not builder.is_prepared():
        raise FileNotFoundError(
            f"dataset {dataset!r} is not prepared: looked in {builder.data_dir}; set --data_dir "
            f"or TFDS_DATA_DIR to the folder that holds it, or download it with "
            f"`tfds build {dataset}" + (f" --data_dir={data_dir}`" if data_dir else "`")
        )
    return sources.from_tfds(builder, size, fit)
