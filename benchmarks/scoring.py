r"""Exact EMOC scores: emoc_tf against the same scores written with other libraries.

Every contestant gets the same weights, images and labels, and computes
s(x',y') = (1/N) Σ_x ‖J(x) g(x',y')‖₁ with the gradient of the weight decay in g. Each runs in a
process of its own, which warms up on a few images and then times one full run; rounds are
interleaved and medians shown. Contestants that disagree end the comparison with an error. The
machine should be idle: beside one other busy thread PyTorch was seen to be ten times slower.

    pip install -r benchmarks/requirements.txt
    python benchmarks/scoring.py --rounds=3 --data_dir=DIR --output=scoring.csv
    python benchmarks/scoring.py --scaling  # by number of candidates, of classes, and a ResNet
    python benchmarks/scoring.py --network=resnet --reference=256 --candidates=500 --data_dir=DIR \
        '--contestants=torch.func,emoc_tf select_set' --approximate  # see peers_projected.py

Without `--data_dir` (tensorflow-datasets with CIFAR-100) the images are random. neural-tangents
0.6.5 does not import with today's JAX; it can be given an environment with an older one:

    python -m venv OLD
    OLD/bin/pip install neural-tangents jax==0.4.23 jaxlib==0.4.23 'numpy<2' 'scipy<1.13' \
        tensorflow-cpu==2.15.1
    python benchmarks/scoring.py --tangents_python=OLD/bin/python
"""

import csv
import dataclasses
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from problem import RESNETS, Case
from rich.console import Console
from rich.table import Table
from scipy import stats
from workers import (
    BFLOAT16,
    EXPLICIT,
    LOGRA,
    OURS,
    SELECT_SET,
    SELECT_SKETCHED,
    SELECTORS,
    SKETCH,
    TANGENTS,
    TORCH,
    TRAK,
)

PEERS = [*EXPLICIT, TANGENTS]
CONTESTANTS = [OURS, BFLOAT16, SELECT_SET, *PEERS]
APPROXIMATE = [SKETCH, SELECT_SKETCHED, TRAK, LOGRA]  # their errors are shown
# Greatest difference from ours, of the greatest score; for the set, of the best set's score.
TOLERANCE = (
    dict.fromkeys(CONTESTANTS, 1e-3)
    | {BFLOAT16: 5e-3, SELECT_SET: 5e-3}
    | dict.fromkeys(APPROXIMATE, np.inf)
)
SCALING_CASES = [
    *(Case("cifar10_quick", 250, candidates, 10) for candidates in (500, 1000, 2000, 4000, 8000)),
    *(Case("cifar10_quick", 100, 500, classes) for classes in (10, 20, 50, 100)),
    Case("resnet", 100, 200, 10),
]
# Heading, field of `Row`, format.
COLUMNS = [
    ("contestant", "contestant", ""),
    ("N", "reference", "d"),
    ("n", "candidates", "d"),
    ("C", "classes", "d"),
    ("network", "network", ""),
    ("seconds", "seconds", ".2f"),
    ("ratio", "ratio", ".2f"),
    ("Gmadd", "gigamultiply_adds", ".1f"),
    ("of peak", "share_of_peak", ".3f"),
    ("warm-up s", "warm_up", ".1f"),
    ("MiB", "peak_mib", ".0f"),
    ("error", "relative_error", ".1e"),
    ("ranks", "rank_correlation", ".4f"),
    ("measured", "measured_share", ".4g"),
]
TABLE_WIDTH = 150
NETWORKS = "cifar10_quick", *RESNETS

NETWORK = flags.DEFINE_enum("network", "cifar10_quick", [*NETWORKS], "What is scored.")
REFERENCE = flags.DEFINE_integer("reference", 1000, "N, reference images.", 1)
CANDIDATES = flags.DEFINE_integer("candidates", 2000, "n, candidates.", 25)
CLASSES = flags.DEFINE_integer("classes", 10, "C, outputs of the network.", 2)
ROUNDS = flags.DEFINE_integer("rounds", 1, "Interleaved rounds; medians are shown.", 1)
CHOSEN = flags.DEFINE_list(
    "contestants", CONTESTANTS, f"Which run; {OURS} always does, the others must agree with it."
)
APPROXIMATED = flags.DEFINE_bool(
    "approximate", False, "Also what is approximate: sketches, and random projections in PyTorch."
)
TANGENTS_IMAGES = flags.DEFINE_integer(
    "tangents_images", 64, f"Reference images that {TANGENTS} is timed on; scaled up to N.", 1
)
TANGENTS_PYTHON = flags.DEFINE_string(
    "tangents_python", sys.executable, f"Python of an environment where {TANGENTS} imports."
)
CHECK_SELECTION = flags.DEFINE_bool(
    "check_selection", True, "Compare the set selected with the exact scores of all sets."
)
SCALING = flags.DEFINE_bool("scaling", False, f"Many sizes instead of one, {OURS} and {TORCH}.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "tensorflow-datasets folder with CIFAR-100.")
OUTPUT = flags.DEFINE_string("output", None, "CSV file for the table.")

flags.register_validator(
    CHOSEN, lambda names: set(names) <= set(CONTESTANTS), f"expected some of {CONTESTANTS}"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table; None is shown as a dash.

    Attributes:
        seconds: Of one full run; scaled up where `measured_share` is below 1.
        ratio: Seconds of torch.func by these seconds.
        gigamultiply_adds: In the product of the gradients, in units of 1e9; None for those that
            multiply other things (neural-tangents) or leave out pairs (the selection).
        share_of_peak: Multiply-adds per second, as a share of those of a large sgemm.
        warm_up: Seconds before the measurement, compilation among them.
        peak_mib: The most memory that the process held.
        relative_error: Greatest difference from emoc_tf float32, of the greatest score; of the
            set selected, how far its score is below the best.
        rank_correlation: Of the scores with emoc_tf float32's, Spearman's.
        measured_share: Of the pairs of images.
        note: Why a contestant is missing.
    """

    contestant: str
    reference: int
    candidates: int
    classes: int
    network: str
    seconds: float | None = None
    ratio: float | None = None
    gigamultiply_adds: float | None = None
    share_of_peak: float | None = None
    warm_up: float | None = None
    peak_mib: float | None = None
    relative_error: float | None = None
    rank_correlation: float | None = None
    measured_share: float | None = None
    note: str = ""


def run_worker(job: str, problem: Path, *options: str) -> dict[str, Any]:
    """Runs a job in a child process and returns its answer.

    Raises:
        RuntimeError: The child failed; with what it wrote.
    """
    answer = problem.with_suffix(".json")
    python = TANGENTS_PYTHON.value if job == TANGENTS else sys.executable
    script = Path(__file__).with_name("workers.py")
    command = [python, str(script), job, str(answer), str(problem), *options]
    child = subprocess.run(command, capture_output=True, text=True)
    if child.returncode:
        raise RuntimeError(f"{job} failed:\n{child.stderr}")
    return json.loads(answer.read_text(encoding="utf-8"))


def run_case(case: Case, contestants: list[str], peak: float, folder: Path) -> list[Row]:
    """Runs all rounds of all contestants on one problem.

    Raises:
        RuntimeError: A contestant disagrees with ours.
    """
    path = folder / "problem.npz"
    options = [f"--case={json.dumps(dataclasses.astuple(case))}"]
    options += [f"--data_dir={DATA_DIR.value}"] if DATA_DIR.value else []
    multiply_adds = run_worker("problem", path, *options)
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
    for _ in range(ROUNDS.value):
        for name, found in answers.items():
            answer = run_worker(name, path, f"--tangents_images={TANGENTS_IMAGES.value}")
            print(f"{name}: {answer.get('seconds', 'missing')}", flush=True)
            found.append(answer)
    exact_sets = None
    if set(SELECTORS) & set(contestants) and CHECK_SELECTION.value:
        exact_sets = np.array(run_worker("set_scores", path)["scores"])
    rows = []
    for name, found in answers.items():
        row = Row(name, case.reference, case.candidates, case.classes, case.network)
        if "missing" in found[0]:
            rows.append(dataclasses.replace(row, note=found[0]["missing"]))
            continue
        error = relative_error(name, found, answers[OURS][0], exact_sets)
        # In deep networks a unit at 0 falls either way in a library, and J with it.
        tolerance = TOLERANCE[name] * (5 if case.network in RESNETS else 1)
        if error is not None and not error <= tolerance:
            raise RuntimeError(
                f"{name}: expected to agree with {OURS} within {tolerance}, got {error:.2g}"
            )
        seconds = statistics.median(answer["seconds"] for answer in found)
        row = dataclasses.replace(
            row,
            seconds=seconds,
            warm_up=statistics.median(answer["warm_up"] for answer in found),
            peak_mib=max(answer["peak_mib"] for answer in found),
            relative_error=error,
            rank_correlation=rank_correlation(name, found[0], answers[OURS][0]),
            measured_share=found[0]["images"] / case.reference,
        )
        if name not in (*SELECTORS, *APPROXIMATE, TANGENTS):
            kind = "explicit" if name in PEERS else "factored"
            adds = multiply_adds[kind] * case.reference * case.candidates / 1e9
            row = dataclasses.replace(
                row, gigamultiply_adds=adds, share_of_peak=adds / seconds / peak
            )
        rows.append(row)
    base = next((row.seconds for row in rows if row.contestant == TORCH), None)
    return [
        dataclasses.replace(row, ratio=base / row.seconds) if base and row.seconds else row
        for row in rows
    ]


def relative_error(
    name: str,
    answers: list[dict[str, Any]],
    ours: dict[str, Any],
    exact_sets: np.ndarray | None,
) -> float | None:
    """Returns the greatest error of all rounds; None where there is nothing to compare with."""
    if name in SELECTORS:
        if exact_sets is None:
            return None
        return max(1 - exact_sets[answer["index"]] / exact_sets.max() for answer in answers)
    right = np.array(ours["tangents_scores" if name == TANGENTS else "scores"])
    return max(np.abs(np.array(answer["scores"]) - right).max() for answer in answers) / right.max()


def rank_correlation(name: str, answer: dict[str, Any], ours: dict[str, Any]) -> float | None:
    """Returns Spearman's correlation of scores; None of selections, and of ours with itself."""
    if name == OURS or "scores" not in answer:
        return None
    right = ours["tangents_scores" if name == TANGENTS else "scores"]
    return float(stats.spearmanr(answer["scores"], right).statistic)


def show(rows: list[Row]) -> None:
    """Prints the table, and the reasons of those missing below it."""
    table = Table()
    for heading, _, form in COLUMNS:
        table.add_column(heading, justify="right" if form else "left", no_wrap=True)
    for row in rows:
        values = [(getattr(row, name), form) for _, name, form in COLUMNS]
        table.add_row(*("–" if value is None else format(value, form) for value, form in values))
    Console(width=TABLE_WIDTH).print(table)
    for row in rows:
        if row.note:
            print(f"{row.contestant}: not installed, does not import, or too large: {row.note}")


def save(rows: list[Row], path: str) -> None:
    """Writes the table as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


def main(argv: list[str]) -> None:
    """Runs the comparison, prints the table and writes the CSV file."""
    del argv
    cases = [Case(NETWORK.value, REFERENCE.value, CANDIDATES.value, CLASSES.value)]
    contestants = [name for name in CONTESTANTS if name == OURS or name in CHOSEN.value]
    contestants += APPROXIMATE if APPROXIMATED.value else []
    if SCALING.value:
        cases, contestants = SCALING_CASES, [OURS, TORCH]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        peak = run_worker("sgemm", Path(folder) / "none.npz")["peak"]
        print(f"sgemm: {peak:.1f} gigamultiply-adds a second", flush=True)
        for case in cases:
            rows += run_case(case, contestants, peak, Path(folder))
    show(rows)
    if OUTPUT.value:
        save(rows, OUTPUT.value)


if __name__ == "__main__":
    app.run(main)
