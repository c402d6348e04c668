"""Weights in files that PyTorch wrote before version 1.6, read without PyTorch.

Such a file is several pickles one after the other (a magic number, a version, the byte order, the
dictionary of tensors, the order of the storages) and then the numbers of each storage. A pickle may
name any function of any library, which is then called: here a few names stand for plain data, and
all others are refused. A tensor is a storage with a shape and strides, which need not be those of
an array whose numbers lie in order.
"""

import collections
import math
import pickle
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


class _Storage(NamedTuple):
    """Where the numbers of tensors lie."""

    key: str
    dtype: np.dtype
    count: int


class _Tensor(NamedTuple):
    """What a pickle tells of a tensor, before its numbers are read."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_tensors(file: str | Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a file that `torch.save(model.state_dict(), file)` wrote, by name.

    Args:
        file: In the format of PyTorch before 1.6.

    Raises:
        ValueError: It is no such file, is damaged, or names something else than tensors.
        OSError: It cannot be read.
    """
    with open(file, "rb") as opened:
        try:
            return _tensors(opened)
        except OSError:
            raise
        except Exception as error:  # a damaged pickle raises anything
            raise ValueError(
                f"weights: expected a file of tensors as PyTorch wrote them before version 1.6, "
                f"got {file}, which cannot be read ({error or type(error).__name__}); install it "
                f"anew"
            ) from None


def _tensors(opened: BinaryIO) -> dict[str, np.ndarray]:
    begin = [_Restricted(opened).load() for _ in range(3)]
    if begin[:2] != [_MAGIC, _VERSION] or not begin[2]["little_endian"]:
        raise ValueError("it begins differently")
    named = _Restricted(opened).load()
    storages = _storages(opened, _Restricted(opened).load(), named)
    return {name: _array(tensor, storages[tensor.storage.key]) for name, tensor in named.items()}


def _storages(
    opened: BinaryIO, keys: list[str], named: dict[str, _Tensor]
) -> dict[str, np.ndarray]:
    """Returns the numbers of each storage, by its key; all are read in the file's order."""
    told = {}
    for name, tensor in named.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"{name!r} is no tensor")
        told[tensor.storage.key] = tensor.storage
    found = {}
    for key in keys:
        storage = told[key]
        count = int.from_bytes(opened.read(8), "little")
        if count != storage.count:
            raise ValueError(f"a storage has {count} numbers in place of {storage.count}")
        content = opened.read(count * storage.dtype.itemsize)
        found[key] = np.frombuffer(content, storage.dtype, count)
    return found


def _array(tensor: _Tensor, numbers: np.ndarray) -> np.ndarray:
    """Returns a tensor as an array of its own whose numbers lie in order."""
    given = (tensor.offset, *tensor.shape, *tensor.strides)
    whole = all(type(number) is int and number >= 0 for number in given)
    if not whole or len(tensor.shape) != len(tensor.strides):
        raise ValueError("a tensor has no plain shape")
    steps = zip(tensor.shape, tensor.strides, strict=True)
    last = tensor.offset + sum((size - 1) * stride for size, stride in steps)
    if math.prod(tensor.shape) and last >= len(numbers):
        raise ValueError("a tensor reaches beyond its storage")
    strides = [stride * numbers.itemsize for stride in tensor.strides]
    view = np.lib.stride_tricks.as_strided(
        numbers[tensor.offset :], tensor.shape, strides, writeable=False
    )
    return np.array(view, order="C")


def _rebuilt(
    storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: Any, **__: Any
) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ValueError("a tensor has no storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


class _Restricted(pickle.Unpickler):
    """Reads dictionaries, numbers, texts and tensors, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if module == "torch" and name in _DTYPES:
            return name
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no part of weights")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, name, key, _, count, view = pid
        if kind != "storage" or view is not None or name not in _DTYPES:
            raise pickle.UnpicklingError("it names something else than a storage")
        return _Storage(key, _DTYPES[name], count)
