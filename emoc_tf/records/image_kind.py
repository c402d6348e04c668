"""What kind of images a run was made with, and whether others are of that kind."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from emoc_tf.data import pixels, views
from emoc_tf.exploration.episode import sample_of
from emoc_tf.exploration.task import Task

# Name in `config.json`.
IMAGES = "images"


def kind_of(images: Any) -> dict[str, Any]:
    """Returns what `config.json` tells of images: shape of one, dtype and range.

    Args:
        images: (n, H, W, channels) uint8 or floating; of many, a sample tells the range.
    """
    dtype = np.dtype(images.dtype)
    low, high = pixels.extremes(sample_of(images))
    return {
        "shape": [int(n) for n in images.shape[1:]], "dtype": dtype.name,
        "range": [float(low), float(high)],
    }  # fmt: skip


def of_run(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what `config.json` tells of a run's images; runs of earlier versions tell less."""
    if IMAGES in config:
        return config[IMAGES]
    shape = (config.get("task") or {}).get("shape")
    return {"shape": shape[1:]} if shape else {}


def check_array(told: Mapping[str, Any], images: Any) -> None:
    """Refuses images of another size, number of channels or range than those of a run.

    Args:
        told: See `of_run`.
        images: An array or an array-like.

    Raises:
        ValueError: They are of another kind, or no images.
    """
    if not all(hasattr(images, name) for name in ("shape", "dtype")):
        raise ValueError(
            f"images: expected an array, an array-like or a folder, got {type(images).__name__}"
        )
    dtype = np.dtype(images.dtype)
    if dtype != np.uint8 and dtype.kind != "f":
        raise ValueError(f"images: expected dtype uint8 or floating, got {dtype}")
    shape = tuple(told.get("shape", images.shape[1:]))
    if tuple(images.shape[1:]) != shape:
        raise ValueError(
            f"images: expected shape (n, {', '.join(map(str, shape))}), as the run's are, got "
            f"{tuple(images.shape)}"
        )
    if "range" not in told or not len(images):
        return
    unit, found = _unit(told), kind_of(images)
    low, high = unit or told["range"]
    spare = pixels.ROUNDING * (high - low) if unit else high - low
    inside = low - spare <= found["range"][0] and found["range"][1] <= high + spare
    # Darker ones may be in no plain range, but not in another one.
    if not inside or (_unit(found) not in (None, unit)):
        remedy = "" if unit is None else "; scale them as those were"
        raise ValueError(
            f"images: expected {told['dtype']} in [{low:g}, {high:g}], as the run's are, got "
            f"{dtype} in [{found['range'][0]:g}, {found['range'][1]:g}]{remedy}"
        )


def is_same(config: Mapping[str, Any], images: Any) -> bool:
    """Whether an array is that of a run's task; True where the run tells no digest."""
    digest = (config.get("task") or {}).get("digest")
    return digest is None or Task(images).digest() == digest


def check_same(config: Mapping[str, Any], images: Any) -> None:
    """Refuses other arrays than that of a run's task, whose labels go by index.

    Runs of folders, whose files are checked, and of earlier versions tell no digest.

    Raises:
        ValueError: They are others, or in another order.
    """
    if not is_same(config, images):
        raise ValueError(
            "images: expected those of the run's task, in their order and dtype, got others, to "
            "which its labels do not belong"
        )


def check_folder(told: Mapping[str, Any]) -> None:
    """Refuses a folder for a run whose images cannot have come from files.

    Raises:
        ValueError: They have other channels than red, green and blue, or values of your own.
    """
    channels = told.get("shape", (0, 0, 3))[2]
    if channels != 3:
        raise ValueError(
            f"images: expected an array of images with {channels} channels, as the run's have, got "
            f"a folder, whose images have 3; run_predictions takes an array"
        )
    if "range" in told and _unit(told) is None:
        low, high = told["range"]
        raise ValueError(
            f"images: expected an array of images scaled as the run's are, {told['dtype']} in "
            f"[{low:g}, {high:g}], got a folder of pixels 0 to 255; run_predictions takes an array"
        )


def as_told(told: Mapping[str, Any], folder: Any) -> Any:
    """Returns the images of a folder in the range of a run's, such as [0, 1]."""
    low, high = (_unit(told) if "range" in told else None) or (0.0, 255.0)
    if (low, high) == (0.0, 255.0):
        return folder
    factor = (high - low) / 255
    return views.ImageView(folder, mean=np.full(folder.shape[1:], -low / factor), factor=factor)


def _unit(told: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns the plain range that values lie in; None if it is none."""
    return pixels.plain_range(*told["range"], told["dtype"] == "uint8")
