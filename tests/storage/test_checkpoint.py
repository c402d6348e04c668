import tracemalloc
import zipfile

import numpy as np
import pytest

from emoc_tf.storage import atomic, checkpoint
from emoc_tf.storage.checkpoint import Checkpoint


def test_arrays_round_trip(tmp_path):
    path = tmp_path / "new" / "arrays.npz"
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array("text")}
    checkpoint.write_arrays(path, arrays)
    found = checkpoint.read_arrays(path)
    np.testing.assert_array_equal(found["a"], arrays["a"])
    assert str(found["b"]) == "text"
    assert [file.name for file in path.parent.iterdir()] == ["arrays.npz"]


def test_objects_are_not_written(tmp_path):
    with pytest.raises(
        ValueError, match=r"arrays: expected numbers or text, got objects in \['b'\]"
    ):
        checkpoint.write_arrays(tmp_path / "a.npz", {"a": np.zeros(1), "b": np.array([{}])})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    atomic.write_text(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_text(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_broken_files_are_named_and_nothing_is_executed(tmp_path):
    path = tmp_path / "broken.npz"
    checkpoint.write_arrays(path, {"a": np.arange(1000)})
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"broken.npz: expected a whole .npz file"):
            checkpoint.read_arrays(path)
    path.write_bytes(b"PK not really")
    with pytest.raises(ValueError, match=r"broken.npz: expected a whole .npz file"):
        checkpoint.read_arrays(path)
    np.savez(path, objects=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"broken.npz: expected a whole .npz file"):
        checkpoint.read_arrays(path)


def make_checkpoint(number=0):
    arrays = {"weights": np.arange(30, dtype=np.float32) + number, "name": np.array("ü"),
              "empty": np.zeros((0, 3), np.int64)}  # fmt: skip
    return Checkpoint({"step": number, "rows": [0.1, None, "ü"]}, arrays)


def assert_equal(first, second):
    assert first.header == second.header
    assert set(first.arrays) == set(second.arrays)
    for name, array in first.arrays.items():
        np.testing.assert_array_equal(array, second.arrays[name])
        assert array.dtype == second.arrays[name].dtype


def test_any_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "c.npz"
    make_checkpoint().write(path)
    whole = path.read_bytes()
    harmless = 0
    for place in range(len(whole)):
        broken = bytearray(whole)
        broken[place] ^= 1 << (place % 8)
        path.write_bytes(broken)
        try:
            found = Checkpoint.read(path)
        except ValueError as error:
            assert str(path) in str(error)
        else:  # dates and the like, which say nothing
            assert_equal(found, make_checkpoint())
            harmless += 1
    assert harmless < len(whole) / 5


def test_arrays_that_do_not_fit_the_checksum_are_noticed(tmp_path):
    """Although the archive itself is whole."""
    path = tmp_path / "c.npz"
    checkpoint.write_arrays(path, {"a": np.arange(3), "b": np.arange(3)})
    with np.load(path) as archive:
        arrays = dict(archive)
    for change in ({"a": np.arange(3.0)}, {"a": np.array([0, 2, 1])}, {"c": np.zeros(0)}):
        np.savez(path, **(arrays | change))
        with pytest.raises(ValueError, match=r"c.npz: .*the checksum is another one"):
            checkpoint.read_arrays(path)
    del arrays["b"]
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"c.npz: .*the checksum is another one"):
        checkpoint.read_arrays(path)


def test_any_length_but_the_whole_is_noticed(tmp_path):
    path = tmp_path / "c.npz"
    make_checkpoint().write(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"c.npz: expected a whole .npz file"):
            Checkpoint.read(path)


def npz_with(path, entry, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("weights.npy", entry)


def npy_header(shape, descr="'<f4'"):
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    ("entry", "compression", "message"),
    [
        (b"\0" * 10**7, zipfile.ZIP_DEFLATED, "an entry is compressed"),
        (npy_header((10**12,)), zipfile.ZIP_STORED, "an array is not as large as it says"),
        (npy_header((-4,)) + b"\0" * 16, zipfile.ZIP_STORED, "an array is not as large as it"),
        (npy_header((1,), "'|O'") + b"\0" * 8, zipfile.ZIP_STORED, "an array is not as large"),
        (b"\x93NUMPY\x03\x00" + b"\0" * 99, zipfile.ZIP_STORED, "another version of the .npy"),
    ],
)
def test_bombs_do_not_go_off(tmp_path, entry, compression, message):
    path = tmp_path / "bomb.npz"
    npz_with(path, entry, compression)
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"bomb.npz: .*{message}"):
        checkpoint.read_arrays(path)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()


def test_the_last_two_are_kept_and_the_newest_whole_one_is_read(tmp_path):
    path = tmp_path / "run" / "checkpoint.npz"
    assert checkpoint.read_generation(path) is None
    for number in range(4):
        checkpoint.write_generation(path, make_checkpoint(number))
        assert_equal(checkpoint.read_generation(path), make_checkpoint(number))
    assert len(list(path.parent.iterdir())) == 2
    content = path.read_bytes()
    path.write_bytes(content[:-9])
    assert_equal(checkpoint.read_generation(path), make_checkpoint(2))
    assert (tmp_path / "run" / "checkpoint.npz.broken").read_bytes() == content[:-9]
    checkpoint.write_generation(path, make_checkpoint(4))
    path.unlink()
    assert_equal(checkpoint.read_generation(path), make_checkpoint(2))


def test_other_files_are_no_checkpoints(tmp_path):
    path = tmp_path / "pretrained.npz"
    checkpoint.write_arrays(path, {"a": np.zeros(3)})
    with pytest.raises(ValueError, match=r"pretrained.npz: expected a checkpoint, got another"):
        Checkpoint.read(path)
    with pytest.raises(FileNotFoundError):
        Checkpoint.read(tmp_path / "nothing.npz")
