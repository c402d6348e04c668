"""Which policies a panel of curves shows: all, or those of a family among thin and grey lines."""

import math
from collections.abc import Callable, Collection, Container, Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from emoc_tf.analysis import families
from emoc_tf.report import drawing

# Policies that panels of other families show too, as thin lines; a variant that stands for one of
# them is one of them.
REFERENCES = ("random", "emoc")
GREY = "grey: the policies of the other panels"
_COLUMNS = 4  # side by side
_WIDTH, _HEIGHT = 3.5, 2.5  # inches of a panel among others
_SHORT = 14  # letters of a name, two of which stand side by side above it

# Draws a column of `steps.csv` with these policies in full, or all if there are none.
Draw = Callable[[Axes, str, Container[str] | None], None]


def families_apart(agents: Iterable[str], baseline: str | None = None) -> dict[str, list[str]]:
    """Returns which policies each panel of curves shows, by the panel's name.

    As many as can be told apart are in one panel, which has no name. Of more, each family has a
    panel; `random` has none of its own, since it is a reference in all.

    Args:
        agents: All that there are.
        baseline: The policy that the curves are differences to; it has no curve.
    """
    found = families.by_family(agents)
    if sum(map(len, found.values())) <= drawing.TOGETHER:
        return {"": families.ordered(agents)}
    without = {REFERENCES[0], baseline}
    shown = {
        family: [agent for agent in members if agent not in without]
        for family, members in found.items()
    }
    return {family: members for family, members in shown.items() if members}


def references(agents: Collection[str]) -> list[str]:
    """Returns which policies are thin lines in the panels of others."""
    return [agent for agent in agents if families.stands_for(agent, agents) in REFERENCES]


def draw_behind(
    axes: Axes,
    agent: str,
    agents: Collection[str],
    shown: Container[str] | None,
    labelled: np.ndarray,
    mean: np.ndarray,
) -> bool:
    """Draws a policy's curve if the panel is of others, and returns whether it is.

    Args:
        axes: To draw on.
        agent: The policy.
        agents: All that there are.
        shown: Those that the panel is of; None for all.
        labelled: (rows,) labelled images.
        mean: (rows,).
    """
    if shown is None or agent in shown:
        return False
    if agent in references(agents):
        drawing.reference_line(axes, agent, list(agents), labelled, mean)
    else:
        drawing.other_line(axes, labelled, mean)
    return True


def figure(
    draw: Draw,
    agents: Iterable[str],
    called: Mapping[str, str],
    title: str,
    baseline: str | None = None,
) -> Figure:
    """Draws curves side by side, or of many policies in small panels, family by family.

    Args:
        draw: Draws one curve, a column of `called`.
        agents: All policies that there are.
        called: The curves, and what they are called.
        title: Of the legend.
        baseline: See `families_apart`.
    """
    apart = families_apart(agents, baseline)
    return _side_by_side(draw, called, title) if "" in apart else _small(draw, apart, called, title)


def _side_by_side(draw: Draw, called: Mapping[str, str], title: str) -> Figure:
    found = Figure(figsize=(5 * len(called), 4.2), layout="constrained")
    panels = found.subplots(1, len(called), squeeze=False)[0]
    for axes, column in zip(panels, called, strict=True):
        draw(axes, column, None)
    drawing.legend(found, panels[0], title)
    return found


def _small(
    draw: Draw, apart: Mapping[str, list[str]], called: Mapping[str, str], title: str
) -> Figure:
    """Draws a column of panels a family, one a curve, the columns in rows."""
    rows = math.ceil(len(apart) / _COLUMNS)
    columns = math.ceil(len(apart) / rows)
    size = (_WIDTH * columns, (_HEIGHT * len(called) + 0.9) * rows + 0.4)
    found = Figure(figsize=size, layout="constrained")
    grid = found.subplots(rows * len(called), columns, squeeze=False)
    for place, (family, shown) in enumerate(apart.items()):
        row, x = divmod(place, columns)
        for y, column in enumerate(called):
            axes = grid[row * len(called) + y, x]
            draw(axes, column, shown)
            if x:
                axes.set_ylabel("")
            if y < len(called) - 1:
                axes.set_xlabel("")
        _name(grid[row * len(called), x], family)
    for y in range(len(called)):
        _share_y(list(grid[y :: len(called)].flat[: len(apart)]))
    for axes in grid[(rows - 1) * len(called) :, len(apart) - (rows - 1) * columns :].flat:
        axes.set_axis_off()
    found.suptitle(f"{title}; {GREY}" if len(apart) > 1 else title, fontsize="medium")
    return found


def _name(axes: Axes, family: str) -> None:
    """Puts a panel's family above it, with the policies that it names."""
    longest = drawing.width_of(axes.get_legend_handles_labels()[1])
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=2 if longest <= _SHORT else 1,
        frameon=False,
        fontsize="small",
        title=family,
        title_fontproperties={"weight": "bold", "size": "medium"},
        alignment="left",
        borderaxespad=0.2,
        handlelength=2.8,
    )


def _share_y(panels: list[Axes]) -> None:
    lows, highs = zip(*(axes.get_ylim() for axes in panels), strict=True)
    for axes in panels:
        axes.set_ylim(min(lows), max(highs))
