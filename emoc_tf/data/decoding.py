"""One image file brought to 8-bit RGB of one size."""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

FITS = ("letterbox", "crop")
# The side that images of several sizes are brought to if none is named.
IMAGE_SIZE = 96
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")

# How files of the formats begin: nothing else is read any further.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF8", b"II*\0", b"MM\0*", b"II+\0",
               b"MM\0+")  # fmt: skip
_ORIENTATION, _PHOTOMETRIC = 0x0112, 0x0106
# What each orientation but the plain one is undone by.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# JPEG is decoded at a fraction of its size if that is still so many times the size wanted.
_SPARE = 2


class LeftOutError(ValueError):
    """A file is not taken; the text is the reason."""


class ChangedError(LeftOutError):
    """A file is not the one that it was when its folder was read."""


def check_size(image_size: int | tuple[int, int], fit: str) -> tuple[int, int]:
    """Returns (height, width).

    Raises:
        ValueError: `image_size` is neither a positive integer nor two, or `fit` is unknown.
    """
    pair = (image_size,) * 2 if np.ndim(image_size) == 0 else tuple(image_size)
    whole = all(isinstance(side, int | np.integer) and not isinstance(side, bool) for side in pair)
    if len(pair) != 2 or not whole or min(pair) < 1:
        raise ValueError(
            f"image_size: expected a number of pixels or (height, width), got {image_size!r}"
        )
    if fit not in FITS:
        raise ValueError(
            f"fit: expected 'letterbox' (the whole image, padded) or 'crop' (its middle), "
            f"got {fit!r}"
        )
    return int(pair[0]), int(pair[1])


def digest(path: Path) -> str:
    """Returns the SHA-256 of an image file's content, as hexadecimal digits.

    Raises:
        LeftOutError: It cannot be read, or does not begin as an image.
    """
    try:
        with _opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LeftOutError(f"cannot be read: {error.strerror or error}") from None


def decode(path: Path, size: tuple[int, int], fit: str, expected: str | None = None) -> np.ndarray:
    """Returns an image file as it is shown, in 8-bit RGB.

    Of several frames or pages it is the first. What is transparent is laid on white. Grey of 16
    bits is divided by 257. Floating and 32-bit grey is taken for [0, 1], [0, 255] or [0, 65535],
    the first range that holds it. Colour profiles are not applied.

    Args:
        path: The file; its content tells the format, not its name.
        size: (H, W).
        fit: See `fitted`.
        expected: The file's SHA-256 or its first digits, where it has to be a certain one.

    Returns:
        (H, W, 3) uint8.

    Raises:
        LeftOutError: It cannot be read, is none of `FORMATS`, broken, too large for Pillow
            (`PIL.Image.MAX_IMAGE_PIXELS`), or of values in no plain range.
        ChangedError: It is another file than expected.
    """
    try:
        with _opened(path) as file:
            if expected is not None:
                if not hashlib.file_digest(file, "sha256").hexdigest().startswith(expected):
                    raise ChangedError("another file than when the folder was read")
                file.seek(0)
            return _decode(file, size, fit)
    except LeftOutError:
        raise
    except Image.DecompressionBombError:
        raise LeftOutError(_too_large()) from None
    except UnidentifiedImageError:
        raise LeftOutError("broken: begins as an image but has no readable header") from None
    except MemoryError:
        raise LeftOutError("does not fit into memory") from None
    # Broken files make decoders raise nearly anything; one of them is no reason to stop.
    except Exception as error:
        text = str(error).strip().splitlines()
        raise LeftOutError(f"broken: {text[0] if text else type(error).__name__}") from None


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that begins as an image does; a pipe, which one might wait for, is not opened.

    Raises:
        LeftOutError: It does not.
        OSError: It cannot be read.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise LeftOutError("not a file")
    with open(path, "rb") as file:
        start = file.read(12)
        if not start:
            raise LeftOutError("empty file")
        if not start.startswith(_BEGINNINGS) and (start[:4], start[8:]) != (b"RIFF", b"WEBP"):
            raise LeftOutError("not a JPEG, PNG, WebP, BMP, GIF or TIFF image")
        file.seek(0)
        yield file


def _too_large() -> str:
    return (
        f"larger than PIL.Image.MAX_IMAGE_PIXELS, {Image.MAX_IMAGE_PIXELS} pixels: a decompression "
        f"bomb, or set that limit higher"
    )


def _decode(file: BinaryIO, size: tuple[int, int], fit: str) -> np.ndarray:
    with Image.open(file, formats=FORMATS) as image:
        most = Image.MAX_IMAGE_PIXELS
        if most is not None and image.width * image.height > most:
            raise LeftOutError(_too_large())
        if image.format in ("JPEG", "MPO"):
            # Either side may be the height: the orientation is not known yet.
            scale = _SPARE * max(_scale(image.size, size, fit), _scale(image.size, size[::-1], fit))
            image.draft(None, tuple(int(np.ceil(scale * side)) for side in image.size))
        image.load()
        # Read after loading, which turns TIFF by itself.
        try:
            orientation = image.getexif().get(_ORIENTATION, 1)
        except Exception:  # broken notes about a good image
            orientation = 1
        upright = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
        shown = _rgb(image)
    return fitted(np.asarray(shown if upright is None else shown.transpose(upright)), size, fit)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        # Pillow's own conversion cuts all values above 255 off.
        values = np.asarray(image).astype(np.float32)
        if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # 0 is white
            values = 65535 - values
        return _grey(values / 257)
    if image.mode == "I" and image.format == "PNG":  # older Pillows' 16 bits
        return _grey(np.asarray(image) / 257)
    if image.mode in ("I", "F"):
        return _grey(_plain(np.asarray(image).astype(np.float64)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(values).astype(np.uint8)).convert("RGB")


def _plain(values: np.ndarray) -> np.ndarray:
    """Returns values brought to [0, 255]."""
    low, high = values.min(), values.max()
    for most in (1, 255, 65535):
        if low >= 0 and high <= most:
            return values * (255 / most)
    raise LeftOutError(
        f"pixel values from {low:.4g} to {high:.4g}: expected [0, 1], [0, 255] or [0, 65535]"
    )


def _scale(given: tuple[int, int], wanted: tuple[int, int], fit: str) -> float:
    ratios = [after / before for after, before in zip(wanted, given, strict=True)]
    return min(ratios) if fit == "letterbox" else max(ratios)


def fitted(image: np.ndarray, size: tuple[int, int], fit: str) -> np.ndarray:
    """Returns an image brought to a size without being stretched; of that size, it is as it was.

    Smaller images are enlarged. Pixels are interpolated linearly, and averaged where the image
    gets smaller.

    Args:
        image: (h, w, channels), uint8 or float32.
        size: (H, W).
        fit: `"letterbox"`: the whole image in the middle, black around it. `"crop"`: the middle of
            the image, as much as fits.

    Returns:
        (H, W, channels), a new array of the same dtype.
    """
    before = image.shape[:2]
    if before == size:
        return image.copy()
    ratio = _scale(before, size, fit)
    if fit == "letterbox":
        inner = tuple(
            min(most, max(1, round(ratio * side))) for side, most in zip(before, size, strict=True)
        )
        box = (0.0, 0.0, float(before[1]), float(before[0]))
    else:
        inner = size
        top, left = ((side - most / ratio) / 2 for side, most in zip(before, size, strict=True))
        box = (max(left, 0.0), max(top, 0.0), min(before[1] - left, before[1]),
               min(before[0] - top, before[0]))  # fmt: skip
    result = np.zeros((*size, image.shape[2]), image.dtype)
    top, left = ((most - side) // 2 for side, most in zip(inner, size, strict=True))
    place = result[top : top + inner[0], left : left + inner[1]]
    together = image.shape[2] == 3 and image.dtype == np.uint8
    for channels in [slice(0, 3)] if together else range(image.shape[2]):
        part = Image.fromarray(np.ascontiguousarray(image[..., channels]))
        place[..., channels] = part.resize(inner[::-1], Image.Resampling.BILINEAR, box=box)
    return result
