"""The folder of one run: its records, its checkpoints, its lock."""

import datetime
import json
import shutil
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf

from emoc_tf import checkpoint
from emoc_tf.checkpoint import Checkpoint
from emoc_tf.config import ExplorationConfig
from emoc_tf.environment import differences, environment
from emoc_tf.evaluation import StepOutcome
from emoc_tf.locks import FolderLock
from emoc_tf.results import (
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
            if any(files):
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
        differing = [] if allow_mixed or self.finished else self._elsewhere(found)
        if differing:
            raise ValueError(
                f"output_dir: expected to go on with {self.path} where it was begun, since only "
                f"there it gives the same results, got another place ({'; '.join(differing)}); "
                f"--allow_mixed goes on and marks the run as mixed, another output_dir starts anew"
            )

    def _elsewhere(self, found: dict[str, Any]) -> list[str]:
        """Returns where the run's environment differs; without a checkpoint it starts over."""
        return differences(found) if self._has_checkpoint else []

    @property
    def _has_checkpoint(self) -> bool:
        return any(file.exists() for file in checkpoint.generations(self._checkpoint))

    @property
    def finished(self) -> bool:
        """Whether the records are complete.

        Raises:
            ValueError: The records are broken and there is no checkpoint to make them again from.
        """
        if not (self.path / CONFIG).exists():
            return False
        try:
            return read_run(self.path).finished
        except ValueError:
            if self._has_checkpoint:
                return False
            raise

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

    def resume(self, allow_mixed: bool = False) -> Checkpoint | None:
        """Returns the checkpoint to go on from and makes the records what it says.

        Args:
            allow_mixed: See `check`.

        Returns:
            None if there is no checkpoint.

        Raises:
            ValueError: No checkpoint is whole, or it belongs to another run.
        """
        self.check(allow_mixed)
        found = checkpoint.read_generation(self._checkpoint)
        if found is None:
            return None
        run = found.header.get("run", {})
        if run.get("identity") != self._identity:
            raise ValueError(
                f"{self._checkpoint}: expected a checkpoint of {self._identity}, got one of "
                f"{run.get('identity')}; move it away and the run starts over"
            )
        config = read_config(self.path)
        if differences(config):
            config.setdefault("mixed", []).append(environment())
            self._write_config(config)
        outcomes = map(StepOutcome.from_dict, found.header["outcomes"])
        self._begin(run["classes"], list(zip(outcomes, run["records"], strict=True)))
        return found

    def _write_config(self, content: dict[str, Any]) -> None:
        checkpoint.write_text(self.path / CONFIG, json.dumps(content, indent=2) + "\n")

    def _begin(
        self, class_ids: Sequence[int], records: list[tuple[StepOutcome, dict[str, Any]]]
    ) -> None:
        """Writes the records from what is known, whatever the files said."""
        self._class_ids, self._records = list(class_ids), records
        checkpoint.remove_asides(self.path)
        self._write_tables()
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        self._board = tf.summary.create_file_writer(str(self.path / "tensorboard"))
        for outcome, record in records:
            self._show(outcome, record["timings"])

    def _write_tables(self) -> None:
        for name, columns in (
            (RECALLS, ("step", *self._class_ids)),
            (TIMINGS, TIMING_COLUMNS),
            (STEPS, STEP_COLUMNS),
        ):
            rows = [_rows(outcome, **record)[name] for outcome, record in self._records]
            checkpoint.write_text(self.path / name, "".join(map(_line, [columns, *rows])))

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
        }
        whole = Checkpoint({**state.header, "run": run}, state.arrays)
        checkpoint.write_generation(self._checkpoint, whole)

    def finish(self) -> None:
        """Brings the complete records to disk and removes what only going on would need."""
        self._write_tables()
        checkpoint.remove_generations(self._checkpoint)
        (self.path / FAILURE).unlink(missing_ok=True)

    def fail(self, error: Exception) -> None:
        """Writes why an attempt ended, with its traceback."""
        content = {
            "error": f"{type(error).__name__}: {error}",
            "step": len(self._records),
            "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            "traceback": "".join(traceback.format_exception(error)),
        }
        checkpoint.write_text(self.path / FAILURE, json.dumps(content, indent=2) + "\n")

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
