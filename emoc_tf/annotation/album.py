"""The images as the page shows them: by index, made small once."""

import contextlib
import io
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from emoc_tf.data import decoding, listings

# Pixels of the longer side.
SIZES = {"small": 320, "large": 1600}
_ORIENTATION, _TURNED = 0x0112, (5, 6, 7, 8)
_QUALITY = 88
# How many are made at once; a large one may need hundreds of megabytes.
_AT_ONCE = 2
# Seconds between two words about how far it is.
_OFTEN = 0.5


class Album:
    """The images of a folder, in the order of the pool.

    What is shown of an image was made of the very file that its key is of: another file that came
    into its place is never shown for it.

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
        with contextlib.suppress(OSError):  # it may lie in the folder of images
            cache.mkdir(parents=True, exist_ok=True)
            listings.mark_copies(cache)
        self._makers = ThreadPoolExecutor(_AT_ONCE)
        self._places = threading.Semaphore(_AT_ONCE)
        self._lock = threading.Lock()
        self._ordered: dict[int, Future[None]] = {}
        self._making: dict[tuple[int, str], Future[bytes]] = {}

    def __len__(self) -> int:
        return len(self.keys)

    def prepare(
        self,
        keys: Iterable[str],
        seconds: float,
        tell: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Makes images small that will be shown soon; those that cannot be are left.

        Args:
            keys: Of the images, the most urgent first.
            seconds: How long it is waited for; the rest is made in the background.
            tell: Called now and then with how many of them are made, and of how many.
        """
        end, ordered = time.monotonic() + seconds, []
        with self._lock:
            for key in keys:
                index = self.place.get(key)
                if index is None:
                    continue
                if index not in self._ordered:
                    self._ordered[index] = self._makers.submit(self._make_quietly, index)
                ordered.append(self._ordered[index])
        waiting = {each for each in ordered if not each.done()}
        while waiting and (left := end - time.monotonic()) > 0:
            waiting = wait(waiting, min(left, _OFTEN)).not_done
            tell(len(ordered) - len(waiting), len(ordered))

    def close(self) -> None:
        """Gives up what was to be made."""
        self._makers.shutdown(wait=False, cancel_futures=True)

    def _make_quietly(self, index: int) -> None:
        with contextlib.suppress(ValueError, OSError):
            self.jpeg(index, "small")

    def jpeg(self, index: int, size: str) -> bytes:
        """Returns an image as JPEG, not larger than a size and not enlarged.

        Raises:
            ValueError: The file is gone; `ChangedError`, which is one, if it is another one than
                when the folder was read.
        """
        key = self.keys[index]
        file = self._cache / size / key[:2] / f"{key}.jpg"
        with contextlib.suppress(OSError):
            if content := file.read_bytes():
                return content
        with self._lock:
            found = self._making.get((index, size))
            job = self._making.setdefault((index, size), Future())
        if found is not None:  # somebody else makes it
            return found.result()
        try:
            with self._places:
                content = self._made(index, SIZES[size])
            _write(content, file)
            job.set_result(content)
        except BaseException as error:
            job.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._making[index, size]
        return content

    def _made(self, index: int, most: int) -> bytes:
        path = self._root / self.paths[index]
        try:
            with Image.open(path, formats=decoding.FORMATS) as image:
                width, height = image.size
                with contextlib.suppress(Exception):  # broken notes about a good image
                    if image.getexif().get(_ORIENTATION) in _TURNED:
                        width, height = height, width
        except (UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise decoding.ChangedError(f"images: {path} was changed: {error}") from None
        except OSError as error:
            raise decoding.LeftOutError(f"images: {path} cannot be read: {error}") from None
        scale = min(1.0, most / max(width, height))
        shape = max(1, round(scale * height)), max(1, round(scale * width))
        pixels = decoding.decode(path, shape, "crop", self.keys[index])
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=_QUALITY)
        return stream.getvalue()


def _write(content: bytes, file: Path) -> None:
    """Keeps what was made; a full disk is no reason to show nothing."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(f"{file.stem}.{os.getpid()}-{secrets.token_hex(4)}")
        try:
            aside.write_bytes(content)
            os.replace(aside, file)
        finally:
            aside.unlink(missing_ok=True)
