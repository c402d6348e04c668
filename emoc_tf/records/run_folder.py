"""The folder of one run: its records, its checkpoints, its lock."""

import datetime
import json
import shutil
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.records.run_record import (
    CONFIG,
    FAILURE,
    RECALLS,
    STEP_COLUMNS,
    STEPS,
    TIMING_COLUMNS,
    TIMINGS,
    read_config,
    read_run,
    run_path,
)
from emoc_tf.storage import atomic, checkpoint
from emoc_tf.storage.checkpoint import Checkpoint
from emoc_tf.storage.locks import FolderLock
from emoc_tf.storage.provenance import differences, environment

CHECKPOINT = "checkpoint.npz"


class RunFolder:
    """The folder `OUT/<agent>/<seed>/` of one run.

    `config.json` tells configuration, versions and machine; `steps.csv` has a row a step, row 0
    after pretraining, equal byte for byte for equal seeds; `recalls.csv` the recall of each class
    of the episode, named by class id; `timings.csv` the seconds. While the run is unfinished,
    `checkpoint.npz` holds all that going on needs, the records among it, and
    `checkpoint.previous.npz` the one before. `failure.json` tells why the last attempt ended.

    Args:
        output_dir: OUT.
        agent: The policy's name, with its variant.
        seed: The run's seed.
        config: The run's configuration.
        fingerprint: Of what the policy was made of besides its name; see `Agent.fingerprint`.

    Attributes:
        path: Of the folder.
        lock: To be held while the run is worked on.
    """

    def __init__(
        self,
        output_dir: str | Path,
        agent: str,
        seed: int,
        config: ExplorationConfig,
        fingerprint: str | None = None,
    ) -> None:
        self.path = run_path(output_dir, agent, seed)
        self.lock = FolderLock(self.path)
        self._identity = {"agent": agent, "seed": seed}
        if fingerprint:
            self._identity["fingerprint"] = fingerprint
        self._config = config
        self._checkpoint = self.path / CHECKPOINT
        self._records: list[tuple[StepOutcome, dict[str, Any]]] = []
        self._board: Any = None  # TensorBoard's writer

    def check(self, allow_mixed: bool = False) -> None:
        """Checks that the folder is empty or holds records of this policy and seed.

        Args:
            allow_mixed: Whether an unfinished run may be of another version, processor or thread
                count.

        Raises:
            ValueError: It holds something else.
        """
        if not (self.path / CONFIG).exists():
            files = self.path.glob("[!.]*") if self.path.exists() else ()
            if any(file.name != FAILURE for file in files):
                raise ValueError(
                    f"output_dir: expected a run folder with {CONFIG}, got {self.path} with other "
                    f"files"
                )
            return
        found = read_config(self.path)
        agent, seed = self._identity["agent"], self._identity["seed"]
        if (found["agent"], found["seed"]) != (agent, seed):
            raise ValueError(
                f"output_dir: expected a run of {agent!r} with seed {seed} in {self.path}, got one "
                f"of {found['agent']!r} with seed {found['seed']}"
            )
        if found.get("fingerprint") != self._identity.get("fingerprint"):
            raise ValueError(
                f"output_dir: expected a run of {agent!r} as it is now in {self.path}, got one "
                f"whose policy was made from another file; use another output folder"
            )
        if settings := self._config.differences(found["configuration"]):
            raise ValueError(
                f"output_dir: expected a run of this configuration in {self.path}, got another one "
                f"({'; '.join(settings)})"
            )
        # Without a checkpoint a run starts over; one that is being worked on is not ours to judge.
        begun = self._has_checkpoint and not self._complete and not self.lock.held_elsewhere()
        if begun and not allow_mixed and (elsewhere := differences(found)):
            raise ValueError(
                f"output_dir: expected to go on with {self.path} where it was begun, since only "
                f"there it gives the same results, got another place ({'; '.join(elsewhere)}); "
                f"--allow_mixed goes on and marks the run as mixed, another output_dir starts anew"
            )

    @property
    def _has_checkpoint(self) -> bool:
        return any(file.exists() for file in checkpoint.generations(self._checkpoint))

    @property
    def _complete(self) -> bool:
        """Whether the records have all rows."""
        if not (self.path / CONFIG).exists():
            return False
        try:
            return read_run(self.path).finished
        except ValueError:
            if self._has_checkpoint:  # they are made again from it
                return False
            raise

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do.

        Complete records with a checkpoint beside them are those of a run that ended just before
        they were brought to disk; where it can be gone on with, it ends properly.

        Raises:
            ValueError: The records are broken and there is no checkpoint to make them again from.
        """
        if not self._complete:
            return False
        return not self._has_checkpoint or bool(differences(read_config(self.path)))

    def claim(self, mixed: Sequence[Mapping[str, Any]] = ()) -> None:
        """Writes `config.json` for a run from its beginning, before any work.

        Args:
            mixed: Other environments that a part of the run was made in.
        """
        content = self._identity | {"configuration": self._config.record()} | environment()
        self._write_config(content | ({"mixed": list(mixed)} if mixed else {}))

    def start(self, class_ids: Sequence[int]) -> None:
        """Makes ready for the steps of a run from its beginning.

        Args:
            class_ids: Of the episode, which head the columns of `recalls.csv`.
        """
        self._begin(class_ids, [])

    def saved(self) -> Checkpoint | None:
        """Returns the checkpoint to go on from; None if there is none.

        Raises:
            ValueError: No checkpoint is whole, or it belongs to another run.
        """
        found = checkpoint.read_generation(self._checkpoint)
        if found is not None:
            run = found.header.get("run")
            identity = run.get("identity") if isinstance(run, dict) else None
            if identity != self._identity:
                raise ValueError(
                    f"expected a checkpoint of {self._identity}, got one of {identity}"
                )
        return found

    def resume(self, saved: Checkpoint) -> None:
        """Makes the records what a checkpoint says.

        Args:
            saved: What `saved` returned, and the environment was restored from.
        """
        run = saved.header["run"]
        outcomes = map(StepOutcome.from_dict, saved.header["outcomes"])
        records = list(zip(outcomes, run["records"], strict=True))
        config = read_config(self.path)
        if differences(config) and environment() not in config.setdefault("mixed", []):
            config["mixed"].append(environment())
            self._write_config(config)
        self._begin(run["classes"], records)

    @property
    def mend(self) -> str:
        """What to do about a checkpoint that cannot be gone on from, in words."""
        newest, before = checkpoint.generations(self._checkpoint)
        return f"move {newest} and {before.name} away and the run starts over"

    def _write_config(self, content: dict[str, Any]) -> None:
        atomic.write_text(self.path / CONFIG, json.dumps(content, indent=2) + "\n")

    def _begin(
        self, class_ids: Sequence[int], records: list[tuple[StepOutcome, dict[str, Any]]]
    ) -> None:
        """Writes the records from what is known, whatever the files said."""
        self._class_ids, self._records = list(class_ids), records
        atomic.remove_asides(self.path)
        self._write_tables()
        board = self.path / "tensorboard"
        if board.is_symlink():
            board.unlink()
        shutil.rmtree(board, ignore_errors=True)
        self._board = tf.summary.create_file_writer(str(board))
        for outcome, record in records:
            self._show(outcome, record["timings"])

    def _write_tables(self) -> None:
        for name, columns in (
            (RECALLS, ("step", *self._class_ids)),
            (TIMINGS, TIMING_COLUMNS),
            (STEPS, STEP_COLUMNS),
        ):
            rows = [_rows(outcome, **record)[name] for outcome, record in self._records]
            atomic.write_text(self.path / name, "".join(map(_line, [columns, *rows])))

    def write_step(
        self, outcome: StepOutcome, reward: float | None, timings: Mapping[str, float]
    ) -> None:
        """Appends a row to each file and the scalars for TensorBoard.

        Args:
            outcome: What the step led to.
            reward: Its reward; None at step 0.
            timings: Seconds by column of `timings.csv`; missing ones stay empty.
        """
        rounded = {name: round(seconds, 4) for name, seconds in timings.items()}
        self._records.append((outcome, {"reward": reward, "timings": rounded}))
        for name, row in _rows(outcome, reward, rounded).items():
            with open(self.path / name, "a", encoding="utf-8", newline="") as file:
                file.write(_line(row))
        self._show(outcome, rounded)

    def _show(self, outcome: StepOutcome, timings: Mapping[str, float]) -> None:
        with self._board.as_default(step=outcome.step):
            for name in ("test_accuracy", "known_accuracy", "novel_accuracy", "discovered_classes"):
                if getattr(outcome, name) is not None:
                    tf.summary.scalar(name, float(getattr(outcome, name)))
            for name, seconds in timings.items():
                tf.summary.scalar(f"timings/{name}", seconds)
        self._board.flush()

    def save(self, state: Checkpoint, selection_seconds: float | None = None) -> None:
        """Writes the checkpoint to go on from and keeps the one before it.

        Args:
            state: Of the environment, whose outcomes are those of `write_step` so far.
            selection_seconds: That the choice of a query in it took.
        """
        run = {
            "identity": self._identity,
            "classes": self._class_ids,
            "records": [record for _, record in self._records],
            "selection_seconds": selection_seconds,
            "environment": environment(),
        }
        whole = Checkpoint({**state.header, "run": run}, state.arrays)
        checkpoint.write_generation(self._checkpoint, whole)

    def finish(self) -> None:
        """Brings the complete records to disk and removes what only going on would need."""
        self._write_tables()
        (self.path / FAILURE).unlink(missing_ok=True)
        checkpoint.remove_generations(self._checkpoint)  # last: without it the run is finished

    def fail(self, error: Exception) -> None:
        """Writes why an attempt ended, with its traceback."""
        content = {
            "error": f"{type(error).__name__}: {error}",
            "step": len(self._records),
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "traceback": "".join(traceback.format_exception(error)),
        }
        atomic.write_text(self.path / FAILURE, json.dumps(content, indent=2) + "\n")

    def close(self) -> None:
        """Closes TensorBoard's file; the records are on disk already."""
        if self._board is not None:
            self._board.close()


def _rows(
    outcome: StepOutcome, reward: float | None, timings: Mapping[str, float]
) -> dict[str, list[Any]]:
    """Returns the row of each file, by name; a step is complete once that in steps.csv is."""
    step = {**vars(outcome), "reward": reward}
    timed = {"step": outcome.step, **timings}
    return {
        RECALLS: [outcome.step, *outcome.class_recall.tolist()],
        TIMINGS: [timed.get(name) for name in TIMING_COLUMNS],
        STEPS: [step[name] for name in STEP_COLUMNS],
    }


def _line(values: Sequence[Any]) -> str:
    cells = ("" if v is None else v if isinstance(v, str) else repr(v) for v in values)
    return ",".join(cells) + "\n"
