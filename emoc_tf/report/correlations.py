"""Rank correlations as a figure, a table and CSV."""

import dataclasses
from collections.abc import Sequence

from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from rich.text import Text

from emoc_tf.analysis import families
from emoc_tf.analysis.correlations import AMONG, MEASURES, Correlation
from emoc_tf.analysis.gate import Gate
from emoc_tf.report import correlation_rows, drawing, tables
from emoc_tf.report.gate import with_interval

_SHORT = {"output_change": "change", "own_change": "own", "accuracy_gain": "gain"}
_LABELS = ("label assumed", "true label")


def draw(found: list[Correlation]) -> Figure:
    """Draws the correlations over all sets, with their intervals, over the number of iterations.

    Of more scores than one panel shows each has a row, see `correlation_rows`.
    """
    scores = families.ordered([row.score for row in found])
    if len(scores) > drawing.TOGETHER:
        return correlation_rows.draw(found)
    found = [row for row in found if row.among == "all"]
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    axes_of = figure.subplots(2, len(MEASURES), sharex=True, sharey=True)
    ticks = sorted({row.iterations for row in found})
    for label, row_of_axes in enumerate(axes_of):
        for axes, (measure, title) in zip(row_of_axes, MEASURES.items(), strict=True):
            axes.axhline(0, color="#888888", linewidth=0.8)
            for score in scores:
                rows = [
                    row
                    for row in found
                    if (row.score, row.measure, row.true_label) == (score, measure, bool(label))
                ]
                errors = [[r.rho - r.low for r in rows], [r.high - r.rho for r in rows]]
                places = [ticks.index(row.iterations) for row in rows]
                drawing.points(axes, score, scores, places, [row.rho for row in rows], errors)
            axes.set_title(f"{title}, {_LABELS[label]}", fontsize="medium")
            drawing.finish(axes, "SGD iterations of the real learner" if label else "", "")
            names = ["gradient step\non the set" if not tick else f"{tick}" for tick in ticks]
            axes.set_xticks(range(len(ticks)), names)
            axes.set_xlim(-0.5, len(ticks) - 0.5)
    axes_of[0, 0].set_ylim(-1.12, 1.12)
    figure.supylabel("rank correlation with the score")
    models = drawing.initialisations([max((row.seeds for row in found), default=0)])
    title = f"Spearman correlation, mean of {models} and 95% intervals over their sets"
    drawing.legend(figure, axes_of[0, 0], title)
    return figure


def table(found: list[Correlation]) -> Table:
    """Returns the correlations as a table to print, in 80 characters: a section a measure."""
    rows = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption="Spearman's ρ with the change of the outputs, the set's own share of it (against a "
        "control that learnt old images only) and the gain in test accuracy, after so many "
        "iterations with the label assumed or the true one: mean over models [95% interval over "
        "their sets], least and greatest of a model, mean among known and among novel sets.",
    )
    rows.add_column("score", overflow="fold", min_width=9)
    for heading in ("rank correlation", "of models", *AMONG[1:]):
        justify = "right" if heading in AMONG else "left"
        rows.add_column(heading, justify=justify, no_wrap=True)
    at = {_place(row): row for row in found}
    scores = families.ordered([row.score for row in found])
    for section in dict.fromkeys(_place(row)[2:] for row in found):
        measure, true_label, iterations = section
        title = f"{_SHORT[measure]}, {_LABELS[true_label]}, {iterations or 'step'}"
        rows.add_row(Text(title, style="bold"))
        for score in scores:
            row, *parts = (at.get((score, among, *section)) for among in AMONG)
            if row is None:
                continue
            rows.add_row(
                Text(score),
                with_interval(row.rho, row.low, row.high),
                f"{tables.number(row.least, 2)} to {tables.number(row.greatest, 2)}",
                *(tables.number(part.rho if part else float("nan"), 2) for part in parts),
            )
    return rows


def _place(row: Correlation) -> tuple:
    return row.score, row.among, row.measure, row.true_label, row.iterations


def to_rows(found: Sequence[Correlation | Gate]) -> list[list]:
    """Returns correlations, or the gate of scores, as rows of CSV, a heading first."""
    kind = type(found[0]) if found else Correlation
    names = [field.name for field in dataclasses.fields(kind)]
    return [names, *([getattr(row, name) for name in names] for row in found)]
