"""What a setting does to policies: a figure, a table and CSV."""

import dataclasses
from typing import Any

from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from emoc_tf.analysis import families
from emoc_tf.analysis.findings import Findings
from emoc_tf.analysis.measures import MEASURES
from emoc_tf.analysis.statistics import PairedDifference, paired_differences
from emoc_tf.data.figures import literal
from emoc_tf.report import drawing, tables
from emoc_tf.report.tables import COMPARED


def draw(setting: str, findings: dict[Any, Findings]) -> Figure:
    """Draws the mean accuracy and the mean number of classes of each policy at each value.

    The two are side by side, those of many policies one below the other.
    """
    agents = families.ordered([agent for found in findings.values() for agent in found.agents])
    shape, size = ((1, 2), (10, 4.2)) if len(agents) <= drawing.TOGETHER else ((2, 1), (12, 8))
    figure = Figure(figsize=size, layout="constrained")
    for axes, measure in zip(figure.subplots(*shape), COMPARED, strict=True):
        for agent in agents:
            estimates = [
                (i, getattr(row, measure))
                for i, found in enumerate(findings.values())
                for row in found.summaries
                if row.agent == agent
            ]
            drawing.points(
                axes,
                agent,
                agents,
                [place for place, _ in estimates],
                [estimate.mean for _, estimate in estimates],
                [estimate.standard_error for _, estimate in estimates],
            )
        names = [literal(value) for value in findings]
        axes.set_xticks(range(len(findings)), names)
        axes.set_xlim(-0.5, len(findings) - 0.5)
        drawing.finish(axes, literal(setting), MEASURES[measure].label)
    counts = [row.runs for found in findings.values() for row in found.summaries]
    title = f"mean and standard error of {drawing.initialisations(counts)}"
    drawing.legend(figure, axes, title)
    return figure


def differences(setting: str, findings: dict[Any, Findings]) -> dict[str, list[PairedDifference]]:
    """Returns each policy's paired differences to itself under the first value.

    Args:
        setting: What varies.
        findings: Of each value.

    Returns:
        Of each measure the differences; `agent` and `baseline` are `policy, setting=value`.
    """
    first = next(iter(findings))
    rows: dict[str, list[PairedDifference]] = {measure: [] for measure in COMPARED}
    for agent in families.ordered([agent for found in findings.values() for agent in found.agents]):
        runs = [
            dataclasses.replace(run, agent=f"{agent}, {setting}={value}")
            for value, found in findings.items()
            for run in found.finished
            if run.agent == agent
        ]
        baseline = f"{agent}, {setting}={first}"
        if any(run.agent == baseline for run in runs):
            for measure in COMPARED:
                rows[measure] += paired_differences(runs, baseline, measure)
    return rows


def table(setting: str, rows: dict[str, list[PairedDifference]]) -> Table:
    """Returns the `differences`, to print."""
    effects = Table(box=box.SIMPLE_HEAD, padding=0)
    labels = [f"\n{MEASURES[measure].label}" for measure in COMPARED]
    for heading in (f"effect of\n{setting}", "\npairs", *labels):
        effects.add_column(heading, justify="right" if effects.columns else "left")
    others = {row.agent: row for row in rows["discovery_area"]}
    for row in rows["accuracy_area"]:
        cells = [tables.difference(row), tables.difference(others[row.agent])]
        effects.add_row(Text(row.agent), str(row.pairs), *cells)
    return effects


def summary_rows(setting: str, findings: dict[Any, Findings]) -> list[list[Any]]:
    """Returns the summaries of all values, the value in the first column, a heading first."""
    rows: list[list[Any]] = []
    for value, found in findings.items():
        heading, *others = tables.summary_rows(found)
        rows += [] if rows else [[setting, *heading]]
        rows += [[str(value), *row] for row in others]
    return rows
