"""Run records, read back for figures and tables: one folder a run (`run_folder` writes them)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emoc_tf.config import ExplorationConfig
from emoc_tf.records import image_kind
from emoc_tf.records.record_folder import CONFIG, FAILURE, read_json
from emoc_tf.storage import atomic
from emoc_tf.storage.csv_files import read_numbers, unreadable

STEP_COLUMNS = (
    "step", "labelled", "test_accuracy", "known_accuracy", "novel_accuracy",
    "discovered_classes", "chosen_set", "queried_class", "reward",
)  # fmt: skip
TIMING_COLUMNS = (
    "step", "selection_seconds", "training_seconds", "evaluation_seconds",
    "prediction_seconds", "candidate_seconds", "step_seconds",
)  # fmt: skip
# Further columns of steps.csv: in runs without test data, with an audit, with pseudo-labels.
ANSWER_COLUMNS = ("answer_accuracy",)
AUDIT_COLUMNS = ("audit_accuracy", "audit_low", "audit_high")
PSEUDO_LABEL_COLUMNS = ("pseudo_labels", "pseudo_labels_wrong")
STEPS, TIMINGS, RECALLS = "steps.csv", "timings.csv", "recalls.csv"
_FURTHER = ANSWER_COLUMNS + AUDIT_COLUMNS + PSEUDO_LABEL_COLUMNS


def run_path(output_dir: str | Path, agent: str, seed: int) -> Path:
    """Returns the folder of a run."""
    return Path(output_dir) / file_name(agent) / str(seed)


def file_name(agent: str) -> str:
    """Returns a policy's name as files have it; variants may hold `:` and, in paths, `/`."""
    return agent.replace(":", "__").replace("/", "%2F")


def pretrained_path(output_dir: str | Path, seed: int) -> Path:
    """Returns the file of the weights that the policies of a seed share."""
    return Path(output_dir) / "shared" / str(seed) / "pretrained.npz"


def make_output_dir(output_dir: str | Path, name: str = "output_dir") -> None:
    """Makes the output folder and tries whether it can be written.

    Args:
        output_dir: The folder.
        name: Of the argument that it was given as.

    Raises:
        ValueError: It cannot.
    """
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        atomic.write_text(folder / ".writable", "")
        (folder / ".writable").unlink(missing_ok=True)  # another process may try too
    except OSError as error:
        raise ValueError(
            f"{name}: expected a folder that can be written, got {output_dir} ({error})"
        ) from None


def check_output_dir(output_dir: str | Path, config: ExplorationConfig) -> None:
    """Checks that all runs in a folder, if there are any, are of one configuration.

    Raises:
        ValueError: The folder holds another configuration's runs, or is a file.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir: expected a folder, got the file {output_dir}")
    for run in run_folders(folder):
        differing = config.differences(read_config(run)["configuration"])
        if differing:
            raise ValueError(
                f"output_dir: expected a folder without runs of another configuration, got {run} "
                f"({'; '.join(differing)})"
            )


def run_folders(output_dir: Path) -> list[Path]:
    """Returns the folders `<agent>/<seed>` of all runs that were begun, sorted.

    Others, such as a run's folder that was moved to `<seed>.old`, are none.
    """
    folders = (file.parent for file in output_dir.glob(f"[!.]*/*/{CONFIG}"))
    return sorted(folder for folder in folders if folder.name.isdecimal())


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What was read of one run folder.

    Attributes:
        agent: The policy's name, with its variant.
        seed: The run's seed.
        configuration: The settings, without `data_dir`.
        environment: Versions, CPU type and so on; `mixed` lists others that a part of the
            run was made in.
        failure: The error that ended the last attempt, as one sentence; None if there was none.
        steps: Column name to (rows,) float64, NaN where empty; `answer_accuracy` and those of an
            audit and of pseudo-labels only where they were recorded.
        timings: The same of `timings.csv`.
        classes: Class ids of the episode, those known at the start first; empty if not recorded.
        recalls: (rows, classes) share of each class's test images that is recognised, NaN where
            there are none.
        ended: The last `step` of an episode that has ended before its last one, or whose number of
            steps only the data tell, and the `reason`; None otherwise.
        task: What `config.json` tells of a task that was handed in; None if there was none.
        folder: Where it was read; None if nowhere.
    """

    agent: str
    seed: int
    configuration: dict[str, Any]
    environment: dict[str, Any]
    failure: str | None
    steps: dict[str, np.ndarray]
    timings: dict[str, np.ndarray]
    classes: tuple[int, ...]
    recalls: np.ndarray
    ended: dict[str, Any] | None = None
    task: dict[str, Any] | None = None
    folder: Path | None = None

    @property
    def finished(self) -> bool:
        """Whether there is a row for each step of the episode."""
        last = expected_steps(self.configuration, self.task)
        if self.ended is not None:
            last = self.ended["step"]
        if last is None:  # it has not ended yet
            return False
        wanted = last + 1
        return all(
            len(part["step"]) == wanted and np.array_equal(part["step"], np.arange(wanted))
            for part in (self.steps, self.timings)
        )


def expected_steps(configuration: Mapping[str, Any], task: object) -> int | None:
    """Returns the last step of a run by its settings; None if only its images tell."""
    if task is not None:
        return None
    return ExplorationConfig().replace(**configuration).num_steps


def read_run(path: str | Path) -> RunRecord:
    """Reads a run folder.

    Raises:
        ValueError: A file is not what `RunFolder` writes.
    """
    path = Path(path)
    content = read_config(path)
    content.pop(image_kind.IMAGES, None)
    classes, recalls = _read_recalls(path / RECALLS)
    return RunRecord(
        agent=content.pop("agent"),
        seed=content.pop("seed"),
        configuration=content.pop("configuration"),
        ended=content.pop("ended", None),
        task=content.pop("task", None),
        environment=content,
        failure=_read_failure(path),
        steps=_read_columns(path / STEPS, STEP_COLUMNS, _FURTHER),
        timings=_read_columns(path / TIMINGS, TIMING_COLUMNS),
        classes=classes,
        recalls=recalls,
        folder=path,
    )


def read_runs(output_dir: str | Path) -> list[RunRecord]:
    """Reads all run folders `OUT/<agent>/<seed>/`, by agent and seed.

    Raises:
        ValueError: There is none, or a file is not what `RunFolder` writes.
    """
    folders = run_folders(Path(output_dir))
    if not folders:
        raise ValueError(f"output_dir: expected run folders <agent>/<seed>/ in {output_dir}")
    return sorted(map(read_run, folders), key=lambda run: (run.agent, run.seed))


def read_config(path: Path) -> dict[str, Any]:
    """Reads `config.json` of a run folder; settings that it lacks have their defaults.

    Raises:
        ValueError: It is not what `RunFolder` writes.
    """
    content = read_json(path / CONFIG)
    if not {"agent", "seed", "configuration"} <= set(content):
        raise ValueError(f"{path / CONFIG}: expected agent, seed and configuration, got less")
    if type(content["agent"]) is not str or type(content["seed"]) is not int:
        raise ValueError(f"{path / CONFIG}: expected a name and an integer as agent and seed")
    ended = content.get("ended")
    if ended is not None and not (isinstance(ended, dict) and type(ended.get("step")) is int):
        raise ValueError(f"{path / CONFIG}: expected a step and a reason as ended, got {ended!r}")
    try:
        # A record from before a setting was there has its default.
        config = ExplorationConfig().replace(**content["configuration"])
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path / CONFIG}: expected settings of this version, {error}") from None
    return {**content, "configuration": config.record()}


def _read_failure(path: Path) -> str | None:
    if not (path / FAILURE).exists():
        return None
    try:
        return str(read_json(path / FAILURE)["error"])
    except (ValueError, KeyError, TypeError, IndexError):
        return f"{FAILURE} cannot be read"


def _read_columns(
    file: Path, columns: tuple[str, ...], further: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    """Returns the numbers by column; those of `further` that the file has come behind."""
    header, values = read_numbers(file)
    header = header or columns
    if header != columns + tuple(name for name in further if name in header):
        raise unreadable(file, f"columns {list(columns)}", f"other columns: {list(header)}")
    return dict(zip(header, values.reshape(-1, len(header)).T, strict=True))


def _read_recalls(file: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Returns the class ids and the recalls, (rows, classes)."""
    header, values = read_numbers(file)
    if header and not (header[0] == "step" and all(name.isdecimal() for name in header[1:])):
        raise unreadable(file, "columns step and class ids", f"other columns: {list(header)}")
    classes = tuple(int(name) for name in header[1:])
    return classes, values.reshape(-1, len(classes) + 1)[:, 1:]
