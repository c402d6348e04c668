"""What being able to go on costs: the share of a step that is spent on writing checkpoints.

    python benchmarks/checkpoints.py [--data_dir=DIR] [--steps=5] [--output=out.csv]

Runs some steps of the presets (`paper` only with `--data_dir`) with the policy `random`, as
`compare` runs them, with everything written and flushed to the disk of the output folder, and
prints the seconds spent in checkpoints against those of the whole step. Checkpoints are written
once at the end of a step, and once after a choice that took more than a second. The first step is
left out.
"""

import csv
import tempfile
import time

import numpy as np
from absl import app, flags

from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.records.record_folder import CHECKPOINT
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.records.run_record import run_path
from emoc_tf.running import attempts, single_run

DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with CIFAR-100.")
STEPS = flags.DEFINE_integer("steps", 5, "Steps that are timed.", 1)
FOLDER = flags.DEFINE_string("folder", ".", "Where the temporary output folder is made.")
OUTPUT = flags.DEFINE_string("output", None, "CSV file to write.")


def measure(config: ExplorationConfig) -> tuple[float, float, int]:
    """Returns median seconds of a step, and in checkpoints of it, and a checkpoint's bytes."""
    env = ActiveExplorationEnv(config)
    spent, rows = 0.0, []
    make, write = env.save, RunFolder.save

    def timed(function):
        def call(*arguments):
            nonlocal spent
            start = time.perf_counter()
            result = function(*arguments)
            spent += time.perf_counter() - start
            return result

        return call

    env.save, RunFolder.save = timed(make), timed(write)
    with tempfile.TemporaryDirectory(dir=FOLDER.value) as output:
        grid, size, last = single_run.Grid(config, output), 0, time.perf_counter()

        def show(run, outcome, seconds, queried):
            nonlocal spent, size, last
            now = time.perf_counter()
            rows.append((now - last, spent))
            size = (run_path(output, *run) / CHECKPOINT).stat().st_size
            spent, last = 0.0, now

        try:
            result = attempts.attempt_run(grid, env, show, ("random", 0))
        finally:
            RunFolder.save = write
    if result.error:
        raise RuntimeError(result.error)
    step, saving = np.median(rows[2:], axis=0)  # without pretraining and the first step
    return float(step), float(saving), size


def main(argv: list[str]) -> None:
    """Measures and prints."""
    table = []
    for preset in ["demo", *(["paper"] if DATA_DIR.value else [])]:
        config = ExplorationConfig.preset(
            preset, data_dir=DATA_DIR.value, max_steps=STEPS.value + 1
        )
        step, saving, size = measure(config)
        table.append([preset, step, saving, saving / step, size])
        print(
            f"{preset}: {1e3 * saving:.1f} ms for the checkpoints of a step of {step:.2f} s: "
            f"{saving / step:.2%}; {size / 1e6:.2f} MB each"
        )
    if OUTPUT.value:
        with open(OUTPUT.value, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["preset", "step_seconds", "checkpoint_seconds", "share", "bytes"])
            writer.writerows([row[0], *(f"{v:.4g}" for v in row[1:])] for row in table)


if __name__ == "__main__":
    app.run(main)
