"""The system's locks, and the library's that stand in for them on Windows."""

import pytest

from emoc_tf.storage import atomic, system_locks
from emoc_tf.storage.locks import FolderLock


@pytest.fixture(params=["fcntl", "portalocker"])
def way(request, monkeypatch):
    if request.param == "portalocker":
        monkeypatch.setattr(system_locks, "fcntl", None)
    return request.param


def test_one_has_a_lock_alone_and_many_share_one(way, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with open(path, "r+") as one, open(path, "r+") as two, open(path, "r+") as three:
        assert system_locks.lock(one.fileno(), shared=True)
        assert system_locks.lock(two.fileno(), shared=True)
        assert not system_locks.lock(three.fileno())
    with open(path, "r+") as one, open(path, "r+") as two:
        assert system_locks.lock(one.fileno())
        assert not system_locks.lock(two.fileno())
        assert not system_locks.lock(two.fileno(), shared=True)
    with open(path, "r+") as again:
        assert system_locks.lock(again.fileno())


def test_folders_and_files_being_written_are_kept(way, tmp_path):
    one, two = FolderLock(tmp_path), FolderLock(tmp_path)
    assert one.acquire()
    assert not two.acquire()
    assert two.held_elsewhere()
    one.release()
    assert two.acquire()
    two.release()
    aside = tmp_path / ".steps.csv.1-0123abcd"
    aside.write_text("half")
    with open(aside, "rb") as writing:
        assert system_locks.lock(writing.fileno())
        atomic.remove_asides(tmp_path)
        assert aside.exists()
    atomic.remove_asides(tmp_path)
    assert not aside.exists()


def test_where_processors_cannot_be_asked_for_all_are_counted(monkeypatch):
    assert system_locks.cores() >= 1
    monkeypatch.delattr("os.sched_getaffinity")
    assert system_locks.cores() >= 1
