"""The range of pixels: which one images are in, and what a network made for pixels gets."""

from typing import Any

import numpy as np

from emoc_tf.data import views
from emoc_tf.data.views import centred as centred  # what the factor is for

# Of the whole range: half a grey level, which rounding may go beyond its ends.
ROUNDING = 1 / 510
# Of the whole range: where not one image is brighter, another range is meant.
_DARK = 1 / 32
# Images looked at in one go.
_BLOCK = 256

# Factor to the contrast of pixels 0–255 and the range it is for.
_RANGES = {1.0: (0.0, 255.0), 255.0: (0.0, 1.0), 127.5: (-1.0, 1.0)}


def factor_to_pixels(train: Any, test: Any) -> float:
    """Returns the factor that gives images the contrast of pixels in 0–255.

    Plainly meant are uint8 pixels; floats in [0, 255] that go beyond 127; floats in [0, 1]; and
    floats in [−1, 1] that reach −1 or 1, as black or white pixels do. Images in [0, 1] minus their
    mean image lie in (−1, 1) too, but reach neither: where a pixel is 1 its mean is above 0.

    Args:
        train: (n, H, W, channels) training images, uint8 or finite floats, as `ImageData` has them.
        test: Test images, or None; they have to lie in the same range, but need not fill it.

    Raises:
        ValueError: The range is not plain, or the parts differ in it.
    """
    factor = _factor(train)
    if factor is None:
        raise ValueError(
            f"data: expected images in a plain range, since the named networks take pixels from 0 "
            f"to 255: uint8, floats in [0, 255] that go beyond 127, floats in [0, 1], or floats in "
            f"[-1, 1] that reach -1 or 1; got training images of {_values(train)}; give them "
            f"before any other scaling, or with a model of your own, which gets images as they are"
        )
    if test is None:
        return factor
    low, high = _RANGES[factor]
    slack = ROUNDING * (high - low)
    darkest, brightest = extremes(test)
    inside = low - slack <= darkest and brightest <= high + slack
    other_unit = factor == 1 and 0 < brightest <= 1
    if not inside or other_unit or _factor(test) not in (None, factor):
        raise ValueError(
            f"data: expected training and test images of one range, got {_values(train)} and "
            f"{_values(test)}; scale both alike"
        )
    return factor


def black(factor: float, shape: tuple[int, ...]) -> np.ndarray | None:
    """Returns the black image of the range that a factor is for, (H, W, channels) float64.

    What is left when it is subtracted, times the factor, is pixels 0–255. None where images are
    such pixels.
    """
    low = _RANGES[factor][0]
    return None if (low, factor) == (0, 1) else np.full(shape, low)


def plain_range(low: float, high: float, integers: bool) -> tuple[float, float] | None:
    """Returns which plain range values are of; None if of none.

    Args:
        low: The lowest value.
        high: The highest.
        integers: Whether they are uint8.
    """
    factor = _factor_of(low, high, integers)
    return None if factor is None else _RANGES[factor]


def _factor(images: Any) -> float | None:
    """Returns the factor if the range of the images is plain."""
    return _factor_of(*extremes(images), np.dtype(images.dtype) == np.uint8)


def _factor_of(low: float, high: float, integers: bool) -> float | None:
    if integers:
        return None if (low, high) == (0, 1) else 1.0  # floats or a mask, made integers
    if low < -ROUNDING:
        reaches = max(-low, high) > 1 - 1e-6
        return 127.5 if reaches and max(-low, high) <= 1 + 2 * ROUNDING else None
    if high <= 1 + ROUNDING:
        return 255.0 if high >= _DARK or high == 0 else None
    return 1.0 if 127 < high <= 255.5 else None


def _values(images: Any) -> str:
    low, high = extremes(images, all_of_them=True)
    return f"{images.dtype} in [{low:.4g}, {high:.4g}]"


def extremes(images: Any, all_of_them: bool = False) -> tuple[float, float]:
    """Returns the lowest and the highest value; of uint8 images, of as many as tell the range."""
    low, high = np.inf, -np.inf
    for block in views.batches(images, _BLOCK):
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if np.dtype(images.dtype) == np.uint8 and high > 1 and not all_of_them:
            break  # pixels, whatever the others are
    return low, high
