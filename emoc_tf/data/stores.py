"""Images that are decoded once, into one file that is mapped into memory.

A store is a folder for each size and fit, with

- `emoc_store.json`: the settings;
- `images.bin`: the images one after the other, H·W·3 bytes each, only ever added to;
- `index.jsonl`: a line an image, with the SHA-256 of its file. A line is written when its image is
  on the disk, so that an image counts from its line on, and whatever lies beyond the last whole
  line is written over;
- `files.json`: which file had which content when the folder was last read to the end;
- `frozen-*.npy`: what frozen layers of a model compute of the images, see `models.kept_outputs`.
"""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from emoc_tf.data.listings import STORE_MARK
from emoc_tf.storage import atomic
from emoc_tf.storage.locks import FolderLock

_FORMAT = 1
_NS_PER_SECOND = 1_000_000_000


class Known(NamedTuple):
    """What a store knows of an image.

    Attributes:
        path: Where its file was last.
        label: The name of its class then; None where unknown.
    """

    path: str
    label: str | None


class Store:
    """Decoded images of one size, in the order in which they came.

    Attributes:
        sha256: Of each image's file.
        known: What was last known of each image.
        last_whole: How many images there were when the folder was last read to the end; 0 if that
            never was.
    """

    sha256: list[str]
    known: list[Known]
    last_whole: int

    def __init__(self, folder: Path, size: tuple[int, int], fit: str) -> None:
        self._folder = folder / f"{size[0]}x{size[1]}-{fit}"
        self._shape = (*size, 3)
        self._settings = {"format": _FORMAT, "image_size": list(size), "fit": fit}
        self._map: np.ndarray | None = None
        self._stats: dict[str, list] = {}
        self.sha256, self.known, self.last_whole = [], [], 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}  # mapped anew wherever it goes

    @property
    def folder(self) -> Path:
        """Where the images of this size and fit lie."""
        return self._folder

    @property
    def images(self) -> np.ndarray:
        """The images as a read-only array on the disk, (n, H, W, 3) uint8."""
        if self._map is None or len(self._map) != len(self.sha256):
            shape = (len(self.sha256), *self._shape)
            self._map = np.memmap(self._folder / "images.bin", np.uint8, "r", shape=shape)
        return self._map

    @contextlib.contextmanager
    def reading_folder(self) -> Iterator[None]:
        """Keeps the store for one process, which may add to it, and loads what is there.

        Raises:
            ValueError: The folder holds something else, or a damaged store.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise ValueError(
                f"store: expected a folder, got {self._folder.parent}, which is or lies in a file"
            ) from None
        with FolderLock(self._folder):
            atomic.remove_asides(self._folder)
            self._load()
            yield

    def _load(self) -> None:
        mark = self._folder / STORE_MARK
        others = [name for name in os.listdir(self._folder) if name != ".lock"]
        if not mark.exists():
            if others:
                raise ValueError(
                    f"store: expected an empty folder or a store, got {self._folder} with "
                    f"{sorted(others)[0]!r}; name another folder"
                )
            atomic.write_text(mark, json.dumps(self._settings) + "\n")
        if _read_json(mark) != self._settings:
            raise ValueError(
                f"store: expected {self._folder} to be made by this version with {self._settings}, "
                f"got another {STORE_MARK}; name another folder"
            )
        for name in ("images.bin", "index.jsonl"):
            (self._folder / name).touch()
        lines = (self._folder / "index.jsonl").read_bytes().split(b"\n")[:-1]
        try:
            rows = [json.loads(line) for line in lines]
            self.sha256 = [row["sha256"] for row in rows]
            self.known = [Known(row["path"], row["label"]) for row in rows]
        except (ValueError, KeyError, TypeError):
            raise self._damaged("index.jsonl has a broken line") from None
        if (self._folder / "images.bin").stat().st_size < len(self.sha256) * self._image_bytes:
            raise self._damaged("images.bin is shorter than index.jsonl tells")
        # Behind the last whole line and its image: what a killed process left.
        os.truncate(self._folder / "index.jsonl", sum(len(line) + 1 for line in lines))
        os.truncate(self._folder / "images.bin", len(self.sha256) * self._image_bytes)
        self._load_files()

    def _load_files(self) -> None:
        file = self._folder / "files.json"
        if not file.exists():
            return
        found = _read_json(file)
        try:
            self.last_whole, self._stats = found["images"], found["files"]
            for position, (path, label) in enumerate(found["known"]):
                self.known[position] = Known(path, label)
        except (KeyError, TypeError, ValueError, IndexError):
            raise self._damaged("files.json does not fit the other files") from None

    def _damaged(self, what: str) -> ValueError:
        return ValueError(
            f"store: {self._folder} is damaged, {what}; move that folder away and it is made anew"
        )

    @property
    def _image_bytes(self) -> int:
        return int(np.prod(self._shape))

    def known_digest(self, path: str, file: Path) -> str | None:
        """Returns a file's SHA-256 if it is the same file, unchanged since it was last read."""
        found = self._stats.get(path)
        return found[-1] if found and found[:-1] == _stat(file) else None

    def append(self, images: np.ndarray, sha256: Sequence[str], known: Sequence[Known]) -> None:
        """Adds images at the end; from then on they stay.

        Args:
            images: (k, H, W, 3) uint8.
            sha256: Of each one's file.
            known: What is known of each.
        """
        _add(self._folder / "images.bin", images.tobytes())
        lines = [
            json.dumps({"sha256": digest, "path": path, "label": label}) + "\n"
            for digest, (path, label) in zip(sha256, known, strict=True)
        ]
        _add(self._folder / "index.jsonl", "".join(lines).encode())
        self.sha256 += sha256
        self.known += known

    def finish(self, known: Sequence[Known], digests: Iterable[tuple[str, Path, str]]) -> None:
        """Notes that the folder was read to the end.

        Args:
            known: What is known of each image now.
            digests: The path, the file and the SHA-256 of each image file.
        """
        self.known = list(known)
        stats = {}
        for path, file, digest in digests:
            # Written just now, it could be written again without looking any different.
            with contextlib.suppress(OSError):
                found = _stat(file)
                if max(found[1:3]) + 2 * _NS_PER_SECOND < _now(self._folder):
                    stats[path] = [*found, digest]
        self._stats = stats
        content = {"images": len(self.sha256), "known": self.known, "files": stats}
        atomic.write_text(self._folder / "files.json", json.dumps(content) + "\n")


def _stat(file: Path) -> list[int]:
    found = os.stat(file)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _now(folder: Path) -> int:
    return (folder / ".lock").stat().st_mtime_ns  # by the clock of the disk


def _add(file: Path, content: bytes) -> None:
    with open(file, "ab") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return None
