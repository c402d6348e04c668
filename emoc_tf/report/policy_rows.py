"""Rows of a figure: one a policy, under the heading of its family."""

from collections.abc import Iterable

from matplotlib.axes import Axes

from emoc_tf.analysis import families
from emoc_tf.report import drawing

HEIGHT = 0.235  # inches of a row


def places(agents: Iterable[str]) -> dict[str, int]:
    """Returns the row of each policy, and of each family's heading, which begins with a space."""
    groups = families.by_family(agents).items()
    names = [name for family, members in groups for name in (f" {family}", *members)]
    return {name: i for i, name in enumerate(names)}


def label(axes: Axes, rows: dict[str, int]) -> None:
    """Writes the names of the rows beside them, headings in bold, the first row on top."""
    axes.set_yticks([*rows.values()], [drawing.named(name.strip()) for name in rows])
    for name, text in zip(rows, axes.get_yticklabels(), strict=True):
        if name.startswith(" "):
            text.set_fontweight("bold")
    drawing.lessen(axes)
    axes.set_ylim(len(rows) - 0.4, -0.6)


def rule(axes: Axes, rows: dict[str, int]) -> None:
    """Draws a thin line along each policy, in place of the grid's."""
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    for name, place in rows.items():
        if not name.startswith(" "):
            axes.axhline(place, color="#888888", alpha=0.25, linewidth=0.5, zorder=0.5)
