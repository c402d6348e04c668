"""How the gradients of a model's layers are multiplied, told layer by layer."""

from collections.abc import Iterable
from typing import NamedTuple

from rich.table import Table


class LayerPlan(NamedTuple):
    """How the inner products of one layer's gradients are formed.

    Attributes:
        layer: Its name.
        contraction: `"explicit"`, `"gram"` or `"apply"`, see `contractions`; `"generic"`: explicit,
            from the layer's own gradients, where it has no factors; `"sketch"`: explicit, of what
            is left once they are cut down, see `scoring.sketches`.
        positions: S, output positions that share the weights; None if the graph does not tell.
        parameters: Trainable parameters.
        multiply_adds: Per pair (x, x'), for all C outputs.
    """

    layer: str
    contraction: str
    positions: int | None
    parameters: int
    multiply_adds: int


def table_of(plan: Iterable[LayerPlan]) -> Table:
    """Returns a plan as a table."""
    table = Table("layer", "contraction", "positions", "parameters", "multiply-adds per pair")
    for column in table.columns[2:]:
        column.justify = "right"
    for layer in plan:
        numbers = ["?" if value is None else f"{value:,}" for value in layer[2:]]
        table.add_row(*layer[:2], *numbers)
    return table
