"""Whether memory grows in long runs, or with the pool.

    python benchmarks/memory.py [--steps=300] [--agent=emoc:references=32] [--output=out.csv]
    python benchmarks/memory.py --images=100000 --size=96  # see large_pool

Runs one policy on digits for many steps as `compare` does, with records and checkpoints, then many
short runs in the same process, and prints the process's resident memory on the way.
"""

import csv
import os
import tempfile
from pathlib import Path

import large_pool
from absl import app, flags

from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.running import attempts, single_run

STEPS = flags.DEFINE_integer("steps", 300, "Update steps of the long run.", 1)
RUNS = flags.DEFINE_integer("runs", 60, "Short runs after it.", 0)
AGENT = flags.DEFINE_string("agent", "emoc:references=32", "Query policy.")
IMAGES = flags.DEFINE_integer("images", None, "Instead: a step with a pool of so many images.", 50)
SIZE = flags.DEFINE_integer("size", 96, "Height and width of these images.", 8)
OUTPUT = flags.DEFINE_string("output", None, "CSV file to write.")


def resident() -> float:
    """Returns the resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def run(config: ExplorationConfig, seeds: range, note) -> None:
    """Runs the policy with each seed; `note` is called after each step and each run."""
    env = ActiveExplorationEnv(config)
    with tempfile.TemporaryDirectory() as output:
        grid = single_run.Grid(config, output)
        for seed in seeds:
            result = attempts.attempt_run(
                grid, env, lambda run, outcome, *_: note("step", outcome.step), (AGENT.value, seed)
            )
            if result.error:
                raise RuntimeError(result.error)
            note("run", seed + 1)


def main(argv: list[str]) -> None:
    """Measures and prints."""
    if IMAGES.value:
        agent = AGENT.value if AGENT.present else "emoc"
        rows = large_pool.measure(IMAGES.value, SIZE.value, agent)
        save(["part", "seconds", "before_megabytes", "after_megabytes", "peak_megabytes"], rows)
        return
    rows = []

    def note(kind: str, number: int) -> None:
        rows.append((kind, number, resident()))

    long = ExplorationConfig(
        pool_per_class=100, set_size=2, num_candidate_sets=20, update_iterations=50,
        max_steps=STEPS.value,
    )  # fmt: skip
    run(long, range(1), note)
    steps = [row for row in rows if row[0] == "step"]
    for _, number, megabytes in steps[:: max(1, STEPS.value // 10)]:
        print(f"step {number}: {megabytes:.0f} MB", flush=True)
    if RUNS.value:
        run(long.replace(max_steps=3, update_iterations=10), range(RUNS.value), note)
        runs = [row for row in rows if row[0] == "run"][1:]
        for _, number, megabytes in runs[:: max(1, RUNS.value // 10)]:
            print(f"run {number}: {megabytes:.0f} MB", flush=True)
    save(["kind", "number", "resident_megabytes"], rows)


def save(heads: list[str], rows: list[tuple]) -> None:
    """Writes the table as CSV, if a file is named."""
    if OUTPUT.value:
        with open(OUTPUT.value, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(heads)
            writer.writerows(
                [f"{value:.1f}" if isinstance(value, float) else value for value in row]
                for row in rows
            )


if __name__ == "__main__":
    app.run(main)
