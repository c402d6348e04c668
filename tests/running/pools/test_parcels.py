"""Runs whose files travel, without a cluster: what one end packs, the other works on."""

import dataclasses
import tempfile
from pathlib import Path

import pytest

from emoc_tf.records import run_folder
from emoc_tf.records.run_record import pretrained_path
from emoc_tf.running import patience
from emoc_tf.running.attempts import Shared
from emoc_tf.running.pools import ray_task
from emoc_tf.running.pools.parcels import Change, Parcel, Parcels, Sent, serve
from emoc_tf.running.single_run import Grid, make_agent
from emoc_tf.storage.locks import FolderLock
from tests.running.attempts import assert_tidy, attempt
from tests.running.soak import records

RUN = ("1-vs-2", 3)
SHARED = Shared({}, lambda env: None, None)


class Lost(BaseException):
    """The machine is gone."""


@pytest.fixture
def parcels(world, tmp_path, monkeypatch):
    config, env = world
    monkeypatch.setattr(Grid, "make_environment", lambda self: env)
    grid = Grid(config, tmp_path / "out")
    return Parcels(
        grid, SHARED, {run: grid.folder(run, make_agent(run)) for run in (RUN, ("min", 3))}
    )


def carry(parcels, run, lost_after=None):
    """Works on a run elsewhere; the machine is lost after so many steps came back."""
    steps = 0

    def stepped(change):
        nonlocal steps
        steps += 1
        parcels.unpack(run, change)
        if steps == lost_after:
            raise Lost

    packed = parcels.pack(run)
    elsewhere = dataclasses.replace(parcels.grid, output_dir="/nowhere/that/is")
    try:
        return serve(elsewhere, SHARED, stepped)(packed)
    finally:
        parcels.release(run)


@pytest.mark.parametrize("lost_after", [None, 1, 3])
def test_what_comes_back_is_what_a_run_here_leaves(world, whole, parcels, tmp_path, lost_after):
    if lost_after:
        with pytest.raises(Lost):
            carry(parcels, RUN, lost_after)
        assert parcels.folders[RUN].has_checkpoint
    assert carry(parcels, RUN).error is None
    assert records(tmp_path / "out") == whole
    assert_tidy(tmp_path / "out/1-vs-2/3")
    assert [file.name for file in (tmp_path / "out/shared/3").iterdir()] == ["pretrained.npz"]
    assert parcels.pack(RUN).error is None  # it has ended
    assert not list((tmp_path / "out").rglob(".lock"))


def test_half_done_here_is_resumed_elsewhere_and_back(world, whole, parcels, tmp_path, monkeypatch):
    def stop(self, outcome, reward, timings):
        if outcome.step == 2:
            raise OSError(28, "No space left on device")
        written(self, outcome, reward, timings)

    written = run_folder.RunFolder.write_step
    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunFolder, "write_step", stop)
        assert "No space" in attempt(world, tmp_path / "out").error
    with pytest.raises(Lost):
        carry(parcels, RUN, 1)
    assert (tmp_path / "out/1-vs-2/3/steps.csv").read_bytes().count(b"\n") == 4
    assert attempt(world, tmp_path / "out").error is None
    assert records(tmp_path / "out") == whole


def test_one_run_of_a_seed_makes_the_weights_and_the_others_wait(parcels, tmp_path):
    assert isinstance(parcels.pack(RUN), Parcel)
    assert parcels.pack(("min", 3)) is None
    other = FolderLock(tmp_path / "out/1-vs-2/3")
    assert not other.acquire()
    parcels.release(RUN)
    assert other.acquire()
    other.release()
    path = pretrained_path(tmp_path / "out", 3)
    path.write_bytes(b"weights")
    assert parcels.pack(RUN).files == {"shared/3/pretrained.npz": b"weights"}
    assert isinstance(parcels.pack(("min", 3)), Parcel)  # side by side from here on
    for run in parcels.folders:
        parcels.release(run)


def test_weights_that_another_command_makes_are_waited_for_but_not_for_ever(
    parcels, tmp_path, monkeypatch
):
    with FolderLock(tmp_path / "out/shared/3"):
        assert parcels.pack(RUN) is None
        with monkeypatch.context() as patch:
            patch.setattr(patience, "LIMIT", -1.0)
            told = parcels.pack(RUN).error
        assert "has written nothing into it for -1 s; end that process" in told
        assert "shared/3" in told
    assert isinstance(parcels.pack(RUN), Parcel)
    with monkeypatch.context() as patch:  # a run of this command may take its time
        patch.setattr(patience, "LIMIT", -1.0)
        assert parcels.pack(("min", 3)) is None
    parcels.release(RUN)


@pytest.mark.parametrize(
    "change",
    [
        Change({"min/3/steps.csv": b"other"}, {}, frozenset()),
        Change({}, {"1-vs-2/3/a.npz": "min/3/steps.csv"}, frozenset()),
        Change({}, {"min/3/a.npz": "1-vs-2/3/steps.csv"}, frozenset()),
        Change({}, {}, frozenset({"1-vs-2/33/steps.csv"})),
        Change({"1-vs-2/3/../../../steps.csv": b"other"}, {}, frozenset()),
        Change({"shared/4/pretrained.npz": b"other"}, {}, frozenset()),
    ],
    ids=["written", "read", "renamed", "named", "outside", "another seed's"],
)
def test_what_comes_back_of_another_run_is_refused_before_anything_is_written(
    parcels, tmp_path, change
):
    (tmp_path / "out/min/3").mkdir(parents=True)
    (tmp_path / "out/min/3/steps.csv").write_bytes(b"kept")
    write(parcels)
    with pytest.raises(ValueError, match=r"^ray: expected files of 1-vs-2/3 to come back, got "):
        parcels.unpack(RUN, change)
    files = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert files == {"steps.csv": b"kept", "notes.txt": b"a"}


def test_a_run_of_another_process_is_busy(parcels, tmp_path):
    with FolderLock(tmp_path / "out/1-vs-2/3"):
        assert parcels.pack(RUN).busy
    assert isinstance(parcels.pack(RUN), Parcel)
    parcels.release(RUN)


def test_weights_that_are_there_are_not_replaced(parcels, tmp_path):
    path = pretrained_path(tmp_path / "out", 3)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"first")
    name = "shared/3/pretrained.npz"
    parcels.unpack(RUN, Change({name: b"second"}, {}, frozenset({name})))
    assert path.read_bytes() == b"first"


def test_only_what_is_new_travels(tmp_path):
    sent = Sent(tmp_path, Parcel(RUN, {"1-vs-2/3/steps.csv": b"0", "1-vs-2/3/a.npz": b"1"}))
    assert sent.change() == Change({}, {}, frozenset({"1-vs-2/3/steps.csv", "1-vs-2/3/a.npz"}))
    folder = tmp_path / "1-vs-2/3"
    (folder / "a.npz").rename(folder / "b.npz")
    (folder / "a.npz").write_bytes(b"2")
    (folder / ".lock").write_bytes(b"3")
    (folder / "steps.csv").unlink()
    change = sent.change()
    assert (change.written, change.same) == (
        {"1-vs-2/3/a.npz": b"2"}, {"1-vs-2/3/b.npz": "1-vs-2/3/a.npz"},
    )  # fmt: skip
    assert change.names == {"1-vs-2/3/a.npz", "1-vs-2/3/b.npz"}


def test_a_failure_elsewhere_is_recorded_here_without_its_folder(parcels, tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder.RunFolder, "start", lambda self, *_: (self.path / "none").stat())
    result = carry(parcels, RUN)
    assert result.error.endswith("'/nowhere/that/is/1-vs-2/3/none'")
    assert (tmp_path / "out/1-vs-2/3/failure.json").exists()


def full(*_, **__):
    raise OSError(28, "No space left on device")


def write(parcels):
    """Writes something that travels."""
    folder = parcels.folders[RUN].path
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("a")


def on_machine(parcels, monkeypatch, place):
    """Returns how a run ends, as a machine tells it whose disk is full at some place."""
    monkeypatch.setattr(ray_task, "_begin", lambda setting: ([], True))
    monkeypatch.setattr(ray_task, "_loaded", lambda content: content)
    elsewhere = dataclasses.replace(parcels.grid, output_dir="/nowhere/that/is")
    packed = parcels.pack(RUN)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(*place, full)
            *_, last = ray_task.work_on(
                lambda stepped: serve(elsewhere, SHARED, stepped), None, packed
            )
        return last
    finally:
        parcels.release(RUN)


@pytest.mark.parametrize(
    "place",
    [
        (tempfile, "mkdtemp"), (FolderLock, "acquire"), (Path, "write_bytes"), (Sent, "change"),
        (tempfile, "gettempdir"),
    ],
    ids=["folder", "lock", "files", "changes", "no folder at all"],
)  # fmt: skip
def test_a_full_disk_of_a_machine_is_a_failure_of_the_run_at_hand(parcels, monkeypatch, place):
    write(parcels)
    kind, error = on_machine(parcels, monkeypatch, place)
    assert (kind, str(error)) == ("failed", "[Errno 28] No space left on device")


@pytest.mark.parametrize(
    "place", [(FolderLock, "acquire"), (Path, "read_bytes")], ids=["lock", "files"]
)
def test_a_full_disk_here_is_a_failure_of_the_run_at_hand(parcels, monkeypatch, place):
    write(parcels)
    with monkeypatch.context() as patch:
        patch.setattr(*place, full)
        assert "No space left" in parcels.pack(RUN).error
    assert isinstance(parcels.pack(RUN), Parcel)  # nothing stayed locked
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", full)
        parcels.release(RUN)
    assert isinstance(parcels.pack(RUN), Parcel)
    parcels.release(RUN)
