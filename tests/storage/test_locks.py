import fcntl
import multiprocessing
import os
import threading
import time

import pytest

from emoc_tf.storage.locks import FolderLock


def test_one_owner_at_a_time_who_is_told(tmp_path):
    first, second = FolderLock(tmp_path / "run"), FolderLock(tmp_path / "run")
    assert first.acquire()
    assert not second.acquire()
    assert second.held_elsewhere()
    assert not first.held_elsewhere()
    assert second.owner().startswith(f"process {os.getpid()} on ")
    assert " since 20" in second.owner()
    first.release()
    assert second.owner() == "another process"
    assert not list((tmp_path / "run").iterdir())
    assert second.acquire()
    first.release()  # not held: nothing happens
    assert first.held_elsewhere()


def test_a_lock_on_a_file_that_its_owner_has_just_removed_is_none(tmp_path, monkeypatch):
    owner, waiting, third = (FolderLock(tmp_path) for _ in range(3))
    assert owner.acquire()
    original, calls = fcntl.flock, []

    def flock(descriptor, operation):
        if not calls:  # the file is open already
            owner.release()
        calls.append(operation)
        return original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    assert waiting.acquire()
    assert len(calls) == 2
    assert not third.acquire()


def test_no_file_elsewhere_is_written_to(tmp_path):
    (tmp_path / "thesis.tex").write_text("four years")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(OSError, match=r"\.lock"):
        FolderLock(tmp_path / "run").acquire()
    assert (tmp_path / "thesis.tex").read_text() == "four years"


def test_a_full_disk_does_not_leave_a_lock_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with FolderLock(tmp_path):
        assert FolderLock(tmp_path).held_elsewhere()
        assert FolderLock(tmp_path).owner() == "another process"
    assert not list(tmp_path.iterdir())


def hold_and_die(folder, ready):
    FolderLock(folder).acquire()
    ready.set()
    time.sleep(60)


def test_a_dead_owner_is_no_hindrance(tmp_path):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    owner = context.Process(target=hold_and_die, args=(tmp_path, ready))
    owner.start()
    assert ready.wait(60)
    lock = FolderLock(tmp_path)
    assert not lock.acquire()
    assert f"process {owner.pid} " in lock.owner()
    owner.kill()
    owner.join()
    assert (tmp_path / ".lock").exists()
    assert lock.acquire()
    assert f"process {os.getpid()} " in lock.owner()


def test_waiting_takes_turns(tmp_path):
    inside, most = 0, 0

    def work():
        nonlocal inside, most
        with FolderLock(tmp_path):
            inside += 1
            most = max(most, inside)
            time.sleep(0.02)
            inside -= 1

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_asking_writes_nothing(tmp_path):
    folder = tmp_path / "run"
    assert not FolderLock(folder).held_elsewhere()
    assert not folder.exists()
    folder.mkdir()
    assert not FolderLock(folder).held_elsewhere()
    assert not list(folder.iterdir())
    left = folder / ".lock"
    left.write_text("of a dead owner")
    before = left.stat()
    folder.chmod(0o555)
    assert not FolderLock(folder).held_elsewhere()
    folder.chmod(0o755)
    assert left.read_text() == "of a dead owner"
    after = left.stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_many_questions_keep_nobody_out(tmp_path):
    stop, asked = threading.Event(), []

    def ask():
        while not stop.is_set():
            asked.append(FolderLock(tmp_path).held_elsewhere())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(300):
            (tmp_path / ".lock").touch()  # left by a dead owner
            lock = FolderLock(tmp_path)
            assert lock.acquire()
            lock.release()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert asked


def test_a_question_sees_who_holds_the_lock_in_this_process(tmp_path):
    with FolderLock(tmp_path) as lock:
        assert FolderLock(tmp_path).held_elsewhere()
        assert not lock.held_elsewhere()
    assert not FolderLock(tmp_path).held_elsewhere()
