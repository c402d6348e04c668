"""How figures of policies look, and how they are written: PNG, SVG, SVG for pages with themes."""

import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoc_tf.analysis.families import ordered, stands_for
from emoc_tf.data.figures import literal
from emoc_tf.storage import atomic

# As many policies as one panel shows; of more, each family gets a panel.
TOGETHER = 8
# Okabe and Ito's colours (jfly.uni-koeln.de/color) first, dark and light ones between them for
# later policies. In a family they are apart for all kinds of colour vision; marker and dashes tell
# policies apart in grey.
_STYLES: dict[str, tuple[str, str, str]] = {
    "random": ("#000000", "o", "--"),
    "min": ("#56B4E9", "v", "-"),
    "min-literal": ("#999999", "P", ":"),
    "1-vs-2": ("#009E73", "^", "-"),
    "max": ("#E69F00", "s", "-."),
    "emoc": ("#D55E00", "D", "-"),
    "emoc-expected": ("#CC79A7", "X", "-"),
    "learned": ("#0072B2", "h", "-"),
    "entropy": ("#9528CC", "p", "--"),
    "set-entropy": ("#33597F", "<", "-"),
    "p-wrong": ("#44AA99", "<", "--"),
    "novel": ("#9C3B5E", ">", "-."),
    "emoc-new": ("#6B49C0", "s", "--"),
    "lookahead": ("#2F5FBF", "p", "-."),
    "gp-emoc": ("#B09CD8", "P", "--"),
    "bait": ("#8E3FA8", "s", "--"),
    "bald": ("#44AA99", ">", "-."),
    "badge": ("#AA4499", "^", "--"),
    "herding": ("#8F8FFF", "H", "-."),
    "core-set": ("#4A50C8", "8", "-."),
    "egl": ("#228B8D", "p", "-."),
}
_LONG = 30  # letters of a name on one line
# Variants and policies of your own: 4 colours × 5 markers × 3 dashes that go round separately.
_COLOURS, _MARKERS, _DASHES = (
    ("#8C6D31", "#8E6BC9", "#666666", "#66A61E"),
    "*p>d<",
    ("-", "--", "-."),
)


def style(agent: str, agents: Sequence[str]) -> tuple[str, str, str]:
    """Returns colour, marker and dashes of a policy among those that are shown.

    A variant that is the only one of its policy looks like the policy.
    """
    name = stands_for(agent, agents)
    if name in _STYLES:
        return _STYLES[name]
    i = [a for a in ordered(agents) if stands_for(a, agents) not in _STYLES].index(agent)
    return _COLOURS[i % 4], _MARKERS[i % 5], _DASHES[i % 3]


def named(agent: str) -> str:
    """Returns a policy's name to write into a figure; a long variant's goes on below."""
    lines = [""]
    for part in re.split("(?=:)", agent):
        if lines[-1] and len(lines[-1]) + len(part) > _LONG:
            lines.append("")
        lines[-1] += part
    return literal("\n".join(lines))


def cut(agent: str) -> str:
    """Returns a policy's name to write into a figure, of a long variant's the beginning."""
    return literal(agent if len(agent) <= _LONG else f"{agent[: _LONG - 1]}…")


def lessen(axes: Axes) -> None:
    """Makes names of several lines beside the rows of a figure smaller, to part them."""
    for text in axes.get_yticklabels():
        if "\n" in text.get_text():
            text.set_fontsize("small")


def width_of(names: Iterable[str]) -> int:
    """Returns the letters of the longest line of some names."""
    return max((len(part) for name in names for part in name.split("\n")), default=1)


def line(
    axes: Axes,
    agent: str,
    agents: Sequence[str],
    labelled: np.ndarray,
    mean: np.ndarray,
    band: tuple[np.ndarray, np.ndarray] | None,
) -> None:
    """Draws the curve of a policy, with a band if there is one.

    Args:
        axes: To draw on.
        agent: The policy.
        agents: All that are shown.
        labelled: (rows,) labelled images.
        mean: (rows,).
        band: Its lower and upper ends, (rows,) each; left out where they are NaN.
    """
    colour, marker, dashes = style(agent, agents)
    axes.plot(
        labelled,
        mean,
        dashes,
        color=colour,
        marker=marker,
        markersize=4.5,
        markevery=max(1, len(labelled) // 14),
        markeredgecolor="white",
        markeredgewidth=0.5,
        linewidth=1.6,
        label=named(agent),
    )
    if band is not None and np.isfinite(band[0]).any():
        axes.fill_between(labelled, *band, color=colour, alpha=0.13, lw=0)


def reference_line(
    axes: Axes, agent: str, agents: Sequence[str], labelled: np.ndarray, mean: np.ndarray
) -> None:
    """Draws the curve of a policy that others are seen against: thin, in its own style."""
    colour, _, dashes = style(agent, agents)
    axes.plot(labelled, mean, dashes, color=colour, linewidth=0.9, label=named(agent), zorder=1.9)


def other_line(axes: Axes, labelled: np.ndarray, mean: np.ndarray) -> None:
    """Draws the curve of a policy that has another panel: light grey, on light and dark pages."""
    axes.plot(labelled, mean, "-", color="#888888", alpha=0.4, linewidth=0.7, zorder=1.5)


def finish(axes: Axes, x: str, y: str) -> None:
    """Names the axes and takes away what is no data."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def points(
    axes: Axes,
    agent: str,
    agents: Sequence[str],
    places: Sequence[float],
    values: Sequence[float],
    errors: Sequence,
) -> None:
    """Draws values of a policy with error bars, beside those of the other policies.

    Args:
        axes: To draw on.
        agent: The policy.
        agents: All that are shown.
        places: Positions along the x axis, 1 apart.
        values: One a position.
        errors: One a position, or two rows of them, downwards and upwards.
    """
    colour, marker, _ = style(agent, agents)
    apart = 0.13 if len(agents) <= TOGETHER else 0.9 / len(agents)
    shift = apart * (list(agents).index(agent) - (len(agents) - 1) / 2)
    axes.errorbar(
        np.asarray(places) + shift,
        values,
        errors,
        color=colour,
        marker=marker,
        linestyle="",
        capsize=2.5,
        label=named(agent),
    )


def legend(figure: Figure, axes: Axes, title: str) -> None:
    """Puts the policies drawn on `axes` below the figure, under a title."""
    handles, labels = axes.get_legend_handles_labels()
    fitting = max(1, 90 // (7 + width_of(labels)))
    rows = max(1, math.ceil(len(labels) / fitting))
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=max(1, math.ceil(len(labels) / rows)),  # rows of about the same length
        frameon=False,
        title=title,
        title_fontsize="small",
    )


def initialisations(counts: Sequence[int]) -> str:
    """Returns in words how many seeds policies have."""
    low, high = min(counts, default=0), max(counts, default=0)
    text = str(low) if low == high else f"{low} to {high}"
    return f"{text} initialisation{'s' * (high > 1)}"


def panel(draw: Callable[[Axes], None], width: float = 5.0, height: float = 3.6) -> Figure:
    """Returns a figure of one panel, as pages show it; sizes in inches."""
    with matplotlib.rc_context({"font.size": 11}):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
    return figure


def save(figure: Figure, path: Path) -> list[Path]:
    """Writes a figure to `path` with `.png` and `.svg` behind it, and returns the two paths."""
    paths = {kind: path.with_name(f"{path.name}.{kind}") for kind in ("png", "svg")}
    for kind, target in paths.items():
        atomic.write_bytes(target, _render(figure, kind))
    return list(paths.values())


def themed_svg(figure: Figure, salt: str) -> str:
    """Returns a figure as an `<svg>` element whose black and white follow a page's theme.

    Black becomes `currentColor`, white the page's `--page`; the background is transparent, the
    text is text, in the page's font.

    Args:
        figure: To draw.
        salt: Another one for each figure of a page, so that no two share an `id`.
    """
    figure.patch.set_alpha(0)
    for axes in figure.axes:
        axes.patch.set_alpha(0)
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        text = _render(figure, "svg", salt).decode()
    text = text[text.index("<svg") :]
    for colour in ("#000000", "black"):
        text = text.replace(f": {colour}", ": currentColor")
    for colour in ("#ffffff", "white"):
        text = text.replace(f": {colour}", ": var(--page)")
    # Names of groups, which nothing refers to; each label's list of fonts, where the page has its
    # own, and turns by nothing: half of a figure with many labels.
    for needless in (
        r' id="[\w.-]+_\d+"', r"(?<=; )font-family: [^;\"]*; ", r' transform="rotate\(-0 [^)]*\)"',
    ):  # fmt: skip
        text = re.sub(needless, "", text)
    return text


def _render(figure: Figure, kind: str, salt: str = "emoc_tf") -> bytes:
    # No date and no random names, so that equal records give equal files.
    metadata = {"Date": None} if kind == "svg" else None
    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(picture, format=kind, dpi=160, metadata=metadata)
    return picture.getvalue()
