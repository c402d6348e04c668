"""Run records: one folder a run, written line by line, read back for figures and tables."""

import csv
import functools
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from emoc_tf import checkpoint
from emoc_tf.config import ExplorationConfig
from emoc_tf.evaluation import StepOutcome

STEP_COLUMNS = (
    "step", "labelled", "test_accuracy", "known_accuracy", "novel_accuracy",
    "discovered_classes", "chosen_set", "queried_class", "reward",
)  # fmt: skip
TIMING_COLUMNS = (
    "step", "selection_seconds", "training_seconds", "evaluation_seconds",
    "prediction_seconds", "candidate_seconds", "step_seconds",
)  # fmt: skip
CONFIG, STEPS, TIMINGS, RECALLS = "config.json", "steps.csv", "timings.csv", "recalls.csv"


def run_path(output_dir: str | Path, agent: str, seed: int) -> Path:
    """Returns the folder of a run; variants may hold `:` and, in paths, `/`."""
    return Path(output_dir) / agent.replace(":", "__").replace("/", "%2F") / str(seed)


class RunFolder:
    """The folder `OUT/<agent>/<seed>/` of one run.

    `config.json` tells configuration, versions and machine; `steps.csv` has a row a step, row 0
    after pretraining, equal byte for byte for equal seeds; `recalls.csv` the recall of each class
    of the episode, named by class id; `timings.csv` the seconds.

    Args:
        output_dir: OUT.
        agent: The policy's name, with its variant.
        seed: The run's seed.
        config: The run's configuration.
        fingerprint: Of what the policy was made of besides its name; see `Agent.fingerprint`.
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
        self._agent, self._seed, self._config = agent, seed, config
        self._fingerprint = fingerprint

    def check(self) -> None:
        """Checks that the folder is empty or holds records of this policy and seed.

        Raises:
            ValueError: It holds something else.
        """
        if (self.path / CONFIG).exists():
            found = _read_config(self.path)
            if (found["agent"], found["seed"]) != (self._agent, self._seed):
                raise ValueError(
                    f"output_dir: expected a run of {self._agent!r} with seed {self._seed} in "
                    f"{self.path}, got one of {found['agent']!r} with seed {found['seed']}"
                )
            if found.get("fingerprint") != self._fingerprint:
                raise ValueError(
                    f"output_dir: expected a run of {self._agent!r} as it is now in {self.path}, "
                    f"got one whose policy was made from another file; use another output folder"
                )
        elif self.path.exists() and any(self.path.iterdir()):
            raise ValueError(
                f"output_dir: expected a run folder with {CONFIG}, got {self.path} with other files"
            )

    @property
    def finished(self) -> bool:
        """Whether the records are complete."""
        return (self.path / CONFIG).exists() and read_run(self.path).finished

    def start(self, class_ids: tuple[int, ...]) -> None:
        """Writes `config.json` and the headers; what an unfinished run left is started over."""
        shutil.rmtree(self.path / "tensorboard", ignore_errors=True)
        content = {
            "agent": self._agent,
            "seed": self._seed,
            **({"fingerprint": self._fingerprint} if self._fingerprint else {}),
            "configuration": _configuration(self._config),
            **environment(),
        }
        checkpoint.write_text(self.path / CONFIG, json.dumps(content, indent=2) + "\n")
        for name, columns in (
            (STEPS, STEP_COLUMNS),
            (TIMINGS, TIMING_COLUMNS),
            (RECALLS, ("step", *class_ids)),
        ):
            checkpoint.write_text(self.path / name, ",".join(map(str, columns)) + "\n")
        self._board = tf.summary.create_file_writer(str(self.path / "tensorboard"))

    def write_step(
        self, outcome: StepOutcome, reward: float | None, timings: Mapping[str, float]
    ) -> None:
        """Appends a row to each file and the scalars for TensorBoard.

        Args:
            outcome: What the step led to.
            reward: Its reward; None at step 0.
            timings: Seconds by column of `timings.csv`; missing ones stay empty.
        """
        row = {**vars(outcome), "reward": reward}
        rounded = {name: round(seconds, 4) for name, seconds in timings.items()}
        self._append(RECALLS, [outcome.step, *outcome.class_recall.tolist()])
        self._append(TIMINGS, [{"step": outcome.step, **rounded}.get(n) for n in TIMING_COLUMNS])
        # Last: a step is complete once its row in steps.csv is.
        self._append(STEPS, [row[name] for name in STEP_COLUMNS])
        with self._board.as_default(step=outcome.step):
            for name in ("test_accuracy", "known_accuracy", "novel_accuracy", "discovered_classes"):
                if row[name] is not None:
                    tf.summary.scalar(name, float(row[name]))
            for name, seconds in timings.items():
                tf.summary.scalar(f"timings/{name}", seconds)
        self._board.flush()

    def close(self) -> None:
        """Closes TensorBoard's file; the records are on disk already."""
        self._board.close()

    def _append(self, name: str, values: list[Any]) -> None:
        line = ",".join("" if value is None else repr(value) for value in values)
        with open(self.path / name, "a", encoding="utf-8", newline="") as file:
            file.write(line + "\n")


def make_output_dir(output_dir: str | Path) -> None:
    """Makes the output folder and tries whether it can be written.

    Raises:
        ValueError: It cannot.
    """
    folder = Path(output_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(folder / ".writable", "")
        (folder / ".writable").unlink()
    except OSError as error:
        raise ValueError(
            f"output_dir: expected a folder that can be written, got {output_dir} ({error})"
        ) from None


def check_output_dir(output_dir: str | Path, config: ExplorationConfig) -> None:
    """Checks that all runs in a folder, if there are any, are of one configuration.

    Raises:
        ValueError: The folder holds another configuration's runs, or is a file.
    """
    folder = Path(output_dir)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output_dir: expected a folder, got the file {output_dir}")
    expected = _configuration(config)
    for run in _run_folders(folder):
        found = _read_config(run)["configuration"]
        differing = [
            f"{name}={found.get(name)!r} there, {expected[name]!r} here"
            for name in expected
            if found.get(name) != expected[name]
        ]
        if differing:
            raise ValueError(
                f"output_dir: expected a folder without runs of another configuration, got {run} "
                f"({'; '.join(differing)})"
            )


def _run_folders(output_dir: Path) -> list[Path]:
    return sorted(file.parent for file in output_dir.glob(f"*/*/{CONFIG}"))


@dataclass(frozen=True, eq=False)
class RunRecord:
    """What was read of one run folder.

    Attributes:
        agent: The policy's name, with its variant.
        seed: The run's seed.
        configuration: The settings, without `data_dir`.
        environment: Versions, CPU type and so on.
        steps: Column name to (rows,) float64, NaN where empty.
        timings: The same of `timings.csv`.
    """

    agent: str
    seed: int
    configuration: dict[str, Any]
    environment: dict[str, Any]
    steps: dict[str, np.ndarray]
    timings: dict[str, np.ndarray]

    @property
    def finished(self) -> bool:
        """Whether there is a row for each step of the episode."""
        wanted = ExplorationConfig().replace(**self.configuration).num_steps
        rows = np.arange(wanted + 1)
        return all(np.array_equal(part["step"], rows) for part in (self.steps, self.timings))


def read_run(path: str | Path) -> RunRecord:
    """Reads a run folder.

    Raises:
        ValueError: A file is not what `RunFolder` writes.
    """
    path = Path(path)
    content = _read_config(path)
    return RunRecord(
        agent=content.pop("agent"),
        seed=content.pop("seed"),
        configuration=content.pop("configuration"),
        environment=content,
        steps=_read_columns(path / STEPS, STEP_COLUMNS),
        timings=_read_columns(path / TIMINGS, TIMING_COLUMNS),
    )


def read_runs(output_dir: str | Path) -> list[RunRecord]:
    """Reads all run folders `OUT/<agent>/<seed>/`, by agent and seed.

    Raises:
        ValueError: There is none, or a file is not what `RunFolder` writes.
    """
    folders = _run_folders(Path(output_dir))
    if not folders:
        raise ValueError(f"output_dir: expected run folders <agent>/<seed>/ in {output_dir}")
    return sorted(map(read_run, folders), key=lambda run: (run.agent, run.seed))


@functools.cache
def environment() -> dict[str, Any]:
    """Returns what the bits of a run depend on besides its configuration, as of the first call."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    return {
        "versions": {
            "python": platform.python_version(),
            **{n: metadata.version(n) for n in ("emoc_tf", "tensorflow", "keras", "numpy")},
        },
        "commit": _commit(),
        "cpu": _cpu(),
        "gpus": [device.name for device in tf.config.list_physical_devices("GPU")],
        "intra_op_threads": threads or len(os.sched_getaffinity(0)),
    }


def _configuration(config: ExplorationConfig) -> dict[str, Any]:
    """The settings that a run is a function of: where the data lie is not one."""
    return {name: value for name, value in config.to_dict().items() if name != "data_dir"}


def _read_config(path: Path) -> dict[str, Any]:
    try:
        content = json.loads((path / CONFIG).read_text(encoding="utf-8"))
        complete = {"agent", "seed", "configuration"} <= set(content)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path / CONFIG}: expected JSON, got a file that fails: {error}"
        ) from None
    if not complete:
        raise ValueError(f"{path / CONFIG}: expected agent, seed and configuration, got less")
    # A record from before a setting was there has its default.
    defaults = _configuration(ExplorationConfig())
    content["configuration"] = {**defaults, **content["configuration"]}
    return content


def _read_columns(path: Path, columns: tuple[str, ...]) -> dict[str, np.ndarray]:
    # A last line that was cut short, by however little, lacks its newline and is no record.
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    table = list(csv.reader(line for line in lines if line.endswith("\n")))
    if table and tuple(table[0]) != columns:
        raise ValueError(f"{path}: expected columns {list(columns)}, got {table[0]}")
    rows = table[1:]
    if any(len(row) != len(columns) for row in rows):
        raise ValueError(f"{path}: expected {len(columns)} values a row")
    values = np.array([[float(cell or "nan") for cell in row] for row in rows], np.float64)
    return dict(zip(columns, values.reshape(-1, len(columns)).T, strict=True))


def _commit() -> str | None:
    """Returns the commit of the source tree, `-dirty` behind it if changed; None outside git."""
    folder = Path(__file__).parent
    try:
        inside = subprocess.run(
            ["git", "ls-files", "--error-unmatch", __file__],
            cwd=folder, capture_output=True, check=False,
        )  # fmt: skip
        if inside.returncode:
            return None
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=folder, capture_output=True, check=True, text=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
