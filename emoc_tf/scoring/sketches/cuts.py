"""What is left of a stage's gradients, cut down to some directions.

The gradient of a stage is Σ_s δ_s ⊗ a_s. With directions Q of its inputs it becomes
Σ_s δ_s ⊗ (Qᵀa_s), and Qᵀa is found without cutting out what a convolution sees at each position:
it is a convolution with Q as its kernel. Where the stage is wide, δ is cut down too. A stage with
groups, whose inputs are few or single, has its whole gradient cut down, as one vector.

With all directions nothing is lost. What is not cut at all: dense layers on vectors, which are
multiplied as `contractions` has it, and what is small, or an embedding, or known to no stage.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.stages import ConvStage, EmbeddingStage, Factors, Stage, size

WHOLE_UNITS = 64  # outputs that are not cut: their spectrum is flat
WHOLE_SIZE = 64  # parameters of a stage that are not cut
FEW_POSITIONS = 32  # with so few it costs less to cut δ before it meets a

# Of each stage that is cut: Q (F, k); Q and P (O, l); or V (parameters, k).
Directions = list[tuple[tf.Tensor, ...]]


class Cut(NamedTuple):
    """A layer that is cut.

    Attributes:
        layer: As `GradientFactors` has it.
        kind: `"inputs"`: a is cut. `"both"`: a and δ. `"rows"`: the gradient as one vector.
    """

    layer: Any
    kind: str

    @property
    def spaces(self) -> tuple[int, ...]:
        """How many dimensions the spaces have that directions are looked for in."""
        stage = self.layer.stage
        return {
            "inputs": (stage.fan_in,),
            "both": (stage.fan_in, stage.units),
            "rows": (size(stage),),
        }[self.kind]


def kind_of(layer: Any) -> str | None:
    """Returns how a layer of `GradientFactors` is cut, see `Cut`; None if it is not."""
    stage, plan = layer.stage, layer.plan
    one_vector = plan.contraction == "gram" and plan.positions == 1
    if one_vector or isinstance(stage, EmbeddingStage) or size(stage) <= WHOLE_SIZE:
        return None
    if stage.groups > 1 or stage.kernel is None:
        return "rows"
    return "both" if stage.units > WHOLE_UNITS else "inputs"


class Projection:
    """A stage in whose place a layer shows what is left of its factors.

    Args:
        cut: The layer.
        directions: What it is cut down to.
        direction: A tensor per variable, by its id, that products are wanted with; or nothing.
    """

    def __init__(
        self, cut: Cut, directions: Sequence[tf.Tensor], direction: Mapping[int, tf.Tensor]
    ) -> None:
        self.stage: Stage = cut.layer.stage
        self.compute_dtype = self.stage.compute_dtype
        self._kind, self._directions, self._direction = cut.kind, directions, direction
        self._positions = cut.layer.plan.positions

    def factor(self, inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns a, or a·Q, and beside it a·D for a direction D."""
        if self._kind == "rows":
            return self.stage.factor(inputs, outputs)
        wanted = self._directions[0]
        if self._direction:
            kernel = self.stage.kernel_rows(self._direction[id(self.stage.kernel)])[0]
            wanted = tf.concat([wanted, tf.transpose(kernel)], 1)
        return projected(self.stage, inputs, outputs, wanted)

    def cut(self, factors: Factors) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns what is kept of the gradients, (B, R, numbers) each, and products (B, R)."""
        stage, deltas = self.stage, factors.deltas
        if self._kind == "rows":
            parts = contractions.explicit_rows(stage, factors)
            row = tf.concat(parts, -1)
            kept = tf.matmul(flat(row), self._directions[0])
            kept = tf.reshape(kept, [-1, row.shape[1], tf.shape(kept)[1]])
            if not self._direction:
                return [kept], []
            given = contractions.direction_rows(stage, self._direction)
            return [kept], [dot(row, tf.concat(given, 0))]
        count = tf.shape(self._directions[0])[1]
        kept = [_outer(deltas, factors.inputs[..., :count], self._directions[1:], self._positions)]
        if stage.bias is not None:
            kept.append(tf.reduce_sum(deltas, 2))
        if not self._direction:
            return kept, []
        applied = factors.inputs[..., count:]
        if stage.bias is not None:
            applied += tf.reshape(self._direction[id(stage.bias)], [-1])
        return kept, [tf.einsum("brso,bso->br", deltas, applied)]


def projected(
    stage: Stage, inputs: tf.Tensor, outputs: tf.Tensor, directions: tf.Tensor
) -> tf.Tensor:
    """Returns a·Q, (B, S, k), of a stage with one group.

    Args:
        stage: The stage.
        inputs: What it is called with.
        outputs: What it returns.
        directions: Q, (F, k).
    """
    count = tf.shape(directions)[1]
    # TensorFlow's dilated convolutions need kernels of known shape.
    if not isinstance(stage, ConvStage) or max(stage.dilation) > 1:
        factor = stage.factor(inputs, outputs)
        found = tf.matmul(flat(factor), directions)
        return tf.reshape(found, [tf.shape(factor)[0], -1, count])
    kernel = tf.reshape(directions, [*stage.window, inputs.shape[-1], count])
    padding = stage.padding
    if padding == "causal":
        reach = stage.window[0] - 1
        inputs, padding = tf.pad(inputs, [[0, 0], [reach, 0], [0, 0]]), "valid"
    found = tf.nn.convolution(inputs, kernel, stage.strides, padding.upper())
    return tf.reshape(found, [tf.shape(found)[0], -1, count])


def sketch_size(cut: Cut, counts: Sequence[int]) -> int:
    """Returns how many numbers are kept of a layer with so many directions of its spaces."""
    stage = cut.layer.stage
    if cut.kind == "rows":
        return counts[0]
    units = counts[1] if cut.kind == "both" else stage.units
    return counts[0] * units + (stage.units if stage.bias is not None else 0)


def _outer(
    deltas: tf.Tensor, inputs: tf.Tensor, others: Sequence[tf.Tensor], positions: int | None
) -> tf.Tensor:
    """Returns Σ_s δ_s ⊗ a_s, (B, R, O·k), with δ cut down if there are directions of it."""
    rows, units = deltas.shape[1], deltas.shape[3]
    early = bool(others) and positions is not None and positions <= FEW_POSITIONS
    if early:
        cut = tf.matmul(flat(deltas), others[0])
        deltas = tf.reshape(cut, [-1, rows, tf.shape(deltas)[2], tf.shape(others[0])[1]])
        units = tf.shape(others[0])[1]
    shape = tf.shape(deltas)
    turned = tf.reshape(tf.transpose(deltas, [0, 1, 3, 2]), [shape[0], -1, shape[2]])
    found = tf.matmul(turned, inputs)  # [B, R·O, k]
    if others and not early:
        found = tf.reshape(found, [shape[0] * rows, units, -1])
        found = tf.matmul(tf.transpose(others[0])[None], found)  # [B·R, l, k]
        units = tf.shape(others[0])[1]
    return tf.reshape(found, [-1, rows, units * tf.shape(inputs)[2]])


def dot(rows: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    """Returns the products of rows (B, R, P) with one vector, (B, R)."""
    return tf.linalg.matvec(rows, direction)


def flat(tensor: tf.Tensor) -> tf.Tensor:
    """Returns all vectors of the last axis one below the other."""
    last = tensor.shape[-1]
    return tf.reshape(tensor, [-1, tf.shape(tensor)[-1] if last is None else last])
