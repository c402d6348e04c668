"""Labelled images as a training and a test part, for simulations."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from emoc_tf.data import listings
from emoc_tf.data.folders import ImageFolder
from emoc_tf.data.images import ImageData

# What a test part is called; the first that is there is taken.
TEST_NAMES = ("test", "testing", "validation", "val", "valid")
TRAIN_NAMES = ("train", "training")
# One of so many images of each class is a test image where there is no test part.
_EVERY = 5


def training_and_test(
    found: Sequence[tuple[np.ndarray, np.ndarray]],
    class_names: tuple[str, ...],
    name: str,
    paths: Sequence[np.ndarray] | None = None,
) -> tuple[ImageData, ImageData]:
    """Returns a training and a test part of labelled images.

    Args:
        found: Images and labels of both parts; or of all images, of which every fifth of each
            class then is a test image: a fixed split that needs no seed. Images with label −1 are
            left out.
        class_names: One name a class id.
        name: What the images are called in messages.
        paths: The file of each image, a part an array; None where they come from none.

    Raises:
        ValueError: A part has no labelled image.
    """
    parts = []
    for (images, labels), files in zip(found, paths or [None] * len(found), strict=True):
        known = labels >= 0
        _tell_unlabelled(name, (~known).sum())
        if not known.all():
            images, labels = images[known], labels[known]
        parts.append((images, labels, None if files is None else files[known]))
    if len(parts) == 1:
        images, labels, files = parts[0]
        test = _rank_in_class(labels) % _EVERY == _EVERY - 1
        small = np.setdiff1d(labels, labels[test])
        if len(small):
            _warn(
                name,
                f"classes of fewer than {_EVERY} images have no test image: "
                + ", ".join(class_names[label] for label in small),
            )
        parts = [
            (images[chosen], labels[chosen], None if files is None else files[chosen])
            for chosen in (~test, test)
        ]
    if not all(len(labels) for _, labels, _ in parts):
        counts = " and ".join(str(len(labels)) for _, labels, _ in parts)
        raise ValueError(
            f"{name}: expected labelled images to train on and to test on, got {counts}; without a "
            f"part 'test' every fifth image of each class is a test image"
        )
    train, test = (
        ImageData(images, labels, class_names, paths=None if files is None else files.tolist())
        for images, labels, files in parts
    )
    return train, test


def _rank_in_class(labels: np.ndarray) -> np.ndarray:
    ranks = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return ranks


def load_folder(
    path: Path, image_size: int | tuple[int, int], fit: str
) -> tuple[ImageData, ImageData]:
    """Loads a labelled folder into memory, as `ImageFolder` reads it.

    With subfolders `train` and `test` (or `validation`, `val`, `valid`) those are the parts, each
    with its classes; otherwise every fifth image of each class, by path, is a test image. Images
    that are in both parts are not tested on.

    Raises:
        ValueError: There is no such folder, or no labelled image in a part.
    """
    inside = {}
    if path.is_dir():
        inside = {
            entry.name.casefold(): entry
            for entry in path.iterdir()
            if entry.is_dir() and not listings.is_hidden(entry.name)
        }
    train = next((inside[name] for name in TRAIN_NAMES if name in inside), None)
    test = next((inside[name] for name in TEST_NAMES if name in inside), None)
    if train is not None and test is not None:
        others = sorted(entry.name for entry in inside.values() if entry not in (train, test))
        if others:
            _warn(
                str(path),
                f"{train.name} and {test.name} are the parts; not used: {', '.join(others)}",
            )
        folders = [ImageFolder(part, image_size, fit) for part in (train, test)]
    else:
        alone = train is not None and len(inside) == 1  # no class called train, which are several
        folders = [ImageFolder(train if alone else path, image_size, fit)]
    written = [
        folder.class_names[i] if i >= 0 else None for folder in folders for i in folder.labels
    ]
    names, labels = listings.class_ids(written)
    found, paths, seen = [], [], set()
    root = path if path.is_dir() else path.parent
    for folder, ids in zip(folders, np.split(labels, [len(folders[0])]), strict=False):
        copies = np.array([digest in seen for digest in folder.sha256])
        if copies.any():
            _warn(
                str(path), f"{copies.sum()} test images are training images too, and not tested on"
            )
        used = (ids >= 0) & ~copies
        _tell_unlabelled(str(path), (ids < 0).sum())
        found.append((folder[used], ids[used]))
        files = [os.path.relpath(folder.root / file, root) for file in folder.paths]
        paths.append(np.array(files, object)[used])
        seen |= {folder.sha256[i] for i in np.flatnonzero(used)}
    return training_and_test(found, names, str(path), paths)


def _tell_unlabelled(name: str, count: int) -> None:
    if count:
        _warn(name, f"{count} images without a label are not used in a simulation")


def _warn(name: str, text: str) -> None:
    warnings.warn(f"{name}: {text}", stacklevel=4)
