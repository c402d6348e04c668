"""What the elements of a `tf.data.Dataset` hold: images and labels in the forms that are usual."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emoc_tf.data import decoding, listings

# Classes that get their numbers as names at most: a greater one is no count of classes.
_MOST_NUMBERED = 1_000_000


def image_and_label(element: Any) -> tuple[Any, Any]:
    """Returns the image, or the batch of images, and the label or labels; None if there is none.

    Raises:
        ValueError: The element holds other things.
    """
    if isinstance(element, dict) and "image" in element:
        return element["image"], element.get("label")
    if isinstance(element, tuple | list) and len(element) in (1, 2):
        return element[0], element[1] if len(element) == 2 else None
    if isinstance(element, tuple | list | dict):
        got = sorted(element) if isinstance(element, dict) else f"{len(element)} things"
        raise ValueError(
            f"dataset: expected images, or pairs of image and label, got {got} in an element; "
            f"map it to (image, label)"
        )
    return element, None


class Images:
    """Images that are gathered into one array.

    Args:
        size: (H, W) that they are brought to; None where all have one size.
        fit: See `decoding.fitted`.

    Attributes:
        count: How many there are.
        nbytes: How much memory they take.
    """

    def __init__(self, size: tuple[int, int] | None, fit: str) -> None:
        self._size, self._fit = size, fit
        self._blocks: list[np.ndarray] = []
        self._most, self._floating, self._whole = 0.0, False, True
        self.count = self.nbytes = 0

    def add(self, image: Any) -> int:
        """Adds an image (H, W, channels) or a batch of them; returns how many.

        Raises:
            ValueError: It is none, or of another size than those before.
        """
        import tensorflow as tf

        if isinstance(image, tf.RaggedTensor):
            rows = [row.to_tensor() if isinstance(row, tf.RaggedTensor) else row for row in image]
            arrays = [array for row in rows for array in _pixels(row)]
        else:
            arrays = list(_pixels(image))
        if not arrays:
            return 0
        if self._size is not None:
            arrays = [decoding.fitted(array, self._size, self._fit) for array in arrays]
        shapes = {array.shape for array in arrays} | {block.shape[1:] for block in self._blocks[:1]}
        if len(shapes) > 1:
            raise ValueError(
                f"dataset: expected images of one shape, got {sorted(shapes)[:2]}; image_size=96 "
                f"brings their sizes together, and decoding with channels=3 their channels"
            )
        block = np.stack(arrays)
        if block.dtype != np.uint8:
            self._floating = True
            self._most = max(self._most, float(block.max()))
            whole = block.min() >= 0 and block.max() <= 255 and (block == np.rint(block)).all()
            self._whole = self._whole and bool(whole)
            block = block.astype(np.uint8) if self._whole else block  # what is lost is the memory
        self._blocks.append(block)
        self.count += len(block)
        self.nbytes += block.nbytes
        return len(block)

    def array(self) -> np.ndarray:
        """Returns all of them, (n, H, W, channels), uint8 or float32.

        Raises:
            ValueError: There are none.
        """
        if not self._blocks:
            raise ValueError("dataset: expected at least one image, got none")
        stay = self._floating and (not self._whole or self._most <= 1)
        return np.concatenate(self._blocks, dtype=np.float32 if stay else np.uint8)


def _pixels(image: Any) -> np.ndarray:
    """Returns an image, or a batch of them, as a batch of uint8 or float32."""
    import tensorflow as tf

    shape = tuple(image.shape) if isinstance(image, tf.Tensor) else ()
    if len(shape) not in (3, 4) or not 1 <= shape[-1] <= 4:
        got = f"shape {shape}" if isinstance(image, tf.Tensor) else type(image).__name__
        raise ValueError(
            f"dataset: expected images (H, W, channels) of one to four channels, alone or in "
            f"batches, got {got}; a missing channel is added by "
            f"map(lambda image, label: (image[..., None], label))"
        )
    batch = image[None] if len(shape) == 3 else image
    if batch.dtype.is_floating:
        array = tf.cast(batch, tf.float32).numpy()
        if not np.isfinite(array).all():
            raise ValueError("dataset: expected finite pixels, got NaN or infinity")
        return array
    array = batch.numpy()
    numbers = array.dtype.kind in "iu"
    if not numbers or (array.size and (array.min() < 0 or array.max() > 255)):
        values = f" in [{array.min()}, {array.max()}]" if numbers else ""
        raise ValueError(
            f"dataset: expected pixels in 0-255 or floats, got {batch.dtype.name}{values}; map "
            f"them to floats, divided by the greatest possible value"
        )
    return array.astype(np.uint8)


def _text(name: Any) -> str:
    """Returns a name, bytes or text, as text; raises `ValueError` for bytes that are none."""
    try:
        return name.decode() if isinstance(name, bytes) else str(name)
    except UnicodeDecodeError:
        raise ValueError(f"dataset: expected names in UTF-8 as labels, got {name!r}") from None


class Labels:
    """Labels that are gathered into class ids."""

    def __init__(self) -> None:
        self._found: list[np.ndarray] = []
        self._count = 0
        self._columns: int | None = None

    def add(self, label: Any, count: int) -> None:
        """Adds the labels of some images.

        Args:
            label: Integers, whole floats, one-hot rows or names, empty where unknown: one, or one
                an image; or None.
            count: How many images they belong to.

        Raises:
            ValueError: They are none of these.
        """
        self._count += count
        if label is None or not count:
            return
        array = np.asarray(label)
        if array.dtype.kind == "V":  # bfloat16
            array = array.astype(np.float32)
        if array.ndim == 0 or (count == 1 and array.shape[0] != 1):
            array = array[None]
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.shape[0] != count or array.ndim > 2:
            raise ValueError(
                f"dataset: expected one label an image, got shape {np.shape(label)} for "
                f"{count} images"
            )
        if array.dtype.kind in "SU" or all(isinstance(name, bytes | str) for name in array.flat):
            names = [_text(name) for name in array.flat]
            self._found.append(np.array(names, object).reshape(array.shape))
            return
        if array.dtype.kind not in "biuf" or (array != np.rint(array)).any():
            raise ValueError(f"dataset: expected whole numbers as labels, got {array.ravel()[:3]}")
        if array.ndim == 2:
            if not np.isin(array, (0, 1)).all() or (array.sum(axis=1) != 1).any():
                raise ValueError(
                    "dataset: expected one class an image, got rows of labels that are not one-hot"
                )
            self._columns = array.shape[1]
            array = array.argmax(axis=1)
        self._found.append(array.astype(np.int64))

    def ids_and_names(
        self, class_names: Sequence[str] | None
    ) -> tuple[np.ndarray, tuple[str, ...]]:
        """Returns (n,) class ids, −1 where unknown, and one name a class id.

        Args:
            class_names: The names; None makes them of the labels.

        Raises:
            ValueError: Labels and names do not fit each other.
        """
        if class_names is not None:
            if isinstance(class_names, str) or not all(isinstance(n, str) for n in class_names):
                raise ValueError(
                    f"class_names: expected a sequence of names, got {class_names!r:.80}"
                )
            class_names = tuple(class_names)
        if not self._found:
            return np.full(self._count, -1, np.int64), class_names or ()
        labels = np.concatenate(self._found)
        if labels.dtype == object:
            told = [name if name.strip() else None for name in labels]
            names = class_names or listings.class_ids(told)[0]
            # Of names that differ in their Unicode form alone just the one that is written so.
            forms = {listings.comparable(name): i for i, name in reversed([*enumerate(names)])}
            forms |= {name: i for i, name in enumerate(names)}
            ids = {n: forms.get(n, forms.get(listings.comparable(n))) for n in {*told} - {None}}
            unknown = sorted(name for name, class_id in ids.items() if class_id is None)
            if unknown:
                raise ValueError(f"class_names: expected all labels, {unknown[0]!r} is not there")
            return np.array([-1 if n is None else ids[n] for n in told], np.int64), names
        number = max(int(labels.max()) + 1, self._columns or 0)
        if class_names is None and number > _MOST_NUMBERED:
            raise ValueError(
                f"dataset: expected class ids that count classes, got {number - 1}; give names as "
                f"labels, or map them to 0, 1, 2, ..."
            )
        names = tuple(map(str, range(number))) if class_names is None else class_names
        if labels.min() < -1 or number > len(names):
            raise ValueError(
                f"class_names: expected one name a class id, got {len(names)} names and labels in "
                f"[{labels.min()}, {number - 1}] (-1 is unknown)"
            )
        return labels, names
