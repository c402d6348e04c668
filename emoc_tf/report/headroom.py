"""Shares of the headroom as a figure, a table and CSV."""

import dataclasses

import numpy as np
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from emoc_tf.analysis.headroom import BEST, CHANCE, LUCKIEST, Share
from emoc_tf.report import drawing, policy_rows, tables

_YARDSTICKS = (CHANCE, BEST, LUCKIEST)


def _learnt_by(update: bool) -> str:
    return "the learner's update" if update else "the last layer refitted"


def draw(found: list[Share]) -> Figure:
    """Draws each policy's share with its interval, between the mean of the sets and the best."""
    ways = sorted({row.update for row in found})
    agents = [row.agent for row in found if row.agent not in _YARDSTICKS]
    places = policy_rows.places(agents)
    size = 1.8 + 4.2 * len(ways), 1.9 + policy_rows.HEIGHT * len(places)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(ways), sharex=True, sharey=True, squeeze=False)[0]
    for axes, update in zip(panels, ways, strict=True):
        rows = {row.agent: row for row in found if row.update == update}
        for place in (0, 1):
            axes.axvline(place, color="#888888", linewidth=0.8, zorder=1)
        axes.axvline(rows[LUCKIEST].share, color="#555555", linewidth=1.1, linestyle=":", zorder=1)
        for agent, place in places.items():
            if agent in rows:
                row, (colour, marker, _) = rows[agent], drawing.style(agent, agents)
                ends = [[row.share - row.low], [row.high - row.share]]
                axes.errorbar(
                    row.share,
                    place,
                    xerr=None if np.isnan(row.low) else ends,
                    color=colour,
                    marker=marker,
                    linestyle="",
                    capsize=2.5,
                )
        every = rows[BEST]
        axes.set_title(
            f"sets learnt by {_learnt_by(update)}\n{every.states} states of "
            f"{drawing.initialisations([every.seeds])}, {every.sets:.0f} sets each",
            fontsize="medium",
        )
        drawing.finish(axes, "share of the headroom", "")
        policy_rows.rule(axes, places)
    policy_rows.label(panels[0], places)
    figure.suptitle(
        f"0: {CHANCE}; 1: {BEST}, at most the best on average; dotted: {LUCKIEST}, at least that",
        fontsize="medium",
    )
    return figure


def table(found: list[Share]) -> Table:
    """Returns the shares as a table to print, in 80 characters."""
    rows = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption="Share of the gain in test accuracy of the best set over the mean of sets, which "
        "is what random choice takes, with its 95% interval (over initialisations where there are "
        "five, else over states); mean gain over learning without a set; mean rank of the chosen "
        "set. The best of many sets, judged by the images it is chosen by, is in part the "
        f"luckiest: '{BEST}' is chosen on one half of the test images and judged by the other, "
        "both ways, and gains no more than the true best on average, "
        f"'{LUCKIEST}' no less.",
    )
    for heading, justify in (
        ("policy", "left"), ("share [95%]", "left"), ("gain", "right"), ("rank", "right"),
    ):  # fmt: skip
        rows.add_column(heading, justify=justify, overflow="fold")
    previous = None
    for row in found:
        if row.update != previous:
            previous = row.update
            rows.add_section()
            rows.add_row(
                f"{_learnt_by(row.update)}", f"states: {row.states} of {row.seeds} seeds", "",
                f"of {row.sets:.0f}",
            )  # fmt: skip
            rows.add_section()
        share = tables.number(row.share, 2)
        if not np.isnan(row.low):
            share += f" [{', '.join(tables.number(end, 2) for end in (row.low, row.high))}]"
        rows.add_row(
            row.agent, share, tables.number(row.gain, 4, signed=True), tables.number(row.rank, 1)
        )
    return rows


def agreement_line(rho: float, low: float, high: float, sets: int) -> str:
    """Returns in words what `analysis.headroom.agreement` found."""
    told = f"{tables.number(rho, 2)} [{tables.number(low, 2)}, {tables.number(high, 2)}]"
    return (
        f"rank correlation of the last layer's gains with the update's, over the {sets} sets that "
        f"were learnt in both ways: {told}"
    )


def to_rows(found: list[Share]) -> list[list]:
    """Returns the shares, a heading first."""
    names = [field.name for field in dataclasses.fields(Share)]
    return [names, *([getattr(row, name) for name in names] for row in found)]
