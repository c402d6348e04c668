"""A folder of image files as an array of images."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emoc_tf.data import decoding, listings
from emoc_tf.data.indexing import positions
from emoc_tf.data.listings import LeftOut, Listed
from emoc_tf.data.stores import Known, Store
from emoc_tf.data.views import Stored
from emoc_tf.storage.system_locks import cores

# Images that are decoded before something is done with them.
_BLOCK = 64

Progress = Callable[[str, int, int], None]


class _Kept(NamedTuple):
    """An image of the folder; of files with the same content it is one."""

    path: str
    label: str | None
    sha256: str


class ImageFolder:
    """The images of a folder, or of a list of files, brought to one size; an array to read from.

    A folder's subfolders are its classes, with all that lies in them; what lies in a subfolder
    `unlabelled` (or `unlabeled`) or in no subfolder has no label. A list is a CSV file with a first
    line `path,label`, or JSON Lines with these keys; paths are relative to the list's folder, and
    an empty label is unknown. Names that begin with a dot and what systems leave behind are passed
    over. Links out of a folder are not followed.

    Images are JPEG, PNG, WebP, BMP, GIF or TIFF by content: see `decoding.decode` for how they are
    brought to 8-bit RGB. Of files with the same content one is taken, a labelled one if there is
    one; if their labels differ, it has none. What is left out is told in `left_out`.

    Every image is decoded once when the folder is read, since a broken one shows only then.
    Without a store it is decoded again, in threads, whenever it is indexed, and order is that of
    the paths. In a store it is kept, and its place too: images that are added come last, images
    that are moved or renamed are known by their content, and those whose files are gone stay. A
    process that is killed while it fills a store loses a few images' work.

    Args:
        path: The folder or the list.
        image_size: Pixels: a square's side, or (height, width).
        fit: `"letterbox"`: whole images, with black around them. `"crop"`: their middle.
        store: A folder for decoded images, H·W·3 bytes each. It may serve several sizes and fits,
            but one `path`.
        progress: Called with what is done (`"reading"` files, or `"decoding"` images), how many
            are done and how many there are.

    Attributes:
        root: The folder that `paths` are relative to, a `pathlib.Path`.
        paths: Each image's file, with `/` between folders.
        sha256: Of each image's file, as hexadecimal digits.
        labels: (n,) int64 read-only, in [0, len(class_names)); −1 where unknown.
        class_names: Sorted; names that differ in their Unicode form alone are one, written as the
            first by path. A folder without a usable image is no class.
        left_out: `(path, reason)` of each file that is not taken, sorted.
        gone: Indices of images in the store whose files are no longer there; they keep their last
            path and label.
        added: Indices of images that have come since the folder was last read into the store.
        fit: As given.
        shape: (n, H, W, 3).
        dtype: uint8.

    Raises:
        ValueError: An argument is wrong, there is not one usable image, or the store is damaged or
            another folder's.

    Warns:
        UserWarning: Files are left out, or gone.

    Example:
        >>> import os
        >>> from PIL import Image
        >>> from emoc_tf.data import ImageFolder
        >>> for number, name in enumerate(["cat/a.png", "dog/b.png", "c.png"]):
        ...     os.makedirs(os.path.dirname(f"photos/{name}"), exist_ok=True)
        ...     Image.new("L", (40, 30), color=50 * number).save(f"photos/{name}")
        >>> images = ImageFolder("photos", image_size=16)
        >>> images.shape, images.class_names
        ((3, 16, 16, 3), ('cat', 'dog'))
        >>> images.paths, images.labels
        (('c.png', 'cat/a.png', 'dog/b.png'), array([-1,  0,  1]))
        >>> images[[0, 2]].shape
        (2, 16, 16, 3)
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        path: str | os.PathLike,
        image_size: int | tuple[int, int] = 96,
        fit: str = "letterbox",
        store: str | os.PathLike | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._size, self.fit = decoding.check_size(image_size, fit), fit
        self._progress = progress or (lambda step, done, total: None)
        self._store = None
        self.root, listed, left_out = listings.list_images(path)
        self.gone, self.added = (), ()
        if store is None:
            kept, _ = self._kept(listed, left_out, lambda path: None)
            kept = [image for image, _ in self._decoded(kept, left_out)]
        else:
            self._store = Store(Path(store).expanduser().absolute(), self._size, fit)
            with self._store.reading_folder():
                kept = self._update_store(listed, left_out)
        del self._progress  # it may be bound to this process
        if not kept:
            first = f"; {_first(sorted(left_out))}" if left_out else ""
            raise ValueError(
                f"path: expected at least one usable image in {str(path)!r}, got none{first}"
            )
        self.paths = tuple(image.path for image in kept)
        self.sha256 = tuple(image.sha256 for image in kept)
        self.class_names, self.labels = listings.class_ids([image.label for image in kept])
        self.left_out = tuple(sorted(left_out))
        self._tell()

    def _tell(self) -> None:
        if self.left_out:
            warnings.warn(
                f"{self.root}: {_first(self.left_out)}; ImageFolder.print_left_out() lists them",
                stacklevel=3,
            )
        if self.gone:
            warnings.warn(
                f"{self.root}: {len(self.gone)} images of the store are no longer in the folder, "
                f"see ImageFolder.gone",
                stacklevel=3,
            )

    def _kept(
        self, listed: list[Listed], left_out: list[LeftOut], known: Callable[[str], str | None]
    ) -> tuple[list[_Kept], dict[str, str]]:
        """Returns the images by path, one for each content, and the digest of each file."""

        def digest(path: str) -> str | LeftOut:
            try:
                return known(path) or decoding.digest(self.root / path)
            except decoding.LeftOutError as error:
                return LeftOut(path, str(error))

        paths = list(dict.fromkeys(image.path for image in listed))
        digests = {}
        for path, found in zip(paths, self._in_threads("reading", digest, paths), strict=True):
            if isinstance(found, LeftOut):
                left_out.append(found)
            else:
                digests[path] = found
        groups: dict[str, list[Listed]] = {}
        for image in listed:
            if image.path in digests:
                groups.setdefault(digests[image.path], []).append(image)
        kept = sorted(_one_of(group, sha256, left_out) for sha256, group in groups.items())
        return kept, digests

    def _decoded(
        self, kept: list[_Kept], left_out: list[LeftOut]
    ) -> Iterator[tuple[_Kept, np.ndarray]]:
        """Yields each image that can be decoded, with its pixels; the others are left out."""

        def decoded(image: _Kept) -> np.ndarray | LeftOut:
            try:
                return self._decode(image.path, image.sha256)
            except decoding.LeftOutError as error:
                return LeftOut(image.path, str(error))

        for image, found in zip(kept, self._in_threads("decoding", decoded, kept), strict=True):
            if isinstance(found, LeftOut):
                left_out.append(found)
            else:
                yield image, found

    def _decode(self, path: str, sha256: str) -> np.ndarray:
        return decoding.decode(self.root / path, self._size, self.fit, sha256)

    def _in_threads(self, step: str, function: Callable, inputs: Sequence) -> Iterator:
        """Yields function(input) of each, some at a time, so that Ctrl-C is heard soon."""
        with _threads() as threads:
            for start in range(0, len(inputs), _BLOCK):
                yield from threads.map(function, inputs[start : start + _BLOCK])
                self._progress(step, min(start + _BLOCK, len(inputs)), len(inputs))

    def _update_store(self, listed: list[Listed], left_out: list[LeftOut]) -> list[_Kept]:
        """Decodes what the store has not got; returns all its images in its order."""
        store = self._store
        found, digests = self._kept(
            listed, left_out, lambda path: store.known_digest(path, self.root / path)
        )
        here = {image.sha256: image for image in found}
        if store.sha256 and here.keys().isdisjoint(store.sha256):
            raise ValueError(
                f"store: expected the store of {self.root}, got one with {len(store.sha256)} "
                f"images, none of which is there; name another folder"
            )
        first_new = store.last_whole or None
        new = sorted(here.keys() - set(store.sha256), key=lambda sha256: here[sha256])
        block: list[tuple[_Kept, np.ndarray]] = []
        for decoded in self._decoded([here[sha256] for sha256 in new], left_out):
            block.append(decoded)
            if len(block) == _BLOCK:
                _append(store, block)
        _append(store, block)
        images = []
        for sha256, known in zip(store.sha256, store.known, strict=True):
            images.append(here.get(sha256) or _Kept(known.path, known.label, sha256))
        self.gone = tuple(i for i, sha256 in enumerate(store.sha256) if sha256 not in here)
        self.added = () if first_new is None else tuple(range(first_new, len(images)))
        store.finish(
            [Known(image.path, image.label) for image in images],
            [(path, self.root / path, sha256) for path, sha256 in digests.items()],
        )
        return images

    @property
    def stored(self) -> Stored | None:
        """Where the decoded images lie; None without a store."""
        return None if self._store is None else Stored(self._store.folder, self.sha256)

    @property
    def mapped(self) -> np.ndarray | None:
        """The decoded images as a read-only array on the disk; None without a store."""
        return None if self._store is None else self._store.images

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n, H, W, 3)."""
        return (len(self), *self._size, 3)

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"<ImageFolder {str(self.root)!r}: {self.shape}, {len(self.class_names)} classes>"

    def __iter__(self) -> Iterator[np.ndarray]:
        for start in range(0, len(self), _BLOCK):
            yield from self[start : start + _BLOCK]

    def __getitem__(self, index: Any) -> np.ndarray:
        """Returns images as uint8.

        Args:
            index: An integer, (H, W, 3) is returned; a slice; integers or a mask (n,), in an array
                or a list: as NumPy takes them.

        Raises:
            IndexError: It is none of these, or out of range.
            ValueError: A file that is to be decoded is no longer what it was.
        """
        chosen = positions(index, len(self))
        if self._store is not None:
            return np.asarray(self._store.images[chosen if not isinstance(index, slice) else index])
        if np.ndim(chosen) == 0:
            return self._decode_again(int(chosen))
        different, places = np.unique(chosen, return_inverse=True)
        images = np.empty((len(different), *self._size, 3), np.uint8)
        with _threads() as threads:
            for place, image in enumerate(threads.map(self._decode_again, different)):
                images[place] = image
        return images[places.reshape(np.shape(chosen))]

    def _decode_again(self, i: int) -> np.ndarray:
        try:
            return self._decode(self.paths[i], self.sha256[i])
        except decoding.LeftOutError as error:
            raise ValueError(
                f"images: {self.root / self.paths[i]} is not what it was: {error}; read the folder "
                f"again, with a store if its files may change"
            ) from None

    def left_out_text(self) -> str:
        """Returns what is left out, a line a file: its path and why."""
        return listings.table(self.left_out)

    def print_left_out(self) -> None:
        """Prints `left_out_text`."""
        print(self.left_out_text() or "nothing is left out")


def _first(left_out: Sequence[LeftOut]) -> str:
    count = "1 file is" if len(left_out) == 1 else f"{len(left_out)} files are"
    return f"{count} left out, such as {left_out[0].path!r}: {left_out[0].reason}"


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(cores())


def _append(store: Store, block: list[tuple[_Kept, np.ndarray]]) -> None:
    if block:
        kept, images = zip(*block, strict=True)
        known = [Known(image.path, image.label) for image in kept]
        store.append(np.stack(images), [image.sha256 for image in kept], known)
        block.clear()


def _one_of(group: list[Listed], sha256: str, left_out: list[LeftOut]) -> _Kept:
    """Returns the image that stands for files of one content; the others are left out."""
    labelled = [image for image in group if image.label is not None]
    kept = (labelled or group)[0]
    names = sorted({image.label for image in labelled})
    differ = f" under another label ({', '.join(names)}), so that it has none"
    for image in group:
        if image is not kept and (image.path != kept.path or len(names) > 1):
            reason = f"the same image as {kept.path}" + (differ if len(names) > 1 else "")
            left_out.append(LeftOut(image.path, reason))
    return _Kept(kept.path, kept.label if len(names) == 1 else None, sha256)
