"""Checks the records of a comparison: does every policy learn, discover and not forget?

    python benchmarks/check_protocol.py out

Three statements, from the run folders alone; the exit status is 1 if one does not hold:
every policy of a seed starts from the same row 0; after the update that discovers a class its own
test recall is above zero in most discoveries; accuracy on the classes known at the start falls by
no more than 0.10 along a run.
"""

import csv
import sys
from pathlib import Path

from emoc_tf.results import RECALLS, STEPS, read_runs


def discoveries(folder: Path) -> list[float]:
    """Returns, for each class a run discovered, its recall right after that update."""
    with open(folder / STEPS, newline="", encoding="utf-8") as file:
        steps = list(csv.DictReader(file))
    with open(folder / RECALLS, newline="", encoding="utf-8") as file:
        recalls = list(csv.DictReader(file))
    return [
        float(recall[after["queried_class"]])
        for before, after, recall in zip(steps[:-1], steps[1:], recalls[1:], strict=True)
        if int(after["discovered_classes"]) > int(before["discovered_classes"])
    ]


def main(output_dir: str) -> bool:
    """Prints the three findings and returns whether all hold."""
    runs = [run for run in read_runs(output_dir) if run.finished]
    starts: dict[int, set[str]] = {}
    found, falls = [], []
    for run in runs:
        folder = Path(output_dir) / run.agent.replace(":", "__") / str(run.seed)
        starts.setdefault(run.seed, set()).add((folder / STEPS).read_text().splitlines()[1])
        found += discoveries(folder)
        known = run.steps["known_accuracy"]
        falls.append((known[0] - known.min(), f"{run.agent}/{run.seed}"))
    recognised = sum(recall > 0 for recall in found)
    paired = all(len(rows) == 1 for rows in starts.values())
    worst, where = max(falls)
    print(f"{len(runs)} finished runs")
    print(f"policies of a seed start from the same row 0: {paired}")
    print(f"discovered classes recognised at once: {recognised} of {len(found)}")
    print(f"greatest fall of accuracy on the first known classes: {worst:.3f} ({where})")
    return paired and 2 * recognised >= len(found) and worst <= 0.10


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/check_protocol.py OUTPUT_DIR")
    sys.exit(not main(sys.argv[1]))
