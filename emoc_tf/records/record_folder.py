"""A folder that one process at a time writes records into: settings, rows, a checkpoint."""

import contextlib
import datetime
import json
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoc_tf.records.sinks import Row, Sink
from emoc_tf.storage import atomic, checkpoint, csv_files
from emoc_tf.storage.checkpoint import Checkpoint
from emoc_tf.storage.locks import FolderLock

CONFIG, FAILURE, CHECKPOINT = "config.json", "failure.json", "checkpoint.npz"


class RecordFolder:
    """What all that is recorded has in common, whether a run, a training or an examination.

    `config.json` tells what it is of; rows go to the sinks. While it is unfinished,
    `checkpoint.npz` may hold all that resuming needs and `checkpoint.previous.npz` the one before.
    `failure.json` tells why the last attempt ended.

    Args:
        path: Of the folder.

    Attributes:
        path: As given.
        lock: To be held while the folder is written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FolderLock(path)
        self._checkpoint = path / CHECKPOINT
        self._sinks: Sequence[Sink] = ()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps the folder for this process; raises `ValueError` if another one works on it."""
        if not self.lock.acquire():
            raise ValueError(
                f"output_dir: expected a free folder, got {self.path} of {self.lock.owner()}"
            )
        try:
            yield
        finally:
            self.close()
            self.lock.release()

    def read_config(self) -> dict[str, Any] | None:
        """Returns what `config.json` says; None if there is none.

        Raises:
            ValueError: It is broken.
        """
        file = self.path / CONFIG
        return read_json(file) if file.exists() else None

    def write_config(self, content: Mapping[str, Any]) -> None:
        """Writes `config.json`."""
        atomic.write_text(self.path / CONFIG, json.dumps(dict(content), indent=2) + "\n")

    def begin(self, sinks: Sequence[Sink], rows: Sequence[Row]) -> None:
        """Makes the records say what is known, whatever they said.

        Args:
            sinks: Where rows go, from here on.
            rows: Those there are.
        """
        atomic.remove_asides(self.path)
        self._sinks = sinks
        for sink in sinks:
            sink.begin(rows)

    def write(self, row: Row) -> None:
        """Appends a row; it is complete once the last sink has it."""
        for sink in self._sinks:
            sink.write(row)

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to resume from."""
        return any(file.exists() for file in checkpoint.generations(self._checkpoint))

    def read_checkpoint(self) -> Checkpoint | None:
        """Returns the newest whole checkpoint; None if there is none.

        Raises:
            ValueError: There are some, but none is whole.
        """
        return checkpoint.read_generation(self._checkpoint)

    def write_checkpoint(self, state: Checkpoint) -> None:
        """Writes a checkpoint and keeps the one before it."""
        checkpoint.write_generation(self._checkpoint, state)

    @property
    def remedy(self) -> str:
        """What to do about a checkpoint that cannot be resumed from, in words."""
        newest, before = checkpoint.generations(self._checkpoint)
        return f"move {newest} and {before.name} away and the run starts over"

    def finish(self) -> None:
        """Removes what only resuming would need."""
        (self.path / FAILURE).unlink(missing_ok=True)
        checkpoint.remove_generations(self._checkpoint)  # last: without it all is finished

    def fail(self, error: Exception, step: int = 0) -> None:
        """Writes why an attempt ended, with its traceback.

        Args:
            error: Why.
            step: How many rows there were.
        """
        content = {
            "error": f"{type(error).__name__}: {error}",
            "step": step,
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "traceback": "".join(traceback.format_exception(error)),
        }
        atomic.write_text(self.path / FAILURE, json.dumps(content, indent=2) + "\n")

    def close(self) -> None:
        """Closes the sinks; what they were given is written already."""
        sinks, self._sinks = self._sinks, ()
        for sink in sinks:
            sink.close()


def read_json(file: Path) -> dict[str, Any]:
    """Returns the JSON object in a file.

    Raises:
        ValueError: It holds anything else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
        reason = f"holds {type(content).__name__}"
    except (ValueError, RecursionError) as error:
        reason = f"fails: {error}"
    raise csv_files.unreadable(file, "a JSON object", f"a file that {reason}")
