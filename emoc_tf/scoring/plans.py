"""How a scorer will multiply gradients, as a table."""

from collections.abc import Sequence

import rich
from rich.table import Table

from emoc_tf.scoring.gradients.per_example import LayerPlan
from emoc_tf.scoring.sketches.sketch import SketchReport


def print_plan(plan: Sequence[LayerPlan], sketch: SketchReport | None) -> None:
    """Prints a plan as a table, and what a sketch is like."""
    table = Table("layer", "contraction", "positions", "parameters", "multiply-adds per pair")
    for column in table.columns[2:]:
        column.justify = "right"
    for layer in plan:
        numbers = ["?" if value is None else f"{value:,}" for value in layer[2:]]
        table.add_row(*layer[:2], *numbers)
    rich.print(table)
    if sketch is not None:
        rich.print(
            f"sketch: {sketch.size:,} numbers a pair in place of {sketch.parameters:,}, "
            f"{sketch.energy_left:.2%} of the energy left out, measured error of output changes "
            f"{sketch.error:.2%}"
        )
