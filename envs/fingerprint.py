"""What an environment was made of besides its configuration, as a hash."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from emoc_tf.data.images import ImageData

# Images that are hashed at a time, of pools that may be larger than memory.
_CHUNK = 1024


def fingerprint(
    data: Sequence[ImageData] | None,
    model: keras.Model | None,
    model_classes: Sequence[int] | None,
    parts: Sequence[Any],
) -> str | None:
    """Returns a hash of what was handed in; None if that is nothing.

    Args:
        data: Training and test part: images, labels and names count.
        model: Its layers' types and all its weights count.
        model_classes: Class id of each output.
        parts: Oracle, reward and other things with code, or None: their `fingerprint` counts where
            they have one, and else where their class or function is defined and what it is called.
    """
    if data is None and model is None and all(part is None for part in parts):
        return None
    digest = hashlib.sha256()
    for part in data or ():
        digest.update(repr((part.images.shape, str(part.images.dtype), part.class_names)).encode())
        for start in range(0, len(part.images), _CHUNK):
            digest.update(np.ascontiguousarray(part.images[start : start + _CHUNK]).tobytes())
        digest.update(part.labels.tobytes())
    if model is not None:
        digest.update(repr([type(layer).__name__ for layer in model.layers]).encode())
        for weight in model.get_weights():
            digest.update(repr(weight.shape).encode() + weight.tobytes())
    names = [None if part is None else _name(part) for part in parts]
    classes = None if model_classes is None else [int(c) for c in model_classes]
    digest.update(repr((classes, names)).encode())
    return digest.hexdigest()[:16]


def _name(part: Callable | Any) -> str:
    own = getattr(part, "fingerprint", None)
    if own is not None:
        return str(own)
    named = part if hasattr(part, "__qualname__") else type(part)
    return f"{named.__module__}.{named.__qualname__}"
