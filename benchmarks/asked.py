"""What policies ask about: how many classes a set holds, and how labels spread over classes.

    python benchmarks/asked.py results/transfer/minibatch-cluster [--most=16]
        [--names=100,200] [--only_seeds=1-5] [--counts=results/transfer/asked.csv]

Counts what `queried.csv` of each finished run has: images whose class was named, by that class.
(Where answers are wrong by design, the class is the one that was answered.) Of each policy, means
over its runs: different classes in a set; the share of a set's largest class; the *effective number
of classes*, the exponential of the entropy of the classes' shares: k where k classes have equally
many labels, less where some have most; and the share of the `--most` classes that the run asks
about most. Then the classes that it asks about most, all runs together, and their share: less than
in single runs where each prefers others. With `--names=100,200` also the test accuracy (± standard
error) after so many names, where images of one class in a set are named together, which is what a
set costs a person on the page; between two steps it is interpolated, and "–" where not all runs
come so far. `--only_seeds` takes some initialisations. `--counts` writes what was counted, a row a
run; such a file is read in the place of folders, since `queried.csv` of many runs is large. Runs
without `queried.csv` are left out and counted.
"""

import collections
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import app, flags
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emoc_tf.analysis.measures import Estimate
from emoc_tf.experiments.flags import only_seeds
from emoc_tf.records.queried import QUERIED
from emoc_tf.records.run_record import RunRecord, read_runs
from emoc_tf.report.tables import number
from emoc_tf.storage import atomic, csv_files

MOST = flags.DEFINE_integer("most", 6, "Classes to name of each policy.", 1)
NAMES = flags.DEFINE_list("names", [], "Numbers of names after which accuracy is shown.")
ONLY_SEEDS = only_seeds()
COUNTS = flags.DEFINE_string("counts", None, "Where the counts go, as CSV.")
COLUMNS = ("setting", "policy", "seed", "largest_share", "classes", "accuracies", "counts")
_MEANS = {"classes_in_a_set": 1, "largest_share": 2, "effective_classes": 1}  # with their digits


@dataclass(frozen=True)
class Asked:
    """What one run asked about.

    Attributes:
        setting: The folder's name.
        policy: By its name.
        seed: The initialisation.
        largest_share: Of a step's images, the share of their most frequent class, the mean.
        classes: Different classes among a step's images, step by step; 0 where none was named.
        accuracies: On test images, at the start and after each step.
        counts: Images by class, all steps.
    """

    setting: str
    policy: str
    seed: int
    largest_share: float
    classes: list[int]
    accuracies: list[float]
    counts: dict[str, int]

    @property
    def place(self) -> str:
        """Setting, policy and initialisation."""
        return f"{self.setting}/{self.policy}/{self.seed}"

    @property
    def classes_in_a_set(self) -> float:
        """Different classes among a step's images, the mean over steps where one was named."""
        return float(np.mean([count for count in self.classes if count]))

    @property
    def effective_classes(self) -> float:
        """The exponential of the entropy of the classes' shares."""
        shares = np.array(list(self.counts.values())) / sum(self.counts.values())
        return float(np.exp(-(shares * np.log(shares)).sum()))

    def share_of(self, most: int) -> float:
        """The share of the classes that it asks about most, so many of them."""
        return sum(sorted(self.counts.values())[-most:]) / sum(self.counts.values())

    def accuracy_after(self, names: int) -> float:
        """Returns the test accuracy after so many names; NaN where it has fewer."""
        given = np.cumsum([0, *self.classes])
        return float(np.interp(names, given, self.accuracies, right=np.nan))

    @classmethod
    def of(cls, setting: str, run: RunRecord, lines: Iterable[dict[str, str]]) -> "Asked":
        """Counts the lines of a run's `queried.csv`."""
        steps: dict[int, collections.Counter] = collections.defaultdict(collections.Counter)
        for line in lines:
            if line["kind"] == "query" and line["class_name"] and line["taken_back"] == "0":
                steps[int(line["step"])][line["class_name"]] += 1
        if not steps:
            place = f"{setting}/{run.agent}/{run.seed}"
            raise ValueError(f"{place}: expected an image with a class, got none")
        largest = [max(step.values()) / step.total() for step in steps.values()]
        return cls(
            setting,
            run.agent,
            run.seed,
            float(np.mean(largest)),
            [len(steps.get(step, ())) for step in run.steps["step"][1:].astype(int)],
            run.steps["test_accuracy"].tolist(),
            dict(sum(steps.values(), collections.Counter())),
        )


def of_folder(folder: Path) -> tuple[list[Asked], int]:
    """Returns what a folder's finished runs asked about, and how many have no `queried.csv`."""
    found, without = [], 0
    for run in read_runs(folder):
        if not run.finished:
            continue
        path = run.folder / QUERIED
        if not path.exists():
            without += 1
            continue
        with path.open(encoding="utf-8", newline="") as file:
            lines = csv.DictReader(file)
            found.append(Asked.of(folder.absolute().name, run, lines))
    return found, without


def of_file(path: Path) -> list[Asked]:
    """Reads what `to_rows` made."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    if not lines or tuple(lines[0]) != COLUMNS:
        raise ValueError(f"{path}: expected a file that --counts wrote")
    return [
        Asked(
            line["setting"],
            line["policy"],
            int(line["seed"]),
            float(line["largest_share"]),
            *(json.loads(line[name]) for name in COLUMNS[4:]),
        )
        for line in lines
    ]


def to_rows(runs: Sequence[Asked]) -> list[list]:
    """Returns a heading and a row a run."""
    rows: list[list] = [[*COLUMNS]]
    for run in runs:
        told = run.classes, [round(value, 6) for value in run.accuracies], run.counts
        texts = [json.dumps(value, separators=(",", ":"), sort_keys=True) for value in told]
        share = csv_files.rounded([run.largest_share])
        rows.append([run.setting, run.policy, run.seed, *share, *texts])
    return rows


def table(runs: Sequence[Asked], most: int, names: Sequence[int] = ()) -> Table:
    """Returns what the policies of one setting ask about, to print."""
    found = Table(escape(runs[0].setting), "runs", box=box.SIMPLE_HEAD)
    own = f"share of a run's {most}"
    for heading in ("classes in a set", "largest share", "effective classes", own):
        found.add_column(heading, justify="right")
    for count in names:
        found.add_column(f"after {count} names", justify="right")
    found.add_column(f"the {most} asked about most, and their share")
    groups: dict[str, list[Asked]] = {}
    for run in runs:
        groups.setdefault(run.policy, []).append(run)
    for policy, group in groups.items():
        totals = sum((collections.Counter(run.counts) for run in group), collections.Counter())
        named = totals.most_common(most)
        share = sum(count for _, count in named) / totals.total()
        told = f"{', '.join(name for name, _ in named)}: {number(share, 2)}"
        means = (
            number(float(np.mean([getattr(run, name) for run in group])), digits)
            for name, digits in _MEANS.items()
        )
        after = (
            Estimate.of([run.accuracy_after(count) for run in group]).text(3) for count in names
        )
        of_own = number(float(np.mean([run.share_of(most) for run in group])), 2)
        found.add_row(policy, str(len(group)), *means, of_own, *after, escape(told))
    return found


def main(argv: list[str]) -> None:
    """Looks at the folders or the files given."""
    if len(argv) < 2:
        sys.exit("usage: python benchmarks/asked.py FOLDER|FILE [FOLDER|FILE ...]")
    if not all(text.isdecimal() for text in NAMES.value):
        raise app.UsageError(f"names: expected integers, got {','.join(NAMES.value)}")
    console, runs = Console(width=240), []
    for place in map(Path, argv[1:]):
        try:
            found, without = of_folder(place) if place.is_dir() else (of_file(place), 0)
        except (OSError, ValueError) as error:
            raise app.UsageError(str(error)) from None
        again = {run.place for run in runs} & {run.place for run in found}
        runs += found
        if again:
            raise app.UsageError(f"{place}: expected runs of its own, got {min(again)} again")
        if without:
            console.print(f"{escape(str(place))}: {without} runs without {QUERIED}, left out")
    try:
        seeds = ONLY_SEEDS()
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    for seed in seeds:
        if seed not in (there := {run.seed for run in runs}):
            raise app.UsageError(f"only_seeds: expected some of {sorted(there)}, got {seed}")
    runs = [run for run in runs if not seeds or run.seed in seeds]
    names = [int(text) for text in NAMES.value]
    for setting in dict.fromkeys(run.setting for run in runs):
        console.print(table([run for run in runs if run.setting == setting], MOST.value, names))
    if COUNTS.value:
        atomic.write_text(Path(COUNTS.value), csv_files.text(to_rows(runs)))
        console.print(f"Written: {escape(COUNTS.value)}")


if __name__ == "__main__":
    app.run(main)
