"""What scores are worth as tables: the gate, and how well they tell novel sets from known ones."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from emoc_tf.analysis import families
from emoc_tf.analysis.gate import LEAST, Gate, chosen
from emoc_tf.analysis.novelty import Novelty
from emoc_tf.report.tables import number


def gate_table(found: Sequence[Gate]) -> Table:
    """Returns how each score fares at the gate as a table to print, in 80 characters."""
    iterations = max((row.iterations for row in found), default=0)
    best = chosen(found)
    limits = " and ".join(f"{least:g} within {part} sets" for part, least in LEAST.items())
    rows = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption=f"Spearman's ρ with the set's own change, true label, {iterations} iterations: "
        f"mean over models [95% interval over their sets]. A score passes with at least {limits}. "
        f"Variants of EMOC alone may be chosen: {best.score if best else 'none'}.",
    )
    rows.add_column("score", overflow="fold", min_width=9)
    for heading in ("known sets", "novel sets"):
        rows.add_column(heading, no_wrap=True)
    for heading in ("sum", "pass"):
        rows.add_column(heading, justify="right", no_wrap=True)
    for row in _ordered(found):
        rows.add_row(
            Text(row.score),
            with_interval(row.known_rho, row.known_low, row.known_high, digits=3),
            with_interval(row.novel_rho, row.novel_low, row.novel_high, digits=3),
            number(row.total, 2),
            "–" if np.isnan(row.total) else "yes" if row.passes else "no",
        )
    return rows


def novelty_table(found: Sequence[Novelty]) -> Table:
    """Returns the areas as a table to print, in 80 characters."""
    seeds = next((list(row.areas) for row in found), [])
    rows = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        caption="Area under the ROC curve with which a score tells sets of novel classes from "
        "those of known ones: mean over models [95% interval over their sets], least and greatest "
        "of a model, each model. 0.5 tells nothing; below it known sets have the higher scores.",
    )
    rows.add_column("score", overflow="fold", min_width=22)
    rows.add_column("area", no_wrap=True)
    rows.add_column("of models", no_wrap=True)
    rows.add_column(f"of seed {', '.join(map(str, seeds))}" if seeds else "")
    for row in _ordered(found):
        rows.add_row(
            Text(row.score),
            with_interval(row.area, row.low, row.high),
            f"{number(row.least, 2)} to {number(row.greatest, 2)}",
            " ".join(number(area, 2) for area in row.areas.values()),
        )
    return rows


def novelty_rows(found: Sequence[Novelty]) -> list[list]:
    """Returns the areas, a heading first, with a column for each model."""
    *names, each = (field.name for field in dataclasses.fields(Novelty))
    seeds = list(getattr(found[0], each)) if found else []
    rows = [
        [*(getattr(row, name) for name in names), *(row.areas[seed] for seed in seeds)]
        for row in found
    ]
    return [[*names, *(f"area_{seed}" for seed in seeds)], *rows]


def with_interval(value: float, low: float, high: float, digits: int = 2) -> str:
    """Returns `value [low, high]`, the ends with two digits; `–` if the value is NaN."""
    if np.isnan(value):
        return number(value, digits)
    return f"{number(value, digits)} [{number(low, 2)}, {number(high, 2)}]"


def _ordered(found: Sequence) -> list:
    order = families.ordered(row.score for row in found)
    return sorted(found, key=lambda row: order.index(row.score))
