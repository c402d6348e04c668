import numpy as np
import pytest

from emoc_tf import checkpoint


def test_arrays_round_trip(tmp_path):
    path = tmp_path / "new" / "arrays.npz"
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.array("text")}
    checkpoint.write_arrays(path, arrays)
    found = checkpoint.read_arrays(path)
    np.testing.assert_array_equal(found["a"], arrays["a"])
    assert str(found["b"]) == "text"
    assert [file.name for file in path.parent.iterdir()] == ["arrays.npz"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    checkpoint.write_text(path, "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        checkpoint.write_text(path, "new")
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
