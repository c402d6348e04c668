"""Rank correlations of many scores as a figure: a row a score, family by family."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoc_tf.analysis import families
from emoc_tf.analysis.correlations import MEASURES, NOVEL, Correlation
from emoc_tf.analysis.gate import LEAST, MEASURE, decisive
from emoc_tf.data.figures import literal
from emoc_tf.report import drawing

# Heading of the panel, measure, and among which sets.
_PANELS = (
    ("among known sets", MEASURE, "known"),
    ("among novel sets", MEASURE, "novel"),
    ("all sets", "accuracy_gain", "all"),
)
_ROW = 0.235  # inches


def draw(found: Sequence[Correlation]) -> Figure:
    """Draws the correlations with their intervals, true label, after the most iterations."""
    places = _places([row.score for row in found])
    figure = Figure(figsize=(10, 1.6 + _ROW * len(places)), layout="constrained")
    panels = figure.subplots(1, len(_PANELS), sharex=True, sharey=True)
    shown = []
    for axes, (among, measure, part) in zip(panels, _PANELS, strict=True):
        rows = [row for row in decisive(found, measure) if row.among == part]
        shown += rows
        _panel(axes, rows, places)
        axes.set_title(f"{MEASURES[measure]},\n{among}", fontsize="medium")
        if measure == MEASURE:
            axes.axvline(LEAST[part], color="#555555", linewidth=1.1, linestyle=":", zorder=1)
    panels[0].set_yticks([*places.values()], [literal(name.strip()) for name in places])
    for name, label in zip(places, panels[0].get_yticklabels(), strict=True):
        if name.startswith(" "):
            label.set_fontweight("bold")
    panels[0].set(xlim=(-1.05, 1.05), ylim=(len(places) - 0.4, -0.6))
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


def _places(scores: Sequence[str]) -> dict[str, int]:
    """Returns the row of each score, and of each family's heading, which begins with a space."""
    groups = families.by_family(score for score in scores if score != NOVEL)
    if NOVEL in scores:
        groups["no policy"] = [NOVEL]
    names = [name for family, members in groups.items() for name in (f" {family}", *members)]
    return {name: i for i, name in enumerate(names)}


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
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    for name, place in places.items():
        if not name.startswith(" "):
            axes.axhline(place, color="#888888", alpha=0.25, linewidth=0.5, zorder=0.5)
