"""Tensors of PyTorch's old files, read without PyTorch: rightly, or not at all."""

import collections
import io
import pickle
import sys
import types

import numpy as np
import pytest

from emoc_tf.models import torch_files
from emoc_tf.models.torch_files import read_tensors

BEGIN = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True}]
NUMBERS = np.arange(24, dtype=np.float32)
CALLED = []


@pytest.fixture
def torch(monkeypatch):
    """What of PyTorch's names is written into such a file."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch.LongStorage = type("LongStorage", (), {"__module__": "torch"})
    torch.DoubleStorage = type("DoubleStorage", (), {"__module__": "torch"})

    def _rebuild_tensor_v2(*arguments):
        raise AssertionError

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2, torch._utils = _rebuild_tensor_v2, utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


class Storage:
    def __init__(self, kind, key, numbers):
        self.kind, self.key, self.numbers = kind, key, numbers


class Tensor:
    def __init__(self, storage, offset, shape, strides):
        self.told = storage, offset, shape, strides, False, collections.OrderedDict()

    def __reduce__(self):
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.told


class Pickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            return "storage", thing.kind, thing.key, "cpu", len(thing.numbers), None
        return None


def written(path, tensors, begin=BEGIN, cut=0, count=None):
    """Writes tensors as `torch.save` did before 1.6."""
    file = io.BytesIO()
    for part in begin:
        pickle.dump(part, file, protocol=2)
    Pickler(file, 2).dump(tensors)
    storages = {t.told[0].key: t.told[0] for t in tensors.values() if isinstance(t, Tensor)}
    pickle.dump(list(storages), file, protocol=2)
    for storage in storages.values():
        file.write((count or len(storage.numbers)).to_bytes(8, "little"))
        file.write(storage.numbers.tobytes())
    path.write_bytes(file.getvalue()[: -cut or None])
    return path


def storage(torch, numbers=NUMBERS, key="1"):
    kind = torch.LongStorage if numbers.dtype == np.int64 else torch.FloatStorage
    return Storage(kind, key, numbers)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (2, 3, 4), (12, 4, 1)),
        (0, (2, 3, 4), (1, 8, 2)),
        (0, (4, 1, 2, 3), (1, 1, 12, 4)),
        (3, (2, 5), (1, 3)),
        (5, (3,), (0,)),
        (7, (), ()),
    ],
)
def test_strides_are_followed(torch, tmp_path, offset, shape, strides):
    tensors = collections.OrderedDict(a=Tensor(storage(torch), offset, shape, strides))
    tensors["count"] = Tensor(storage(torch, np.array([7]), "2"), 0, (), ())
    tensors._metadata = collections.OrderedDict(version=1)  # as modules leave it there
    found = read_tensors(written(tmp_path / "a.pth", tensors))
    expected = np.empty(shape, np.float32)
    for index in np.ndindex(shape):
        expected[index] = NUMBERS[offset + sum(i * s for i, s in zip(index, strides, strict=True))]
    np.testing.assert_array_equal(found["a"], expected)
    assert found["a"].flags.c_contiguous and found["a"].flags.owndata
    assert found["count"] == 7 and found["count"].dtype == np.int64


class Calls:
    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function, ("x",)


@pytest.mark.parametrize("function", [CALLED.append, print, eval, __import__, np.load])
def test_nothing_is_called_that_a_file_names(torch, tmp_path, function):
    for begin, tensors in ((BEGIN, {"a": Calls(function)}), ([Calls(function)], {})):
        path = written(tmp_path / "a.pth", tensors, begin)
        with pytest.raises(ValueError, match=r"weights: expected a file of tensors .*[(]it names "):
            read_tensors(path)
    assert not CALLED


@pytest.mark.parametrize(
    ("offset", "shape", "strides"),
    [
        (0, (25,), (1,)), (1, (24,), (1,)), (0, (2, 3, 5), (12, 4, 1)), (-1, (2,), (1,)),
        (20, (2,), (-1,)), (0, (2, 2), (1,)), (0, (2.0,), (1,)), (0, (-2,), (1,)),
    ],
)  # fmt: skip
def test_a_tensor_beyond_its_storage_is_refused(torch, tmp_path, offset, shape, strides):
    path = written(tmp_path / "a.pth", {"a": Tensor(storage(torch), offset, shape, strides)})
    with pytest.raises(ValueError, match="weights: expected a file of tensors"):
        read_tensors(path)


def test_what_is_damaged_or_something_else_is_refused(torch, tmp_path):
    whole = {"a": Tensor(storage(torch), 0, (24,), (1,))}
    double = {"a": Tensor(Storage(torch.DoubleStorage, "1", NUMBERS), 0, (24,), (1,))}
    files = [
        written(tmp_path / "cut.pth", whole, cut=4),
        written(tmp_path / "few.pth", whole, count=23),
        written(tmp_path / "double.pth", double),
        written(tmp_path / "number.pth", {"a": 3}),
        written(tmp_path / "list.pth", {"a": [1]}),
        written(tmp_path / "big.pth", whole, [*BEGIN[:2], {"little_endian": False}]),
        written(tmp_path / "other.pth", whole, [1, *BEGIN[1:]]),
    ]
    for name, content in (("empty", b""), ("zip", b"PK\3\4abc"), ("text", b"hello there")):
        files.append(tmp_path / f"{name}.pth")
        files[-1].write_bytes(content)
    for file in files:
        with pytest.raises(ValueError, match=r"weights: .*\.pth, which cannot be read .*anew$"):
            read_tensors(file)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "none.pth")
    assert torch_files.read_tensors(written(tmp_path / "whole.pth", whole))["a"].sum() == 276
