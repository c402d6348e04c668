r"""Who wins where: policies against one of them in several settings, side by side.

    python benchmarks/across.py results/transfer/minibatch-cluster results/transfer/uniform \
        [--baseline=random] [--only_agents=badge,novel] [--only_seeds=1-5] \
        [--figure=FOLDER/NAME]

Each folder is one setting, as `compare` writes it. It has its name, or with TITLE=FOLDER another
one. `--only_agents` shows some policies, `--only_seeds` some initialisations. Where no setting has
two variants of a policy, they share a row of the figure, in its style. The baseline's row has its
means, the others' differences to it, paired within a setting, with 95% intervals; labels saved are
those of reports; seconds a choice are the median of each run's medians; minutes a run the median of
what runs took, without imports and the data set. Runs count as far as the shortest of a setting
went, as in reports. The primary measure is drawn into NAME.png and NAME.svg, all is written into
NAME.csv. Nothing is tested here: `report` tests the policies of one setting.
"""

import sys
import textwrap
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from absl import app, flags
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from emoc_tf.analysis import families
from emoc_tf.analysis.measures import MEASURES, PRIMARY, PolicySummary, by_agent, summarise
from emoc_tf.analysis.notes import of_answers
from emoc_tf.analysis.savings import Saving, labels_saved
from emoc_tf.analysis.statistics import PairedDifference, paired_differences
from emoc_tf.analysis.untested import of_one_length
from emoc_tf.data.figures import literal
from emoc_tf.experiments.flags import only_agents, only_seeds
from emoc_tf.records.run_record import RunRecord, read_runs
from emoc_tf.report import drawing, policy_rows, tables
from emoc_tf.storage import atomic, csv_files

BASELINE = flags.DEFINE_string("baseline", "random", "The policy to compare with.")
_TITLE = 22  # letters of a line above a panel
COSTS = ("seconds_per_choice", "minutes_per_run")
ONLY_AGENTS = only_agents()
ONLY_SEEDS = only_seeds()
FIGURE = flags.DEFINE_string("figure", None, "Where figure and table go, without an ending.")


@dataclass(frozen=True)
class Setting:
    """What one folder's finished runs say.

    Attributes:
        name: Of the folder.
        summaries: By policy, the baseline too.
        costs: Seconds of a choice and minutes of a run, by policy: medians over its runs, since
            some may have been made beside other work.
        differences: To the baseline, by policy, in each of `MEASURES`.
        saved: Labels saved against the baseline, by policy.
        notes: What a reader must know of the runs, in sentences.
    """

    name: str
    summaries: dict[str, PolicySummary]
    costs: dict[str, tuple[float, float]]
    differences: dict[str, dict[str, PairedDifference]]
    saved: dict[str, Saving]
    notes: list[str]

    @classmethod
    def of(cls, name: str, runs: list[RunRecord], baseline: str) -> "Setting":
        """Compares the policies of finished runs of one configuration.

        Raises:
            ValueError: The baseline has no run.
        """
        costs = {agent: _costs(group) for agent, group in by_agent(runs).items()}
        runs, notes = of_one_length(runs)
        if baseline not in by_agent(runs):
            raise ValueError(f"baseline: {'; '.join(notes)}")
        differences: dict[str, dict[str, PairedDifference]] = {}
        for measure in MEASURES:
            for row in paired_differences(runs, baseline, measure):
                differences.setdefault(row.agent, {})[measure] = row
        summaries = {row.agent: row for row in summarise(runs)}
        saved = {row.agent: row for row in labels_saved(runs, baseline)}
        notes += of_answers(runs)
        return cls(name, summaries, costs, differences, saved, notes)


def _costs(runs: list[RunRecord]) -> tuple[float, float]:
    choices = [np.median(run.timings["selection_seconds"][1:]) for run in runs]
    minutes = [run.timings["step_seconds"].sum() / 60 for run in runs]
    return float(np.median(choices)), float(np.median(minutes))


def draw(settings: list[Setting], baseline: str) -> Figure:
    """Draws differences in the primary measure with their intervals, a panel a setting."""
    row_of = _rows_of(settings, baseline)
    rows, styled = policy_rows.places(row_of.values()), [baseline, *sorted(set(row_of.values()))]
    size = 1.6 + 2.1 * len(settings), 1.3 + policy_rows.HEIGHT * len(rows)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(settings), sharex=True, sharey=True, squeeze=False)[0]
    for axes, setting in zip(panels, settings, strict=True):
        axes.axvline(0, color="#888888", linewidth=0.8, zorder=1)
        for agent, found in setting.differences.items():
            row, (colour, marker, _) = found[PRIMARY], drawing.style(row_of[agent], styled)
            ends = None if np.isnan(row.low) else [[row.mean - row.low], [row.high - row.mean]]
            axes.errorbar(
                row.mean, rows[row_of[agent]], xerr=ends, color=colour, marker=marker, linestyle="",
                capsize=2.5,
            )  # fmt: skip
        counts = [found[PRIMARY].pairs for found in setting.differences.values()]
        title = "\n".join(textwrap.wrap(setting.name, _TITLE))
        named = f"{literal(title)}\n{drawing.initialisations(counts)}"
        axes.set_title(named, fontsize="medium")
        drawing.finish(axes, "", "")
        policy_rows.rule(axes, rows)
    policy_rows.label(panels[0], rows)
    measure = MEASURES[PRIMARY].label
    label = f"{measure}: difference to {literal(baseline)}, with 95% intervals"
    figure.supxlabel(label, fontsize="medium")
    return figure


def _rows_of(settings: list[Setting], baseline: str) -> dict[str, str]:
    """Returns the name of each policy's row: its policy's if another setting has another variant.

    But only if no setting has two variants of it, the baseline among them.
    """
    variants: dict[str, set[str]] = {}
    several: set[str] = set()
    for setting in settings:
        policies = [families.base(agent) for agent in (baseline, *setting.differences)]
        several |= {policy for policy in policies if policies.count(policy) > 1}
        for agent in setting.differences:
            variants.setdefault(families.base(agent), set()).add(agent)
    return {
        agent: agent if policy in several or len(group) == 1 else policy
        for policy, group in variants.items()
        for agent in group
    }


def table(setting: Setting, baseline: str) -> Table:
    """Returns what a setting says, to print."""
    found = Table(escape(f"{setting.name}\nminus {baseline}"), "runs", box=box.SIMPLE_HEAD)
    for heading in (*(measure.label for measure in MEASURES.values()), "labels saved"):
        found.add_column(heading, justify="right")
    for heading in ("s per choice", "min per run"):
        found.add_column(heading, justify="right")
    own = setting.summaries[baseline]
    means = [getattr(own, name).text(measure.digits, False) for name, measure in MEASURES.items()]
    costs = [tables.number(value, 2) for value in setting.costs[baseline]]
    found.add_row(baseline, str(own.runs), *means, "–", *costs, end_section=True)
    for agent in families.ordered(setting.differences):
        of = setting.differences[agent]
        labels = "–"
        if (saving := setting.saved.get(agent)) is not None:
            labels = tables.with_interval(saving.labels, saving.low, saving.high, 0)
        cells = [tables.difference(of[measure]) for measure in MEASURES]
        costs = [tables.number(value, 2) for value in setting.costs[agent]]
        found.add_row(agent, str(of[PRIMARY].pairs), *cells, labels, *costs)
    return found


def to_rows(settings: list[Setting]) -> list[list]:
    """Returns all settings as rows, a heading first."""
    rows: list[list] = []
    for setting in settings:
        differences = [list(of.values()) for of in setting.differences.values()]
        heading, *others = tables.difference_rows(differences, saved=setting.saved.values())
        tested = heading.index("p")
        rows += [] if rows else [["setting", *heading[:tested], *COSTS]]
        rows += [
            [setting.name, *row[:tested], *csv_files.rounded(setting.costs[row[1]])]
            for row in others
        ]
    return rows


def read(
    folders: Mapping[str, str],
    baseline: str,
    only: Collection[str] = (),
    seeds: Collection[int] = (),
) -> list[Setting]:
    """Reads the settings.

    Args:
        folders: By the settings' names.
        baseline: A policy's name.
        only: Policies to read besides; all if there are none.
        seeds: Initialisations to read; all if there are none.

    Raises:
        ValueError: A folder has no finished run of the baseline (and `seeds`), or none has one of
            `only` or of each of `seeds`.
    """
    finished = {
        name: [run for run in read_runs(path) if run.finished] for name, path in folders.items()
    }
    seeds_there = {run.seed for runs in finished.values() for run in runs}
    for seed in seeds:
        if seeds_there and seed not in seeds_there:
            raise ValueError(f"only_seeds: expected some of {sorted(seeds_there)}, got {seed}")
    settings, there = [], set()
    for name, folder in folders.items():
        runs = [run for run in finished[name] if not seeds or run.seed in seeds]
        there |= {run.agent for run in runs}
        runs = [run for run in runs if not only or run.agent in {baseline, *only}]
        if baseline not in by_agent(runs):
            of = f", initialisations {sorted(seeds)}" if seeds else ""
            raise ValueError(f"folders: expected finished runs of {baseline!r} in {folder}{of}")
        settings.append(Setting.of(name, runs, baseline))
    for agent in only:
        if agent not in there:
            names = families.ordered(there)
            raise ValueError(f"only_agents: expected some of {names}, got {agent!r}")
    return settings


def titled(argument: str) -> tuple[str, str]:
    """Returns the name of a setting and its folder, of FOLDER or TITLE=FOLDER."""
    if Path(argument).is_dir():
        return Path(argument).resolve().name, argument
    parts = argument.split("=")
    for end in range(1, len(parts)):  # folders of variants have an equals sign, too
        if Path(folder := "=".join(parts[end:])).is_dir():
            return "=".join(parts[:end]), folder
    title, equals, folder = argument.rpartition("=")
    return (title, folder) if equals else (Path(argument).resolve().name, argument)


def main(argv: list[str]) -> None:
    """Looks at the folders given."""
    folders = dict(map(titled, argv[1:]))
    if not folders or len(folders) < len(argv) - 1:
        sys.exit("usage: python benchmarks/across.py [TITLE=]FOLDER [...], of different names")
    try:
        settings = read(folders, BASELINE.value, ONLY_AGENTS.value, ONLY_SEEDS())
    except ValueError as error:
        raise app.UsageError(str(error)) from None
    console = Console(width=200)
    for setting in settings:
        console.print(table(setting, BASELINE.value))
        for note in setting.notes:
            console.print(escape(f"{setting.name}: {note}"))
    if FIGURE.value:
        target = Path(FIGURE.value)
        written = drawing.save(draw(settings, BASELINE.value), target)
        text = target.with_name(f"{target.name}.csv")
        atomic.write_text(text, csv_files.text(to_rows(settings)))
        console.print(f"Written: {', '.join(map(str, [*written, text]))}")


if __name__ == "__main__":
    app.run(main)
