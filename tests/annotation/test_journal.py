"""What was said is on the disk before anybody is told; nothing half is ever read."""

import errno
import json
import os
import resource
import signal

import pytest

from emoc_tf.annotation.journal import Follower, Journal, NotSavedError

ONE, TWO = {"kind": "answer", "name": "caf\u00e9"}, {"kind": "undo", "of": 0}


def test_lines_are_read_again(tmp_path):
    journal = Journal(tmp_path / "new" / "a.jsonl")
    assert [journal.append(ONE), journal.append(TWO)] == [0, 1]
    assert Journal(journal.path).entries == [ONE, TWO]
    assert journal.path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("cut", range(1, 30, 4))
def test_what_was_half_written_is_dropped(tmp_path, cut):
    journal = Journal(tmp_path / "a.jsonl")
    journal.append(ONE)
    whole = journal.path.read_bytes()
    journal.append({"kind": "correct", "images": ["x" * 40]})
    journal.path.write_bytes(journal.path.read_bytes()[: len(whole) + cut])
    again = Journal(journal.path)
    assert again.entries == [ONE] and again.dropped == cut
    again.append(TWO)
    assert Journal(journal.path).entries == [ONE, TWO]


def full_disk(after, error=errno.ENOSPC):
    """Writes so many bytes, then none."""
    left = [after]

    def write(descriptor, content):
        part = content[: left[0]]
        left[0] -= len(part)
        if not len(part):
            raise OSError(error, os.strerror(error))
        return os.write(descriptor, part)

    return write, left


@pytest.mark.parametrize("after", [0, 1, 7])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_leaves_nothing_of_a_line(tmp_path, after, error):
    write, left = full_disk(10_000, error)
    journal = Journal(tmp_path / "a.jsonl", write)
    journal.append(ONE)
    content = journal.path.read_bytes()
    left[0] = after
    for _ in range(2):
        with pytest.raises(NotSavedError, match="not saved"):
            journal.append(TWO)
        assert journal.path.read_bytes() == content and journal.entries == [ONE]
    left[0] = 10_000
    assert journal.append(TWO) == 1
    assert Journal(journal.path).entries == [ONE, TWO]


def test_a_line_is_on_the_disk_before_it_counts(tmp_path, monkeypatch):
    journal, flush = Journal(tmp_path / "a.jsonl"), os.fsync
    flushed = []
    monkeypatch.setattr(
        os, "fsync", lambda d: (flushed.append(len(journal.path.read_bytes())), flush(d))
    )
    for _ in range(3):
        journal.append(ONE)
        assert flushed[-1] == journal.path.stat().st_size

    def broken(_):
        raise OSError(errno.EIO, "broken")

    content = journal.path.read_bytes()
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(NotSavedError):
        journal.append(TWO)
    monkeypatch.setattr(os, "fsync", flush)
    assert journal.path.read_bytes() == content
    journal.append(TWO)
    assert Journal(journal.path).entries == [ONE] * 3 + [TWO]


def test_what_cannot_be_taken_off_at_once_is_taken_off_later(tmp_path, monkeypatch):
    write, left = full_disk(5)
    journal = Journal(tmp_path / "a.jsonl", write)

    def broken(*_):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", broken)
        with pytest.raises(NotSavedError):
            journal.append(ONE)
    assert journal.path.stat().st_size == 5
    left[0] = 10_000
    journal.append(TWO)
    assert Journal(journal.path).entries == [TWO]


def test_a_limit_of_the_system_is_told_too(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    journal.append(ONE)
    size = journal.path.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4, before[1]))
    try:
        with pytest.raises(NotSavedError):
            journal.append(TWO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert journal.path.stat().st_size == size
    journal.append(TWO)
    assert Journal(journal.path).entries == [ONE, TWO]


@pytest.mark.parametrize("line", ["{", "[]", '"x"', '{"no": 1}', '{"kind": 5}', "\0\0"])
def test_a_line_of_others_is_refused(tmp_path, line):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps(ONE) + "\n" + line + "\n" + json.dumps(TWO) + "\n")
    with pytest.raises(ValueError, match="line 2: expected a JSON object"):
        Journal(file)


def test_a_follower_reads_no_further_than_it_may(tmp_path):
    journal = Journal(tmp_path / "a.jsonl")
    follower = Follower(journal.path)
    assert follower.read(0) == []
    for i in range(5):
        journal.append({"kind": "goal", "goal": i})
    assert [e["goal"] for e in follower.read(2)] == [0, 1]
    assert follower.read(2) == []
    assert [e["goal"] for e in follower.read(5)] == [2, 3, 4]
