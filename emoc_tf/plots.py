"""Figures from run records."""

import io
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from emoc_tf import checkpoint
from emoc_tf.results import RunRecord

# Okabe and Ito's colours (jfly.uni-koeln.de/color), apart for all kinds of colour vision; marker
# and dashes tell the policies apart in grey.
_STYLES: dict[str, tuple[str, str, str]] = {
    "random": ("#000000", "o", "--"),
    "min": ("#56B4E9", "v", "-"),
    "min-literal": ("#999999", "P", ":"),
    "1-vs-2": ("#009E73", "^", "-"),
    "max": ("#E69F00", "s", "-."),
    "emoc": ("#D55E00", "D", "-"),
    "emoc-expected": ("#CC79A7", "X", "-"),
    "learned": ("#0072B2", "h", "-"),
}
# Variants and policies of one's own: 4 colours × 5 markers × 3 dashes that go round separately.
_COLOURS, _MARKERS, _DASHES = (
    ("#8C6D31", "#5E3C99", "#666666", "#66A61E"),
    "*p>d<",
    ("-", "--", "-."),
)


def _style(agent: str, others: list[str]) -> tuple[str, str, str]:
    if agent in _STYLES:
        return _STYLES[agent]
    i = others.index(agent)
    return _COLOURS[i % 4], _MARKERS[i % 5], _DASHES[i % 3]


def learning_curves(runs: Sequence[RunRecord]) -> Figure:
    """Draws test accuracy and discovered classes over labelled images, as the paper's Fig. 1.

    Lines are means over seeds, bands one standard error to either side.

    Args:
        runs: Finished runs of one configuration.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    agents = [agent for agent in _STYLES if any(run.agent == agent for run in runs)]
    others = sorted({run.agent for run in runs} - set(agents))
    agents += others
    styles = {agent: _style(agent, others) for agent in agents}
    for agent in agents:
        group = [run for run in runs if run.agent == agent]
        _curve(left, group, "test_accuracy", styles[agent])
        _curve(right, group, "discovered_classes", styles[agent])
    left.set_ylabel("test accuracy, all classes")
    right.set_ylabel("novel classes discovered")
    for axes in (left, right):
        axes.set_xlabel("labelled images")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    seeds = sorted({run.seed for run in runs})
    handles, labels = left.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, min(len(labels), 90 // (7 + max(map(len, labels))))),
        frameon=False,
        title=f"mean and standard error of {len(seeds)} initialisation{'s' * (len(seeds) > 1)}",
        title_fontsize="small",
    )
    return figure


def _curve(axes: Axes, runs: Sequence[RunRecord], column: str, style: tuple[str, str, str]) -> None:
    colour, marker, dashes = style
    labelled = runs[0].steps["labelled"]
    values = np.stack([run.steps[column] for run in runs])
    mean = values.mean(axis=0)
    axes.plot(
        labelled,
        mean,
        dashes,
        color=colour,
        marker=marker,
        markersize=4.5,
        markeredgecolor="white",
        markeredgewidth=0.5,
        linewidth=1.6,
        label=runs[0].agent,
    )
    if len(runs) > 1:
        error = stats.sem(values, axis=0)
        axes.fill_between(labelled, mean - error, mean + error, color=colour, alpha=0.13, lw=0)


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes a figure as PNG and SVG beside each other and returns the two paths."""
    paths = [path.with_suffix(".png"), path.with_suffix(".svg")]
    for target in paths:
        # No date and no random names, so that equal records give equal files.
        metadata = {"Date": None} if target.suffix == ".svg" else None
        with matplotlib.rc_context({"svg.hashsalt": "emoc_tf"}):
            picture = io.BytesIO()
            figure.savefig(picture, format=target.suffix[1:], dpi=160, metadata=metadata)
        checkpoint.write_bytes(target, picture.getvalue())
    return paths
