"""The images as the page shows them: by index, made small once."""

import contextlib
import io
import os
import secrets
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from emoc_tf.data import decoding

# Pixels of the longer side.
SIZES = {"small": 320, "large": 1600}
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
_QUALITY = 88


class Album:
    """The images of a folder, in the order of the pool.

    Args:
        root: The folder.
        paths: Of the files, relative to it.
        keys: The first 32 digits of their SHA-256.
        cache: Folder of what was made small.

    Attributes:
        keys: As given.
        paths: As given.
        place: The index of each key.
    """

    def __init__(self, root: Path, paths: Sequence[str], keys: Sequence[str], cache: Path) -> None:
        self.paths, self.keys = list(paths), list(keys)
        self.place = {key: index for index, key in enumerate(self.keys)}
        self._root, self._cache = root, cache
        self._makers = ThreadPoolExecutor(2)
        self._lock, self._ordered = threading.Lock(), set[int]()

    def __len__(self) -> int:
        return len(self.keys)

    def prepare(self, keys: Iterable[str]) -> None:
        """Makes images small that will be shown soon, in the background."""
        for key in keys:
            index = self.place.get(key)
            with self._lock:
                if index is None or index in self._ordered:
                    continue
                self._ordered.add(index)
            self._makers.submit(self._make_quietly, index)

    def _make_quietly(self, index: int) -> None:
        with contextlib.suppress(ValueError, OSError):
            self.jpeg(index, "small")

    def jpeg(self, index: int, size: str) -> bytes:
        """Returns an image as JPEG, not larger than a size and not enlarged.

        Raises:
            ValueError: The file is gone, or another one than when the folder was read.
        """
        key = self.keys[index]
        file = self._cache / size / key[:2] / f"{key}.jpg"
        with contextlib.suppress(OSError):
            if content := file.read_bytes():
                return content
        content = self._made(index, SIZES[size])
        with contextlib.suppress(OSError):  # a full disk is no reason to show nothing
            file.parent.mkdir(parents=True, exist_ok=True)
            aside = file.with_name(f"{key}.{os.getpid()}-{secrets.token_hex(4)}")
            try:
                aside.write_bytes(content)
                os.replace(aside, file)
            finally:
                aside.unlink(missing_ok=True)
        return content

    def _made(self, index: int, most: int) -> bytes:
        path = self._root / self.paths[index]
        try:
            with Image.open(path, formats=decoding.FORMATS) as image:
                width, height = image.size
                with contextlib.suppress(Exception):  # broken notes about a good image
                    if image.getexif().get(_ORIENTATION) in _TURNED:
                        width, height = height, width
        except (OSError, Image.DecompressionBombError) as error:
            raise ValueError(f"images: {path} cannot be read: {error}") from None
        scale = min(1.0, most / max(width, height))
        shape = max(1, round(scale * height)), max(1, round(scale * width))
        pixels = decoding.decode(path, shape, "crop")
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
        return stream.getvalue()
