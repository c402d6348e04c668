"""Files that are either whole or not there, and checkpoints made of them.

A file is written aside, flushed to disk, then renamed. Arrays are `.npz` without pickle, with a
checksum over all of them; what is read is untrusted until that fits.
"""

import hashlib
import io
import json
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoc_tf.storage.atomic import write_bytes

# Of the files that `Checkpoint.write` writes; another number is another layout.
FORMAT = 1
_HEADER, _CHECKSUM = "header", "sha256"


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _npz(arrays: dict[str, np.ndarray]) -> bytes:
    # Not by `allow_pickle=False`, which older releases of NumPy take for the name of an array.
    objects = [name for name, array in arrays.items() if np.asarray(array).dtype.hasobject]
    if objects:
        raise ValueError(f"arrays: expected numbers or text, got objects in {objects}")
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **{_CHECKSUM: np.array(_checksum(arrays))})
    return buffer.getvalue()


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    """Reads what `_npz` wrote. No entry takes more memory than it has bytes in the file."""
    arrays = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("an entry is compressed")
        if sum(entry.file_size for entry in entries) > len(content):
            raise ValueError("the entries are larger than the file")
        for entry in entries:
            arrays[entry.filename.removesuffix(".npy")] = _array(archive.read(entry))
    if str(arrays.pop(_CHECKSUM, None)) != _checksum(arrays):
        raise ValueError("the checksum is another one")
    return arrays


def _array(content: bytes) -> np.ndarray:
    file = io.BytesIO(content)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array is of another version of the .npy format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype.hasobject or file.tell() + math.prod(shape) * dtype.itemsize != len(content):
        raise ValueError("an array is not as large as it says")
    file.seek(0)
    return np.load(file, allow_pickle=False)


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes named arrays with their checksum atomically as `.npz`."""
    write_bytes(path, _npz(arrays))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_arrays` wrote; nothing in the file is executed.

    Raises:
        ValueError: The file is cut short, changed, or something else.
        FileNotFoundError: There is no such file.
    """
    try:
        return _arrays(path.read_bytes())
    except OSError:
        raise
    except Exception as error:  # whatever a broken archive or header makes the parsers raise
        raise ValueError(
            f"{path}: expected a whole .npz file that was written here, got one that fails: {error}"
        ) from error


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """All that is needed to go on, in one file.

    Attributes:
        header: JSON values.
        arrays: Named arrays of numbers or text.
    """

    header: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def write(self, path: str | Path, previous: str | Path | None = None) -> None:
        """Writes the file atomically; `previous` as in `write_bytes`."""
        text = json.dumps({"format": FORMAT, **self.header}).encode()
        content = _npz({_HEADER: np.frombuffer(text, np.uint8), **self.arrays})
        write_bytes(Path(path), content, None if previous is None else Path(previous))

    @classmethod
    def read(cls, path: str | Path) -> "Checkpoint":
        """Reads a file; nothing in it is executed.

        Raises:
            ValueError: The file is broken, of another format, or something else.
            FileNotFoundError: There is no such file.
        """
        arrays = read_arrays(Path(path))
        try:
            header = json.loads(arrays.pop(_HEADER).tobytes())
            found = header.pop("format")
        except (KeyError, ValueError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path}: expected a checkpoint, got another file ({error})") from None
        if found != FORMAT:
            raise ValueError(
                f"{path}: expected a checkpoint of format {FORMAT}, got format {found!r}: written "
                f"by another version of emoc_tf"
            )
        return cls(header, arrays)


def write_generation(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint and keeps the one before it."""
    checkpoint.write(*generations(path))


def read_generation(path: Path) -> Checkpoint | None:
    """Returns the newest whole checkpoint of the two that are kept, or None if there is none.

    A broken one is renamed to `NAME.broken`, lest it take the place of a whole one.

    Raises:
        ValueError: There are checkpoints, but none is whole.
    """
    errors = []
    for candidate in generations(path):
        try:
            found = Checkpoint.read(candidate)
        except FileNotFoundError:
            continue
        except ValueError as error:
            errors.append((candidate, error))
            continue
        for broken, _ in errors:
            os.replace(broken, broken.with_name(f"{broken.name}.broken"))
        return found
    if errors:
        raise ValueError(
            f"{'; '.join(str(error) for _, error in errors)}; no other checkpoint is left"
        )
    return None


def remove_generations(path: Path) -> None:
    """Removes both checkpoints."""
    for file in generations(path):
        file.unlink(missing_ok=True)


def generations(path: Path) -> tuple[Path, Path]:
    """Returns where the newest checkpoint is and where the one before it."""
    return path, path.with_name(f"{path.stem}.previous{path.suffix}")
