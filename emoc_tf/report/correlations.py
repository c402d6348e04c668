"""Rank correlations as a figure, a table and CSV."""

import dataclasses

from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from emoc_tf.analysis import families
from emoc_tf.analysis.correlations import AMONG, MEASURES, Correlation
from emoc_tf.report import drawing, tables

_SHORT = {"output_change": "change", "own_change": "own", "accuracy_gain": "gain"}
_LABELS = ("label assumed", "true label")


def draw(found: list[Correlation]) -> Figure:
    """Draws the correlations over all sets, with their intervals, over the number of iterations."""
    found = [row for row in found if row.among == "all"]
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    scores = families.ordered([row.score for row in found])
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
    """Returns the correlations as a table to print, in 80 characters."""
    rows = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption="Spearman's ρ with the change of the outputs, the set's own share of it (against a "
        "control that learnt old images only) and the gain in test accuracy: mean over models "
        "[95% interval over their sets], least and greatest of a model, mean among known and among "
        "novel sets.",
    )
    rows.add_column("score", overflow="fold", min_width=9)
    for heading in ("with", "learnt with", "rank correlation", "of models", *AMONG[1:]):
        justify = "right" if heading in AMONG else "left"
        rows.add_column(heading, justify=justify, no_wrap=True)
    rho = {_place(row): row.rho for row in found}
    for row in found:
        if row.among != "all":
            continue
        ends = ", ".join(tables.number(end, 2) for end in (row.low, row.high))
        parts = [rho.get(_place(row, among), float("nan")) for among in AMONG[1:]]
        learnt = f"{'true' if row.true_label else 'assumed'} {row.iterations or 'step'}"
        rows.add_row(
            row.score,
            _SHORT[row.measure],
            learnt,
            f"{tables.number(row.rho, 2)} [{ends}]",
            f"{tables.number(row.least, 2)} to {tables.number(row.greatest, 2)}",
            *(tables.number(part, 2) for part in parts),
        )
    return rows


def _place(row: Correlation, among: str | None = None) -> tuple:
    return row.score, among or row.among, row.measure, row.true_label, row.iterations


def to_rows(found: list[Correlation]) -> list[list]:
    """Returns the correlations, a heading first."""
    names = [field.name for field in dataclasses.fields(Correlation)]
    return [names, *([getattr(row, name) for name in names] for row in found)]
