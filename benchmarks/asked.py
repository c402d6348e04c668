"""What policies ask about: how many classes a set holds, and how labels spread over classes.

    python benchmarks/asked.py results/transfer/minibatch-cluster [--most=16]
        [--counts=results/transfer/asked.csv]

Counts what `queried.csv` of each finished run has: images whose class was named, by that class.
(Where answers are wrong by design, the class is the one that was answered.) Of each policy, means
over its runs: different classes in a set; the share of a set's largest class; and the *effective
number of classes*, the exponential of the entropy of the classes' shares: k where k classes have
equally many labels, less where some have most. Then the classes that it asks about most, all runs
together. `--counts` writes counts, a row a run; such a file is read in the place of folders, since
`queried.csv` of many runs is large. Runs without `queried.csv` are left out and counted.
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

from emoc_tf.records.queried import QUERIED
from emoc_tf.records.run_record import read_runs
from emoc_tf.report.tables import number
from emoc_tf.storage import atomic, csv_files

MOST = flags.DEFINE_integer("most", 6, "Classes to name of each policy.", 1)
COUNTS = flags.DEFINE_string("counts", None, "Where the counts go, as CSV.")
OF_RUN = ("setting", "policy", "seed", "classes_in_a_set", "largest_share")
_MEANS = {"classes_in_a_set": 1, "largest_share": 2, "effective_classes": 1}  # with their digits


@dataclass(frozen=True)
class Asked:
    """What one run asked about.

    Attributes:
        setting: The folder's name.
        policy: By its name.
        seed: The initialisation.
        classes_in_a_set: Different classes among a step's images, the mean.
        largest_share: Of a step's images, the share of their most frequent class, the mean.
        counts: Images by class, all steps.
    """

    setting: str
    policy: str
    seed: int
    classes_in_a_set: float
    largest_share: float
    counts: dict[str, int]

    @property
    def effective_classes(self) -> float:
        """The exponential of the entropy of the classes' shares."""
        shares = np.array(list(self.counts.values())) / sum(self.counts.values())
        return float(np.exp(-(shares * np.log(shares)).sum()))

    @classmethod
    def of(cls, setting: str, policy: str, seed: int, lines: Iterable[dict[str, str]]) -> "Asked":
        """Counts the lines of a run's `queried.csv`."""
        steps: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
        for line in lines:
            if line["kind"] == "query" and line["class_name"] and line["taken_back"] == "0":
                steps[line["step"]][line["class_name"]] += 1
        if not steps:
            raise ValueError(f"{setting}/{policy}/{seed}: expected an image with a class, got none")
        largest = [max(step.values()) / step.total() for step in steps.values()]
        counts = sum(steps.values(), collections.Counter())
        in_a_set = float(np.mean([len(step) for step in steps.values()]))
        return cls(setting, policy, seed, in_a_set, float(np.mean(largest)), dict(counts))


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
            found.append(Asked.of(folder.absolute().name, run.agent, run.seed, lines))
    return found, without


def of_file(path: Path) -> list[Asked]:
    """Reads what `to_rows` made."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    if not lines or lines[0].keys() != {*OF_RUN, "counts"}:
        raise ValueError(f"{path}: expected a file that --counts wrote")
    return [
        Asked(
            line["setting"], line["policy"], int(line["seed"]), float(line["classes_in_a_set"]),
            float(line["largest_share"]), json.loads(line["counts"]),
        )
        for line in lines
    ]  # fmt: skip


def to_rows(runs: Sequence[Asked]) -> list[list]:
    """Returns a heading and a row a run."""
    rows: list[list] = [[*OF_RUN, "counts"]]
    for run in runs:
        means = csv_files.rounded([run.classes_in_a_set, run.largest_share])
        counts = json.dumps(dict(sorted(run.counts.items())), separators=(",", ":"))
        rows.append([run.setting, run.policy, run.seed, *means, counts])
    return rows


def table(runs: Sequence[Asked], most: int) -> Table:
    """Returns what the policies of one setting ask about, to print."""
    found = Table(escape(runs[0].setting), "runs", box=box.SIMPLE_HEAD)
    for heading in ("classes in a set", "largest share", "effective classes"):
        found.add_column(heading, justify="right")
    found.add_column(f"the {most} asked about most, and their share")
    groups: dict[str, list[Asked]] = {}
    for run in runs:
        groups.setdefault(run.policy, []).append(run)
    for policy, group in groups.items():
        totals = sum((collections.Counter(run.counts) for run in group), collections.Counter())
        named = totals.most_common(most)
        share = sum(count for _, count in named) / totals.total()
        names = f"{', '.join(name for name, _ in named)}: {number(share, 2)}"
        means = (
            number(float(np.mean([getattr(run, name) for run in group])), digits)
            for name, digits in _MEANS.items()
        )
        found.add_row(policy, str(len(group)), *means, escape(names))
    return found


def main(argv: list[str]) -> None:
    """Looks at the folders or the files given."""
    if len(argv) < 2:
        sys.exit("usage: python benchmarks/asked.py FOLDER|FILE [FOLDER|FILE ...]")
    console, runs = Console(width=200), []
    for place in map(Path, argv[1:]):
        try:
            found, without = of_folder(place) if place.is_dir() else (of_file(place), 0)
        except (OSError, ValueError) as error:
            raise app.UsageError(str(error)) from None
        runs += found
        if without:
            console.print(f"{escape(str(place))}: {without} runs without {QUERIED}, left out")
    for setting in dict.fromkeys(run.setting for run in runs):
        console.print(table([run for run in runs if run.setting == setting], MOST.value))
    if COUNTS.value:
        atomic.write_text(Path(COUNTS.value), csv_files.text(to_rows(runs)))
        console.print(f"Written: {escape(COUNTS.value)}")


if __name__ == "__main__":
    app.run(main)
