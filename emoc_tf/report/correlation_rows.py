"""Rank correlations of many scores as a figure: a row a score, family by family."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoc_tf.analysis.correlations import MEASURES, NOVEL, Correlation
from emoc_tf.analysis.gate import LEAST, MEASURE, decisive
from emoc_tf.report import drawing, policy_rows

# Heading of the panel, measure, and among which sets.
_PANELS = (
    ("among known sets", MEASURE, "known"),
    ("among novel sets", MEASURE, "novel"),
    ("all sets", "accuracy_gain", "all"),
)


def draw(found: Sequence[Correlation]) -> Figure:
    """Draws the correlations with their intervals, true label, after the most iterations."""
    scores = [row.score for row in found]
    places = policy_rows.places(score for score in scores if score != NOVEL)
    if NOVEL in scores:
        places |= {" no policy": len(places), NOVEL: len(places) + 1}
    figure = Figure(figsize=(10, 1.6 + policy_rows.HEIGHT * len(places)), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharex=True, sharey=True)
    shown = []
    for axes, (among, measure, part) in zip(panels, _PANELS, strict=True):
        rows = [row for row in decisive(found, measure) if row.among == part]
        shown += rows
        _panel(axes, rows, places)
        axes.set_title(f"{MEASURES[measure]},\n{among}", fontsize="medium")
        if measure == MEASURE:
            axes.axvline(LEAST[part], color="#555555", linewidth=1.1, linestyle=":", zorder=1)
    policy_rows.label(panels[0], places)
    panels[0].set_xlim(-1.05, 1.05)
    figure.supxlabel("rank correlation with the score", fontsize="medium")
    models = drawing.initialisations([max((row.seeds for row in shown), default=0)])
    iterations = max((row.iterations for row in shown), default=0)
    limits = " and ".join(f"{least:g} among {part}" for part, least in LEAST.items())
    figure.suptitle(
        f"Spearman correlation after {iterations} iterations with the true label, mean of {models} "
        f"and 95% intervals over their sets\ndotted: what it takes to pass, {limits} sets",
        fontsize="medium",
    )
    return figure


def _panel(axes: Axes, rows: Sequence[Correlation], places: dict[str, int]) -> None:
    scores = [name for name in places if not name.startswith(" ")]
    axes.axvline(0, color="#888888", linewidth=0.8, zorder=1)
    for row in rows:
        colour, marker, _ = drawing.style(row.score, scores)
        axes.errorbar(
            row.rho,
            places[row.score],
            xerr=[[row.rho - row.low], [row.high - row.rho]],
            color=colour,
            marker=marker,
            markersize=6,
            capsize=2.5,
            linewidth=1.4,
        )
    drawing.finish(axes, "", "")
    policy_rows.rule(axes, places)
