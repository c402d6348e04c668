"""A task: the images there are, what is known of them, and maybe test data."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from emoc_tf.data import views
from emoc_tf.data.images import ImageData, read_only
from emoc_tf.data.listings import comparable
from emoc_tf.exploration.answers import REJECT, SKIP

# Images that stand for all of them where reading all would take long.
SAMPLE = 1024


@dataclass(frozen=True, eq=False)
class Task:
    """Images, the labels so far, and the names of classes; nothing can be written through it.

    The order of the task is the order of the pool: `images[i]`, `pool.labels[i]` and the `indices`
    that an oracle is asked about mean the same image.

    Args:
        images: (n, H, W, channels), uint8 or floating: anything with `len`, `shape`, `dtype` and
            indexing by an integer array, such as a NumPy array, a memory map or an
            `emoc_tf.data.ImageFolder`. It is not copied, and read only where it is needed.
        labels: (n,) class ids, −1, None or NaN where unknown or masked, −2 where there is nothing
            to be named; or names, of which those that differ in their Unicode form alone are one
            class. None where nothing is known of any image; an `ImageFolder` brings
            its own.
        class_names: Of the classes known so far, by class id; of labels that are names they may be
            left out.
        test: Test images, or None. Its class names may be others: classes are matched by name.

    Raises:
        ValueError: An argument is none of these, or they do not fit each other.

    Example:
        >>> import numpy as np
        >>> from emoc_tf import Task
        >>> images = np.zeros((4, 8, 8, 1), np.uint8)
        >>> task = Task(images, labels=["cat", None, "dog", "cat"])
        >>> task.class_names, task.labels
        (('cat', 'dog'), array([ 0, -1,  1,  0]))
        >>> Task(images[..., 0])
        Traceback (most recent call last):
            ...
        ValueError: images: expected (n, H, W, channels) with at least one image, got shape
            (4, 8, 8); grey images need an axis, images[..., None], a tf.data.Dataset is read
            by emoc_tf.data.from_dataset
    """

    images: Any
    labels: Any = None
    class_names: Iterable[str] = ()
    test: ImageData | None = None

    def __post_init__(self) -> None:
        images = _checked_images(self.images)
        labels, names = self.labels, self.class_names
        if (
            labels is None
            and isinstance(names, tuple)
            and not names
            and hasattr(images, "class_names")
        ):
            labels, names = images.labels, images.class_names  # those of an ImageFolder
        labels, names = _of_names(labels, _checked_names(names))
        labels = _checked_labels(labels, len(images), len(names))
        if self.test is not None:
            _check_test(self.test, images)
        for name, value in (("images", images), ("labels", labels), ("class_names", names)):
            object.__setattr__(self, name, value)

    @classmethod
    def from_folder(
        cls,
        path: str | os.PathLike,
        image_size: int | tuple[int, int] = 96,
        *,
        fit: str = "letterbox",
        store: str | os.PathLike | None = None,
        test: ImageData | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Self:
        """Returns the task of a folder, or of a CSV or JSONL file of `path,label`.

        Args:
            path: See `emoc_tf.data.ImageFolder`, as for the following.
            image_size: Pixels that images are brought to, one number or (height, width).
            fit: `"letterbox"` or `"crop"`.
            store: A folder for the decoded images, read as a memory map; None decodes files when
                they are needed.
            test: See `Task`.
            progress: Called with what is done (`"reading"` files, or `"decoding"` images), how many
                are done and how many there are; `print` will do.

        Raises:
            ValueError: There is no image, or another argument is out of range.
        """
        from emoc_tf.data import ImageFolder

        folder = ImageFolder(
            Path(path), image_size=image_size, fit=fit, store=store, progress=progress
        )
        return cls(folder, folder.labels, folder.class_names, test)

    def relabelled(self, labels: np.ndarray, class_names: Iterable[str]) -> Self:
        """Returns a task of the same images and test data with other labels and class names.

        Raises:
            ValueError: They do not fit each other or the images.
        """
        names = _checked_names(class_names)
        other = object.__new__(type(self))  # the images were looked at already
        vars(other).update(vars(self))
        object.__setattr__(other, "labels", _checked_labels(labels, len(self.images), len(names)))
        object.__setattr__(other, "class_names", names)
        return other

    @property
    def start_classes(self) -> tuple[int, ...]:
        """Class ids that an image is labelled with, ascending."""
        return tuple(int(c) for c in np.unique(self.labels[self.labels >= 0]))

    def image_ids(self) -> np.ndarray | None:
        """Returns what each image is recognised by on another day, (n,) text; None for arrays."""
        ids = getattr(self.images, "sha256", None)
        return None if ids is None else np.array([text[:32] for text in ids])

    def digest(self) -> str:
        """Returns a hash that tells other images; of many, an evenly spread sample is read."""
        digest = hashlib.sha256(repr((tuple(self.images.shape), str(self.images.dtype))).encode())
        ids = self.image_ids()
        if ids is not None:
            digest.update("\n".join(ids).encode())
            return digest.hexdigest()
        for start in range(0, min(len(self.images), SAMPLE), 64):
            chosen = spread(len(self.images), SAMPLE)[start : start + 64]
            digest.update(np.ascontiguousarray(self.images[chosen]))
        return digest.hexdigest()


def spread(count: int, most: int) -> np.ndarray:
    """Returns at most `most` of `count` indices, evenly spread."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def _checked_images(images: Any) -> Any:
    if not all(hasattr(images, name) for name in ("shape", "dtype", "__len__", "__getitem__")):
        try:
            images = np.asarray(images)
        except ValueError:
            images = np.array(None)
    shape = tuple(images.shape)
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"images: expected (n, H, W, channels) with at least one image, got shape {shape}; "
            f"grey images need an axis, images[..., None], a tf.data.Dataset is read by "
            f"emoc_tf.data.from_dataset"
        )
    try:
        dtype = np.dtype(images.dtype)
    except TypeError:
        raise ValueError(
            f"images: expected a NumPy dtype, got {images.dtype!r}; np.asarray(images) is an array"
        ) from None
    if dtype != np.uint8 and dtype.kind != "f":
        raise ValueError(
            f"images: expected dtype uint8 or floating, got {dtype}; pixels in 0-255 are "
            f".astype(np.uint8), others floats, divided by the greatest possible value"
        )
    if isinstance(images, np.ndarray):
        images = read_only(images)
    if dtype.kind == "f":
        for number, part in enumerate(views.batches(images, SAMPLE)):
            finite = np.isfinite(part).all(axis=(1, 2, 3))
            if not finite.all():
                bad = number * SAMPLE + int(np.argmin(finite))
                raise ValueError(
                    f"images: expected finite pixels, got NaN or infinity in image {bad}"
                )
    return images


def _checked_names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not np.iterable(names):
        raise ValueError(f"class_names: expected a sequence of names, got {names!r}")
    names = tuple(names)
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise ValueError(f"class_names: expected a sequence of names, got {names!r}")
    if len(set(names)) != len(names):
        raise ValueError(f"class_names: expected different names, got {names!r}")
    return tuple(str(name) for name in names)


def _of_names(labels: Any, names: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Returns labels as class ids, and the class names; others than names are as they are."""
    if labels is None or isinstance(labels, np.ma.MaskedArray):
        return labels, names
    try:
        values = np.asarray(labels, dtype=object)
    except ValueError:
        return labels, names
    if values.ndim != 1 or not any(isinstance(value, str) for value in values):
        return labels, names
    for value in values:
        # True would be the class id 1; and without names given, ids are of a list that is not told.
        number = isinstance(value, int | float | np.number) and not np.isnan(value)
        no_id = number and not names and value not in (SKIP, REJECT)
        if isinstance(value, bool | np.bool_) or no_id:
            raise ValueError(
                f"labels: expected names, and None or {SKIP} where unknown, got {value!r} of type "
                f"{type(value).__name__} beside names"
            )
    kept = [None if isinstance(v, str) and not v.strip() else v for v in values]
    new: dict[str, str] = {}
    for name in sorted({value for value in kept if isinstance(value, str)}):
        new.setdefault(comparable(name), str(name))
    known = {comparable(name) for name in names}
    names = (*names, *(name for form, name in new.items() if form not in known))
    ids = {comparable(name): i for i, name in reversed(list(enumerate(names)))}
    ids |= {name: i for i, name in enumerate(names)}
    return [ids.get(v, ids.get(comparable(v))) if isinstance(v, str) else v for v in kept], names


def _checked_labels(given: Any, count: int, num_classes: int) -> np.ndarray:
    labels = np.full(count, SKIP) if given is None else _without_missing(given)
    if labels.shape != (count,):
        raise ValueError(f"labels: expected shape ({count},), one an image, got {labels.shape}")
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels: expected integer class ids, {SKIP} where unknown, got dtype {labels.dtype}"
        )
    if labels.min() < REJECT or labels.max() >= num_classes:
        raise ValueError(
            f"labels: expected class ids in [0, {num_classes}), the number of class_names, or "
            f"{SKIP} where unknown, got values in [{labels.min()}, {labels.max()}]"
        )
    return read_only(labels.astype(np.int64))


def _without_missing(given: Any) -> np.ndarray:
    """Returns labels with `SKIP` in place of None, NaN and what is masked."""
    if isinstance(given, np.ma.MaskedArray):
        given = np.where(np.ma.getmaskarray(given), SKIP, given.data)
    labels = np.asarray(given)
    if labels.dtype == object and labels.ndim == 1:
        kept = [
            SKIP if value is None or type(value).__name__ == "NAType" else value for value in labels
        ]
        if not any(isinstance(value, str | bool | np.bool_) for value in kept):
            labels = np.array(kept)
    if labels.dtype.kind == "f":
        missing = np.isnan(labels)
        if (missing | (np.abs(labels) < 2**31) & (labels == np.round(labels))).all():
            labels = np.where(missing, SKIP, labels).astype(np.int64)
    return labels


def _check_test(test: Any, images: Any) -> None:
    if not isinstance(test, ImageData):
        raise ValueError(f"test: expected an ImageData or None, got {type(test).__name__}")
    if tuple(test.images.shape[1:]) != tuple(images.shape[1:]):
        raise ValueError(
            f"test: expected images of shape {tuple(images.shape[1:])} as the task's, got "
            f"{tuple(test.images.shape[1:])}"
        )
    if test.images.dtype.kind != np.dtype(images.dtype).kind:
        raise ValueError(
            f"test: expected images both uint8 or both floating, got {images.dtype} in the task "
            f"and {test.images.dtype} in the test data"
        )
