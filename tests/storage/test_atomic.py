import fcntl
import os
import stat
import threading

import pytest

from emoc_tf.storage import atomic


def in_threads(work, count=2):
    errors = []

    def guarded(number):
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return errors


def test_threads_may_write_one_path(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path = tmp_path / "file.csv"

    def work(number):
        for i in range(400):
            atomic.write_text(path, f"{number} {i}\n" * 50)

    assert in_threads(work) == []
    assert len(set(path.read_text().splitlines())) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_threads_may_keep_the_file_before(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    path, before = tmp_path / "file.npz", tmp_path / "file.previous.npz"

    def work(number):
        for _ in range(200):
            atomic.write_bytes(path, b"x" * 99, before)

    assert in_threads(work, 3) == []
    assert {file.read_bytes() for file in tmp_path.iterdir()} == {b"x" * 99}


def test_permissions_are_those_of_any_new_file(tmp_path):
    for mask, expected in ((0o022, 0o644), (0o077, 0o600), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            atomic.write_text(tmp_path / f"{mask}", "")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask}").stat().st_mode) == expected


def test_leftovers_of_dead_processes_are_removed_and_nothing_else(tmp_path):
    kept = [".lock", ".hidden", "steps.csv", ".notes.txt", "a.1", ".steps.csv.draft"]
    for name in (*kept, ".steps.csv.4711", ".config.json.12-0a1b2c3d", ".policy.99-00ff00ff"):
        (tmp_path / name).write_text("")
    atomic.remove_asides(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(kept)
    atomic.remove_asides(tmp_path / "none")


def test_what_is_being_written_is_no_leftover(tmp_path, monkeypatch):
    seen = []

    def fsync(descriptor):
        if not seen:
            (aside,) = tmp_path.iterdir()
            atomic.remove_asides(tmp_path)
            seen.append(aside.exists())

    monkeypatch.setattr(os, "fsync", fsync)
    atomic.write_text(tmp_path / "steps.csv", "whole")
    assert seen == [True]
    assert (tmp_path / "steps.csv").read_text() == "whole"


def test_a_killed_writers_file_is_a_leftover(tmp_path):
    process = os.fork()
    if not process:
        os.fsync = lambda descriptor: os._exit(0)
        atomic.write_text(tmp_path / "steps.csv", "half")
    os.waitpid(process, 0)
    assert len(list(tmp_path.iterdir())) == 1
    atomic.remove_asides(tmp_path)
    assert not list(tmp_path.iterdir())


def test_file_systems_without_locks_do(tmp_path, monkeypatch):
    def flock(*arguments):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    atomic.write_text(tmp_path / "steps.csv", "whole")
    assert (tmp_path / "steps.csv").read_text() == "whole"


@pytest.mark.parametrize("kept", [False, True])
def test_where_open_files_cannot_be_renamed_they_are_closed_first(tmp_path, monkeypatch, kept):
    """As on Windows, where renaming an open file is an error."""
    path, replace = tmp_path / "file.npz", os.replace
    previous = tmp_path / "file.previous.npz" if kept else None

    def refuse_open(source, target):
        descriptors = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
        if any(os.path.exists(each) and os.path.samefile(each, source) for each in descriptors):
            raise PermissionError(13, "The process cannot access the file", str(source))
        replace(source, target)

    for content in (b"first", b"second"):
        with monkeypatch.context() as patches:
            patches.setattr(os, "replace", refuse_open)
            patches.setattr(os, "name", "nt")
            atomic.write_bytes(path, content, previous)
        assert path.read_bytes() == content
    found = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert found == {"file.npz": b"second"} | ({"file.previous.npz": b"first"} if kept else {})
