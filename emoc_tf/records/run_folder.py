"""The folder of one run: its records, its checkpoints, its lock."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.exploration.task import Task
from emoc_tf.records import image_kind
from emoc_tf.records.record_folder import CONFIG, FAILURE, RecordFolder
from emoc_tf.records.run_record import (
    ANSWER_COLUMNS,
    AUDIT_COLUMNS,
    PSEUDO_LABEL_COLUMNS,
    RECALLS,
    STEP_COLUMNS,
    STEPS,
    TIMING_COLUMNS,
    TIMINGS,
    expected_steps,
    read_config,
    read_run,
    run_path,
)
from emoc_tf.records.same_run import check_same
from emoc_tf.records.sinks import Board, Row, Table
from emoc_tf.storage.checkpoint import Checkpoint
from emoc_tf.storage.provenance import differences, environment

# What TensorBoard shows of a row.
_SHOWN = {
    name: name
    for name in (
        "test_accuracy",
        "known_accuracy",
        "novel_accuracy",
        "discovered_classes",
        *ANSWER_COLUMNS,
        *AUDIT_COLUMNS,
        *PSEUDO_LABEL_COLUMNS,
    )
} | {name: f"timings/{name}" for name in TIMING_COLUMNS[1:]}


class RunFolder(RecordFolder):
    """The folder `OUT/<agent>/<seed>/` of one run.

    `config.json` tells configuration, versions and machine; `steps.csv` has a row a step, row 0
    after pretraining, equal byte for byte for equal seeds; `recalls.csv` the recall of each class
    of the episode, named by class id; `timings.csv` the seconds. Without test data there are no
    recalls, and `steps.csv` has the accuracy on the answers. What was asked and said is written
    beside by `AnswerFiles`. The checkpoint of an unfinished run holds its records too.

    Args:
        output_dir: OUT.
        agent: The policy's name, with its variant.
        seed: The run's seed.
        config: The run's configuration.
        made_of: Fingerprints of what else the run is of: `fingerprint` of the policy (see
            `Agent.fingerprint`), `environment` of what was handed in (see
            `ActiveExplorationEnv.fingerprint`); None for nothing.
        place: What `provenance.environment` returns where the run is worked on; None for this
            process, which is the only one that may write into the folder.

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
        place: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(run_path(output_dir, agent, seed))
        self._identity = {"agent": agent, "seed": seed}
        self._identity |= {name: value for name, value in (made_of or {}).items() if value}
        self._config, self._place = config, place
        self._records: list[tuple[StepOutcome, dict[str, Any]]] = []
        self._tested = True
        self._is_whole = True

    def check(self, allow_mixed: bool = False, allow_rate: bool = False) -> None:
        """Checks that the folder is empty or holds records of this policy and seed.

        Args:
            allow_mixed: Whether an unfinished run may be of another version, processor or thread
                count.
            allow_rate: Whether it may be of another learning rate.

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
        check_same(self.path, found, self._identity, self._config, allow_rate)
        # Without a checkpoint a run starts over; one that is being worked on is not ours to judge.
        begun = self.has_checkpoint and not self._complete and not self.lock.held_elsewhere()
        if begun and not allow_mixed and (elsewhere := differences(found, place=self._place)):
            raise ValueError(
                f"output_dir: expected to resume {self.path} where it was begun, since only "
                f"there it gives the same results, got another place ({'; '.join(elsewhere)}); "
                f"--allow_mixed resumes and marks the run as mixed, another output_dir starts anew"
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
        return not self.has_checkpoint or bool(
            differences(read_config(self.path), place=self._place)
        )

    def claim(self, mixed: Sequence[Mapping[str, Any]] = (), task: Task | None = None) -> None:
        """Writes `config.json` for a run from its beginning, before any work.

        Args:
            mixed: Other environments that a part of the run was made in.
            task: The one that was handed in, or None.
        """
        content = self._identity | {"configuration": self._config.record()} | environment()
        if mixed:
            content["mixed"] = list(mixed)
        if task is not None:
            content["task"] = _told(task)
            content[image_kind.IMAGES] = image_kind.kind_of(task.images)
        self.write_config(content)

    def tell(self, task: Task) -> None:
        """Brings what `config.json` tells of a task up to date: its folder may have moved."""
        self.write_config((self.read_config() or {}) | {"task": _told(task)})

    def start(self, class_ids: Sequence[int], tested: bool = True) -> None:
        """Makes ready for the steps of a run from its beginning.

        Args:
            class_ids: Of the episode, which head the columns of `recalls.csv`.
            tested: Whether there are test data.
        """
        self._start(class_ids, [], tested)

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

        A part made in another place or with another learning rate is told under `mixed`.

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
        rate = config["configuration"]["learning_rate"]
        if rate != self._config.learning_rate:
            told = {"learning_rate": rate, "until_step": len(records) - 1}
            mixed = [*config.get("mixed", []), environment() | told]
            self.write_config(config | {"configuration": self._config.record(), "mixed": mixed})
        self._start(run["classes"], records, run.get("tested", True))

    def _start(
        self,
        class_ids: Sequence[int],
        records: list[tuple[StepOutcome, dict[str, Any]]],
        tested: bool,
    ) -> None:
        self._class_ids, self._records, self._tested = list(class_ids), records, tested
        self.begin([*self._tables(), Board(self.path / "tensorboard", _SHOWN)], self._rows())

    def _tables(self) -> list[Table]:
        """Returns the CSV files; a step is complete once the last one, steps.csv, has it."""
        columns = STEP_COLUMNS + (() if self._tested else ANSWER_COLUMNS)
        if self._config.audit:
            columns += AUDIT_COLUMNS
        if self._config.pseudo_labels is not None:
            columns += PSEUDO_LABEL_COLUMNS
        recalls = [Table(self.path / RECALLS, ["step", *self._class_ids])] if self._tested else []
        return [
            *recalls,
            Table(self.path / TIMINGS, TIMING_COLUMNS),
            Table(self.path / STEPS, columns),
        ]

    def _rows(self) -> list[Row]:
        return [self._row(outcome, **record) for outcome, record in self._records]

    def _row(self, outcome: StepOutcome, reward: float | None, timings: Mapping[str, float]) -> Row:
        recalls = [None if math.isnan(r) else r for r in outcome.class_recall.tolist()]
        by_class = zip(self._class_ids, recalls, strict=True) if self._tested else ()
        return {**vars(outcome), **timings, "reward": reward, **dict(by_class)}

    def write_step(
        self, outcome: StepOutcome, reward: float | None, timings: Mapping[str, float]
    ) -> None:
        """Appends a row to each file and the scalars for TensorBoard.

        Where it fails, as on a full disk, the step is not recorded and may be written again.

        Args:
            outcome: What the step led to.
            reward: Its reward; None at step 0.
            timings: Seconds by column of `timings.csv`; missing ones stay empty.
        """
        rounded = {name: round(seconds, 4) for name, seconds in timings.items()}
        if not self._is_whole:  # some files may have the row that failed, or a part of it
            self.begin(self._sinks, self._rows())
        self._is_whole = False
        self.write(self._row(outcome, reward, rounded))
        self._records.append((outcome, {"reward": reward, "timings": rounded}))
        self._is_whole = True

    def rewrite_last(self, outcome: StepOutcome) -> None:
        """Puts another outcome in the place of the last row's: an audit was answered after it."""
        self._records[-1] = outcome, self._records[-1][1]
        self.begin(self._sinks, self._rows())

    def save(self, state: Checkpoint, selection_seconds: float | None = None) -> None:
        """Writes the checkpoint to resume from and keeps the one before it.

        Args:
            state: Of the environment, whose outcomes are those of `write_step` so far.
            selection_seconds: That the choice of a query in it took.
        """
        run = {
            "identity": self._identity,
            "classes": self._class_ids,
            "tested": self._tested,
            "records": [record for _, record in self._records],
            "selection_seconds": selection_seconds,
            "environment": environment(),
        }
        self.write_checkpoint(Checkpoint({**state.header, "run": run}, state.arrays))

    def finish(self, reason: str = "no step was left") -> None:
        """Brings the complete records to disk and removes what only resuming would need.

        Args:
            reason: Why the episode has ended; recorded if it had other steps than the settings say.
        """
        rows = self._rows()
        for table in self._tables():
            table.begin(rows)
        content = self.read_config() or {}
        last = len(rows) - 1
        if last != expected_steps(self._config.record(), content.get("task")):
            self.write_config(content | {"ended": {"step": last, "reason": reason}})
        super().finish()

    @property
    def ended(self) -> dict[str, Any] | None:
        """The last `step` and the `reason`, of an episode of other steps than the settings say."""
        return (self.read_config() or {}).get("ended")

    def fail(self, error: Exception) -> None:
        """Writes why an attempt ended, with its traceback."""
        super().fail(error, len(self._records))


def _told(task: Task) -> dict[str, Any]:
    """Returns what `config.json` tells of a task: of which images, and where they lay."""
    told = {"shape": [int(n) for n in task.images.shape], "class_names": list(task.class_names)}
    root, fit = getattr(task.images, "root", None), getattr(task.images, "fit", None)
    told |= {"digest": task.digest()} if root is None else {"folder": str(root)}
    return told if fit is None else {**told, "fit": fit}
