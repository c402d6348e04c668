"""Checks the records of a comparison: does every policy learn, discover and not forget?

    python benchmarks/check_protocol.py out [--fall=0.10]

Four statements, from the run folders alone; the exit status is 1 if one does not hold:

1. every policy of a seed starts from the same row 0;
2. accuracy and discovered classes rise from the first to the last row of every run, but for `max`
   and `min-literal`, which may choose known classes only;
3. right after the update that discovers a class its own test recall is above zero, in most
   discoveries (there must be some);
4. accuracy on the classes known at the start never falls by more than `--fall` below row 0.
"""

import csv
import sys
from pathlib import Path

from absl import app, flags

from emoc_tf.records.run_record import RECALLS, STEPS, read_runs, run_path

FALL = flags.DEFINE_float("fall", 0.10, "Accepted fall of accuracy on the first known classes.")
NEED_NOT_RISE = ("max", "min-literal")


def discoveries(folder: Path) -> list[float]:
    """Returns, for each step that discovered classes, the recall of the class it queried.

    With candidate sets of one class that is the class discovered.
    """
    with open(folder / STEPS, newline="", encoding="utf-8") as file:
        steps = list(csv.DictReader(file))
    with open(folder / RECALLS, newline="", encoding="utf-8") as file:
        recalls = list(csv.DictReader(file))
    return [
        float(recall[after["queried_class"]])
        for before, after, recall in zip(steps[:-1], steps[1:], recalls[1:], strict=True)
        if int(after["discovered_classes"]) > int(before["discovered_classes"])
    ]


def check(output_dir: str, fall: float) -> bool:
    """Prints the findings and returns whether all four statements hold."""
    runs = [run for run in read_runs(output_dir) if run.finished]
    if not runs:
        raise ValueError(f"output_dir: expected a finished run in {output_dir}, got none")
    starts: dict[int, set[str]] = {}
    found, falls, resting = [], [], []
    for run in runs:
        folder = run_path(output_dir, run.agent, run.seed)
        starts.setdefault(run.seed, set()).add((folder / STEPS).read_text().splitlines()[1])
        found += discoveries(folder)
        known = run.steps["known_accuracy"]
        falls.append((known[0] - known.min(), f"{run.agent}/{run.seed}"))
        rises = all(
            run.steps[column][-1] > run.steps[column][0]
            for column in ("test_accuracy", "discovered_classes")
        )
        if not rises and run.agent not in NEED_NOT_RISE:
            resting.append(f"{run.agent}/{run.seed}")
    recognised = sum(recall > 0 for recall in found)
    paired = all(len(rows) == 1 for rows in starts.values())
    worst, where = max(falls)
    print(f"{len(runs)} finished runs")
    print(f"policies of a seed start from the same row 0: {paired}")
    print(f"runs whose accuracy or discovered classes do not rise: {resting or 'none'}")
    print(f"discovered classes recognised at once: {recognised} of {len(found)}")
    print(f"greatest fall of accuracy on the first known classes: {worst:.3f} ({where})")
    return bool(paired and not resting and 2 * recognised > len(found) and worst <= fall)


def main(argv: list[str]) -> None:
    """Checks the folder given."""
    if len(argv) != 2:
        sys.exit("usage: python benchmarks/check_protocol.py OUTPUT_DIR [--fall=0.10]")
    sys.exit(not check(argv[1], FALL.value))


if __name__ == "__main__":
    app.run(main)
