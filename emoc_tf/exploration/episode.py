"""One episode's images: which classes are known, which wait in the pool, what is tested on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data import pixels
from emoc_tf.data.images import ImageData, read_only


@dataclass(frozen=True, eq=False)
class Episode:
    """Images and true labels of an episode; everything is a function of data and root.

    Attributes:
        classes: Class ids, those known at the start first.
        num_known: How many are known at the start.
        raw_images: (n_pool, H, W, channels) as in the data set; initial images first.
        images: The same as the model takes them, float32.
        true_labels: (n_pool,) class ids.
        num_initial: How many images are labelled at the start.
        test_images: All test images of the classes, as the model takes them.
        test_labels: Their class ids.
        digest: A hash of all images and labels as in the data set.
    """

    classes: tuple[int, ...]
    num_known: int
    raw_images: np.ndarray
    images: np.ndarray
    true_labels: np.ndarray
    num_initial: int
    test_images: np.ndarray
    test_labels: np.ndarray
    digest: str


def _digest(*arrays: np.ndarray) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def eligible_classes(
    config: ExplorationConfig, train: ImageData, test: ImageData
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the class ids with enough images to be known at the start, and to be novel.

    Both ascend; those of the first are among the second, since novel classes need images for the
    pool only.

    Raises:
        ValueError: Training and test part do not fit each other, or there are too few classes.
    """
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"data: expected training and test images of one shape, got "
            f"{train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    if train.images.dtype.kind != test.images.dtype.kind:
        raise ValueError(
            f"data: expected training and test images both uint8 or both floating, got "
            f"{train.images.dtype} and {test.images.dtype}"
        )
    if train.class_names != test.class_names:
        raise ValueError("data: expected the same class_names in training and test part")
    wanted, ids = config.known_classes + config.novel_classes, config.class_ids
    if ids is not None and max(ids) >= len(train.class_names):
        raise ValueError(
            f"classes: expected class ids in [0, {len(train.class_names)}), the classes of the "
            f"data, got {config.classes}"
        )
    if wanted > len(train.class_names):
        raise ValueError(
            f"known_classes + novel_classes: expected at most {len(train.class_names)}, the "
            f"classes of the data, got {wanted}"
        )
    counts = np.bincount(train.labels, minlength=len(train.class_names))
    tested = np.bincount(test.labels, minlength=len(train.class_names)) > 0
    if ids is not None:
        tested &= np.isin(np.arange(len(tested)), sorted(ids))
    needed = config.initial_per_class + config.pool_per_class
    large = np.flatnonzero(tested & (counts >= needed))
    every = np.flatnonzero(tested & (counts >= config.pool_per_class))
    if len(large) < config.known_classes or len(every) < wanted:
        novel, found = "", f"{len(large)}"
        if config.novel_classes:
            novel = f" ({config.pool_per_class} for the {config.novel_classes} novel ones)"
            found += f" ({len(every)} with {config.pool_per_class})"
        raise ValueError(
            f"initial_per_class + pool_per_class: expected {wanted} classes with {needed} training "
            f"images{novel} and a test image each, got {found}; the classes have {counts.min()} to "
            f"{counts.max()} training images"
        )
    return large, every


def check_data(data: tuple[ImageData, ImageData]) -> tuple[ImageData, ImageData]:
    """Returns training and test part; raises `ValueError` unless they are two `ImageData`."""
    parts = data if isinstance(data, tuple | list) else (data,)
    if len(parts) != 2 or not all(isinstance(part, ImageData) for part in parts):
        raise ValueError(
            f"data: expected (training, test) as two ImageData, got "
            f"{[type(part).__name__ for part in parts]}"
        )
    train, test = parts
    return train, test


def check_known_ids(
    model_classes: Sequence[int] | None,
    has_model: bool,
    config: ExplorationConfig,
    large: np.ndarray,
) -> tuple[int, ...] | None:
    """Returns the class ids of a handed-in model's outputs, or None if none are given.

    Args:
        model_classes: As given.
        has_model: Whether there is such a model.
        config: The settings.
        large: Class ids with enough images to be known at the start.

    Raises:
        ValueError: There is no such model, or they are not `config.known_classes` different ids of
            classes with enough images.
    """
    if model_classes is None:
        return None
    classes = tuple(int(class_id) for class_id in model_classes)
    if not has_model or len(set(classes)) != len(classes) or len(classes) != config.known_classes:
        raise ValueError(
            f"model_classes: expected {config.known_classes} different class ids, one for each "
            f"output of a model handed in, got {classes}"
        )
    if not np.isin(classes, large).all():
        raise ValueError(
            f"model_classes: expected classes with enough images, {large.tolist()}, got {classes}"
        )
    return classes


def draw_episode(
    config: ExplorationConfig,
    train: ImageData,
    test: ImageData,
    root: int,
    known_ids: tuple[int, ...] | None = None,
    as_they_are: bool = False,
) -> Episode:
    """Draws classes and images, and brings them to pixels 0–255 minus the initial mean image.

    Args:
        config: How many classes and images.
        train: Where initial and pool images come from.
        test: Where the test images come from.
        root: The episode's root.
        known_ids: Class ids known at the start; None draws them.
        as_they_are: Whether the model takes images as they are in the data, as float32.

    Raises:
        ValueError: There are too few classes, the range of the pixels is not plain, or the images
            were written over.
    """
    train.check_unchanged()
    test.check_unchanged()
    large, every = eligible_classes(config, train, test)
    wanted = config.known_classes + config.novel_classes
    given = np.array(known_ids or (), np.int64)
    rng = streams.generator(root, 0, "classes")
    if not len(given) and len(large) < len(every):  # some are too small to be known
        given = rng.choice(large, config.known_classes, replace=False)
    drawn = rng.choice(np.setdiff1d(every, given), wanted - len(given), replace=False)
    classes = np.concatenate([given, drawn])
    rng = streams.generator(root, 0, "images")
    initial, waiting = [], []
    for position, class_id in enumerate(classes):
        members = rng.permutation(np.flatnonzero(train.labels == class_id))
        start = min(config.initial_per_class, len(members) - config.pool_per_class)
        if position < config.known_classes:
            initial.append(members[:start])
        waiting.append(members[start : start + config.pool_per_class])
    first = np.concatenate(initial)
    # Mixed, so that a pool index tells nothing about the class.
    chosen = np.concatenate([first, rng.permutation(np.concatenate(waiting))])
    tested = np.isin(test.labels, classes)
    raw_images, true_labels = train.images[chosen], train.labels[chosen]
    raw_tested, test_labels = test.images[tested], test.labels[tested]
    if as_they_are:
        images, test_images = (
            part.astype(np.float32, copy=False) for part in (raw_images, raw_tested)
        )
    else:
        mean = train.images[first].mean(axis=0, dtype=np.float64)
        factor = pixels.factor_to_pixels(train.images, test.images)
        images, test_images = (
            pixels.centred(part, mean, factor) for part in (raw_images, raw_tested)
        )
    return Episode(
        classes=tuple(int(class_id) for class_id in classes),
        num_known=config.known_classes,
        raw_images=read_only(raw_images),
        images=read_only(images),
        true_labels=read_only(true_labels),
        num_initial=len(first),
        test_images=read_only(test_images),
        test_labels=read_only(test_labels),
        digest=_digest(raw_images, true_labels, raw_tested, test_labels),
    )
