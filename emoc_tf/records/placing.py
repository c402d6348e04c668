"""Image files of an export: links to those there are, copies, or PNG files of arrays."""

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from emoc_tf.data import listings, pixels
from emoc_tf.data.images import ImageData
from emoc_tf.exploration.episode import sample_of
from emoc_tf.records import image_kind
from emoc_tf.records.labels import LabelledImage, RunLabels

# How files come into an export.
WAYS = ("hardlink", "symlink", "copy")
# Endings by which readers know images; others are told by content.
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
}
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class Pictures:
    """Where the images of a run are.

    Args:
        labels: Of the run.
        images: A folder, where its files lie now; or the run's images as an array or array-like:
            those of its task, or the training images of its data set. None: the folder that the run
            was made with.

    Attributes:
        folder: That its files are in; None for arrays, and where nothing is known.

    Raises:
        ValueError: There is no such folder, or the array is another one.
    """

    def __init__(self, labels: RunLabels, images: Any = None) -> None:
        self.folder, self._array = labels.folder, None
        if any(each.path is None for each in labels.labelled):
            self.folder = None
        if isinstance(images, str | os.PathLike):
            self.folder = Path(images).expanduser().absolute()
            if not self.folder.is_dir():
                raise ValueError(f"images: expected a folder of images, got {images}")
        elif images is not None:
            self._array = images.images if isinstance(images, ImageData) else images
            last = max((each.index for each in labels.labelled), default=-1)
            if last >= len(self._array):
                raise ValueError(
                    f"images: expected those of the run, at least {last + 1}, got "
                    f"{len(self._array)}"
                )
            image_kind.check_same(labels.config, self._array)

    def file(self, image: LabelledImage) -> Path | None:
        """Returns an image's file; None if it comes from no file."""
        if image.path is None or self.folder is None or self._array is not None:
            return None
        return self.folder / image.path

    def check(self, images: Sequence[LabelledImage]) -> None:
        """Checks that all images can be placed.

        Raises:
            ValueError: Files are not there, or others than those that got the label; or the images
                come from no files and are not given.
        """
        if self._array is not None:
            return
        if self.folder is None and images:
            raise ValueError(
                "images: expected the run's images, since this format needs files and they come "
                "from none that are recorded; give the array (images=...) or, where they are files,"
                " their folder (--images=FOLDER); formats csv and jsonl name images by index"
            )
        for what, wrong in (("there", _missing), ("what was labelled", _changed)):
            bad = [each for each in images if wrong(self.folder / (each.path or ""), each.sha256)]
            if bad:
                raise ValueError(
                    f"images: expected {len(images)} files in {self.folder}, got {len(bad)} that "
                    f"are not {what}, such as {bad[0].path!r}; --images=FOLDER tells where they "
                    f"are now"
                )

    def name(self, image: LabelledImage) -> str:
        """Returns what an image's file is called in an export."""
        file = self.file(image)
        if file is None:
            return f"{image.index:06d}.png"
        name = file.name.lstrip(".") or "image"  # hidden files are passed over by readers
        if any(file.suffix.lower() in endings for endings in _ENDINGS.values()):
            return name
        with Image.open(file) as opened:
            return name + _ENDINGS.get(opened.format or "", (".png",))[0]

    def place(self, image: LabelledImage, target: Path, way: str) -> None:
        """Makes an image's file in an export, where there is none yet."""
        target.parent.mkdir(parents=True, exist_ok=True)
        file = self.file(image)
        if file is None:
            write_png(np.asarray(self._array[np.array([image.index])])[0], target, self._factor)
            return
        file = file.resolve()
        if way == "symlink":
            os.symlink(file, target)
            return
        if way == "hardlink":
            try:
                os.link(file, target)
                return
            except OSError:  # another file system, or one without links
                pass
        with open(file, "rb") as source, open(target, "xb") as copy:
            shutil.copyfileobj(source, copy)

    @functools.cached_property
    def _factor(self) -> float:
        if self._array.dtype == np.uint8:
            return 1.0
        return pixels.factor_to_pixels(sample_of(self._array), None)


def _missing(file: Path, sha256: str | None) -> bool:
    return not file.is_file()


def _changed(file: Path, sha256: str | None) -> bool:
    if not sha256:
        return False
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest() != sha256


def write_png(image: np.ndarray, target: Path, factor: float) -> None:
    """Writes an image as PNG.

    Args:
        image: (H, W, channels), uint8 or floating.
        target: Where to, where there is no file yet.
        factor: That brings its range to 0–255, see `pixels.factor_to_pixels`.

    Raises:
        ValueError: It has other than 1, 3 or 4 channels.
    """
    if image.shape[-1] not in _MODES:
        raise ValueError(f"images: expected 1, 3 or 4 channels for PNG, got {image.shape[-1]}")
    if image.dtype != np.uint8:
        shift = 1 if factor == 127.5 else 0  # [−1, 1]
        image = np.clip(np.rint((image.astype(np.float64) + shift) * factor), 0, 255)
    array = image.astype(np.uint8)
    with open(target, "xb") as file:
        Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(file, "PNG")


def different(names: Iterable[str], numbers: Iterable[int], key: Callable[[str], str]) -> list[str]:
    """Returns file names of which no two have one key: later ones get their number.

    Args:
        names: File names.
        numbers: One for each, all different.
        key: What has to differ, such as the name without its ending.
    """
    taken: set[str] = set()
    found = []
    for name, number in zip(names, numbers, strict=True):
        stem, ending = os.path.splitext(name)
        while key(name) in taken:
            stem = f"{stem}-{number}"
            name = stem + ending
        taken.add(key(name))
        found.append(name)
    return found


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Makes a folder that is whole or not there: what is written into the one given becomes it.

    It is marked as one of copies, lest its images be read with those that they are copies of.

    Raises:
        ValueError: There is something already.
    """
    check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        listings.mark_copies(aside)
        yield aside
        aside.chmod(0o777 & ~_umask())
        os.rename(aside, path)  # over an empty folder too
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_new(path: Path) -> None:
    """Raises `ValueError` if there is a file, or a folder that is not empty."""
    if path.is_symlink() or path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ValueError(
            f"output: expected a new place, since nothing is ever overwritten, got {path}, which "
            f"is there; name another one or move it away"
        )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
