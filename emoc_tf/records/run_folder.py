"""The folder of one run: its records, its checkpoints, its lock."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.records.record_folder import CONFIG, FAILURE, RecordFolder
from emoc_tf.records.run_record import (
    RECALLS,
    STEP_COLUMNS,
    STEPS,
    TIMING_COLUMNS,
    TIMINGS,
    read_config,
    read_run,
    run_path,
)
from emoc_tf.records.sinks import Board, Row, Table
from emoc_tf.storage.checkpoint import Checkpoint
from emoc_tf.storage.provenance import differences, environment

_MADE_OF = {
    "fingerprint": "whose policy was made from another file",
    "environment": "whose data, model, oracle or reward were others",
}
# What TensorBoard shows of a row.
_SHOWN = {
    name: name
    for name in ("test_accuracy", "known_accuracy", "novel_accuracy", "discovered_classes")
} | {name: f"timings/{name}" for name in TIMING_COLUMNS[1:]}


class RunFolder(RecordFolder):
    """The folder `OUT/<agent>/<seed>/` of one run.

    `config.json` tells configuration, versions and machine; `steps.csv` has a row a step, row 0
    after pretraining, equal byte for byte for equal seeds; `recalls.csv` the recall of each class
    of the episode, named by class id; `timings.csv` the seconds. The checkpoint of an unfinished
    run holds its records too.

    Args:
        output_dir: OUT.
        agent: The policy's name, with its variant.
        seed: The run's seed.
        config: The run's configuration.
        made_of: Fingerprints of what else the run is of: `fingerprint` of the policy (see
            `Agent.fingerprint`), `environment` of what was handed in (see
            `ActiveExplorationEnv.fingerprint`); None for nothing.

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
        made_of: Mapping[str, str | None] | None = None,
    ) -> None:
        super().__init__(run_path(output_dir, agent, seed))
        self._identity = {"agent": agent, "seed": seed}
        self._identity |= {name: value for name, value in (made_of or {}).items() if value}
        self._config = config
        self._records: list[tuple[StepOutcome, dict[str, Any]]] = []

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
        for name, what in _MADE_OF.items():
            if found.get(name) != self._identity.get(name):
                raise ValueError(
                    f"output_dir: expected a run of {agent!r} as it is now in {self.path}, got one "
                    f"{what}; use another output folder"
                )
        if settings := self._config.differences(found["configuration"]):
            raise ValueError(
                f"output_dir: expected a run of this configuration in {self.path}, got another one "
                f"({'; '.join(settings)})"
            )
        # Without a checkpoint a run starts over; one that is being worked on is not ours to judge.
        begun = self.has_checkpoint and not self._complete and not self.lock.held_elsewhere()
        if begun and not allow_mixed and (elsewhere := differences(found)):
            raise ValueError(
                f"output_dir: expected to go on with {self.path} where it was begun, since only "
                f"there it gives the same results, got another place ({'; '.join(elsewhere)}); "
                f"--allow_mixed goes on and marks the run as mixed, another output_dir starts anew"
            )

    @property
    def _complete(self) -> bool:
        """Whether the records have all rows."""
        if not (self.path / CONFIG).exists():
            return False
        try:
            return read_run(self.path).finished
        except ValueError:
            if self.has_checkpoint:  # they are made again from it
                return False
            raise

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do.

        Complete records with a checkpoint beside them are those of a run that ended just before
        they were brought to disk; where it can be resumed, it ends properly.

        Raises:
            ValueError: The records are broken and there is no checkpoint to make them again from.
        """
        if not self._complete:
            return False
        return not self.has_checkpoint or bool(differences(read_config(self.path)))

    def claim(self, mixed: Sequence[Mapping[str, Any]] = ()) -> None:
        """Writes `config.json` for a run from its beginning, before any work.

        Args:
            mixed: Other environments that a part of the run was made in.
        """
        content = self._identity | {"configuration": self._config.record()} | environment()
        self.write_config(content | ({"mixed": list(mixed)} if mixed else {}))

    def start(self, class_ids: Sequence[int]) -> None:
        """Makes ready for the steps of a run from its beginning.

        Args:
            class_ids: Of the episode, which head the columns of `recalls.csv`.
        """
        self._start(class_ids, [])

    def saved(self) -> Checkpoint | None:
        """Returns the checkpoint to resume from; None if there is none.

        Raises:
            ValueError: No checkpoint is whole, or it belongs to another run.
        """
        found = self.read_checkpoint()
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
            self.write_config(config)
        self._start(run["classes"], records)

    def _start(
        self, class_ids: Sequence[int], records: list[tuple[StepOutcome, dict[str, Any]]]
    ) -> None:
        self._class_ids, self._records = list(class_ids), records
        self.begin([*self._tables(), Board(self.path / "tensorboard", _SHOWN)], self._rows())

    def _tables(self) -> list[Table]:
        """Returns the CSV files; a step is complete once the last one, steps.csv, has it."""
        return [
            Table(self.path / RECALLS, ["step", *self._class_ids]),
            Table(self.path / TIMINGS, TIMING_COLUMNS),
            Table(self.path / STEPS, STEP_COLUMNS),
        ]

    def _rows(self) -> list[Row]:
        return [self._row(outcome, **record) for outcome, record in self._records]

    def _row(self, outcome: StepOutcome, reward: float | None, timings: Mapping[str, float]) -> Row:
        recalls = zip(self._class_ids, outcome.class_recall.tolist(), strict=True)
        return {**vars(outcome), **timings, "reward": reward, **dict(recalls)}

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
        self.write(self._row(outcome, reward, rounded))

    def save(self, state: Checkpoint, selection_seconds: float | None = None) -> None:
        """Writes the checkpoint to resume from and keeps the one before it.

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
        self.write_checkpoint(Checkpoint({**state.header, "run": run}, state.arrays))

    def finish(self) -> None:
        """Brings the complete records to disk and removes what only resuming would need."""
        rows = self._rows()
        for table in self._tables():
            table.begin(rows)
        super().finish()

    def fail(self, error: Exception) -> None:
        """Writes why an attempt ended, with its traceback."""
        super().fail(error, len(self._records))
