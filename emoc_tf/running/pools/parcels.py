"""Runs whose files travel: worked on elsewhere, and brought back step by step."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from emoc_tf.records.record_folder import CHECKPOINT
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.records.run_record import pretrained_path, run_path
from emoc_tf.running import patience
from emoc_tf.running.attempts import Result, Shared, attempt_run, begin, fail, shown
from emoc_tf.running.single_run import Grid, Run
from emoc_tf.storage import atomic, checkpoint
from emoc_tf.storage.locks import NAME, FolderLock

_PREFIX = "emoc_tf-run-"


@dataclass(frozen=True)
class Parcel:
    """A run with its files so far.

    Attributes:
        run: Which.
        files: Contents by path below the output folder.
    """

    run: Run
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Change:
    """What a step did to the files of a run.

    Attributes:
        written: Contents by path below the output folder, of files that are new or others.
        same: Paths of files that were known under another path, which may be another file by now:
            the checkpoint before the last one.
        names: Paths of all files that there are.
        last: Whether the run has ended, which may be before a step.
    """

    written: Mapping[str, bytes]
    same: Mapping[str, str]
    names: frozenset[str]
    last: bool = False


@dataclass
class Parcels:
    """The output folder's end: packs what a run needs, and writes what comes back of it.

    While a run is elsewhere its folder is locked here, and so is the seed's folder of pretrained
    weights until they are there: one run of a seed makes them, as in a common folder.

    Attributes:
        grid: Settings and output folder.
        shared: See `attempts.serve`.
        folders: Of all runs.
    """

    grid: Grid
    shared: Shared
    folders: Mapping[Run, RunFolder]
    _pretraining: dict[Run, FolderLock] = field(default_factory=dict)

    @property
    def serve(self) -> Callable[..., Callable[[Parcel], Result]]:
        """What `attempts.serve` is for parcels, to be sent."""
        return partial(serve, self.grid, self.shared)

    def pack(self, run: Run) -> Parcel | Result | None:
        """Returns what has to travel; None: not yet; a result: the run has ended before it began.

        Args:
            run: Which; its folder is locked until `release`.
        """
        pretrained = pretrained_path(self.grid.output_dir, run[1])
        folder = self.folders[run]
        try:
            if not pretrained.exists():
                lock = FolderLock(pretrained.parent)
                if not lock.acquire():
                    # A run of ours that makes them elsewhere tells by its steps that it lives.
                    ours = any(other[1] == run[1] for other in self._pretraining)
                    stuck = None if ours else patience.stuck(lock, pretrained.parent)
                    return fail(self.grid, run, ValueError(stuck)) if stuck else None
                self._pretraining[run] = lock
                atomic.remove_asides(pretrained.parent)
            if not folder.lock.acquire():
                self.release(run)
                return Result(busy=True)
            if folder.finished:  # another process may have been here
                self.release(run)
                return Result()
            return Parcel(run, dict(_files(self.grid.output_dir, run)))
        except (OSError, ValueError) as error:
            self.release(run)
            return fail(self.grid, run, error)

    def unpack(self, run: Run, change: Change) -> None:
        """Writes what a step did; each file is whole or not there, checkpoints come last.

        Raises:
            OSError: It cannot be written.
            ValueError: It is of another run.
        """
        root = Path(self.grid.output_dir)
        folder = self.folders[run].path
        self._check(run, change)
        last = {file.name for file in checkpoint.generations(Path(CHECKPOINT))}
        known = {name: (root / before).read_bytes() for name, before in change.same.items()}
        written = {**change.written, **known}
        pretrained = pretrained_path(self.grid.output_dir, run[1])
        for name in sorted(written, key=lambda name: Path(name).name in last):
            path = root / name
            if path != pretrained or not path.exists():
                atomic.write_bytes(path, written[name])
        for path in sorted(folder.rglob("*"), key=lambda path: path.name in last):
            name = path.relative_to(root).as_posix()
            if _travels(path) and name not in change.names:
                path.unlink(missing_ok=True)
        if pretrained.exists():
            self._release_pretraining(run)

    def _check(self, run: Run, change: Change) -> None:
        """Raises `ValueError` if something did not happen to the files of a run."""
        root = Path(self.grid.output_dir)
        own = run_path(root, *run).relative_to(root).as_posix()
        weights = pretrained_path(root, run[1]).relative_to(root).as_posix()
        names = {*change.written, *change.same, *change.same.values(), *change.names} - {weights}
        for name in sorted(names):
            if not name.startswith(f"{own}/") or ".." in Path(name).parts:
                raise ValueError(f"ray: expected files of {own} to come back, got {name}")

    def release(self, run: Run) -> None:
        """Gives up what is locked for a run."""
        self._release_pretraining(run)
        _release(self.folders[run].lock)

    def _release_pretraining(self, run: Run) -> None:
        if run in self._pretraining:
            _release(self._pretraining.pop(run))


def _release(lock: FolderLock) -> None:
    with contextlib.suppress(OSError):  # the file of a free lock is no hindrance
        lock.release()


def serve(
    grid: Grid, shared: Shared, stepped: Callable[[Change], None]
) -> Callable[[Parcel], Result]:
    """Returns what a process elsewhere does with a parcel: the run, in a folder for the time.

    Args:
        grid: Settings; the output folder is another one there.
        shared: See `attempts.serve`.
        stepped: Called after each step and at the end with what it did to the files.

    What it returns raises `OSError` if there is no room for the folder.

    Raises:
        Exception: There is no environment, such as without the data set, or it is another one.
    """
    with contextlib.suppress(OSError):  # a disk where nothing can be made is told by each run
        _remove_left_over()
    env = begin(grid, shared)

    def work(parcel: Parcel) -> Result:
        with _folder() as path:
            there = replace(grid, output_dir=path)
            sent = Sent(path, parcel)
            show = shown(there, env, lambda: stepped(sent.change()))
            result = attempt_run(there, env, show, parcel.run)
            stepped(replace(sent.change(), last=True))
        # The folder for the time says nothing to anybody.
        told = result.error and result.error.replace(str(path), str(grid.output_dir))
        return replace(result, error=told)

    return work


class Sent:
    """What the other end of a run knows of its files.

    Args:
        path: The output folder for the time; the parcel's files are written into it.
        parcel: That came.
    """

    def __init__(self, path: Path, parcel: Parcel) -> None:
        self._path, self._run = path, parcel.run
        self._known = {name: _digest(content) for name, content in parcel.files.items()}
        for name, content in parcel.files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)

    def change(self) -> Change:
        """Returns what is new since the last time."""
        written, same, digests = {}, {}, {}
        paths = {digest: name for name, digest in self._known.items()}
        for name, content in _files(self._path, self._run):
            digest = digests[name] = _digest(content)
            if digest == self._known.get(name):
                continue
            if digest in paths:
                same[name] = paths[digest]
            else:
                written[name] = content
        self._known = digests
        return Change(written, same, frozenset(digests))


def _files(output_dir: str | Path, run: Run) -> Iterator[tuple[str, bytes]]:
    """Yields the files of a run and its pretrained weights by path below the output folder."""
    root = Path(output_dir)
    for path in [*sorted(run_path(root, *run).rglob("*")), pretrained_path(root, run[1])]:
        if _travels(path):
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _travels(path: Path) -> bool:
    """Whether it is a file that is whole: locks and what is being written begin with a dot."""
    return path.is_file() and not path.is_symlink() and not path.name.startswith(".")


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Makes a folder for the time, locked lest another process takes it for left over."""
    folder = tempfile.TemporaryDirectory(prefix=_PREFIX, ignore_cleanup_errors=True)
    with folder as name, FolderLock(name):
        yield Path(name)


def _remove_left_over() -> None:
    """Removes folders of processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or gone meanwhile
            lock = FolderLock(folder)
            if (folder / NAME).exists() and lock.acquire():
                shutil.rmtree(folder, ignore_errors=True)
                lock.release()
