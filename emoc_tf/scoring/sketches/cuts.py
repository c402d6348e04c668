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
from emoc_tf.scoring.gradients.kept import flat
from emoc_tf.scoring.gradients.stages import (
    ConvStage,
    DepthwiseStage,
    EmbeddingStage,
    Factors,
    Stage,
    size,
)

WHOLE_UNITS = 64  # outputs that are not cut: their spectrum is flat
WHOLE_SIZE = 64  # parameters of a stage that are not cut
MIXTURES = 8  # vectors that stand for more of an image's, where directions are fitted

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
        directions: What it is cut down to; nothing where a is shown whole.
        direction: A tensor per variable, by its id, that products are wanted with; or nothing.
    """

    def __init__(
        self, cut: Cut, directions: Sequence[tf.Tensor], direction: Mapping[int, tf.Tensor]
    ) -> None:
        self.stage: Stage = cut.layer.stage
        self.compute_dtype = self.stage.compute_dtype
        self._kind, self._directions, self._direction = cut.kind, directions, direction

    def factor(self, inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """Returns a, or a·Q, and beside it a·D for a direction D."""
        if not self._directions and self._kind != "rows":
            return self.stage.factor(inputs, outputs)
        if self._kind == "rows":
            return factor_of_rows(self.stage, inputs, outputs)
        wanted = self._directions[0]
        if self._direction:
            kernel = self.stage.kernel_rows(self._direction[id(self.stage.kernel)])[0]
            wanted = tf.concat([wanted, tf.transpose(kernel)], 1)
        return projected(self.stage, inputs, outputs, wanted)

    def cut(self, factors: Factors) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns what is kept of the gradients, (B, R, numbers) each, and products (B, R)."""
        stage, deltas = self.stage, factors.deltas
        if self._kind == "rows":
            row = whole_rows(stage, factors)
            kept = tf.matmul(flat(row), self._directions[0])
            kept = tf.reshape(kept, [-1, row.shape[1], tf.shape(kept)[1]])
            if not self._direction:
                return [kept], []
            given = contractions.direction_rows(stage, self._direction)
            return [kept], [dot(row, tf.concat(given, 0))]
        count = tf.shape(self._directions[0])[1]
        kept = [_outer(deltas, factors.inputs[..., :count], self._directions[1:])]
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


def factor_of_rows(stage: Stage, inputs: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Returns a of a stage whose whole gradient is cut down, as `whole_rows` wants it."""
    if not _is_depthwise(stage):
        return stage.factor(inputs, outputs)
    # One operation where `unfold` has dozens: models in parts run each of them by itself.
    ones = [1] * (2 - len(stage.window))
    sizes, strides, rates = (
        [1, *ones, *each, 1] for each in (stage.window, stage.strides, stage.dilation)
    )
    shape = tf.shape(inputs)
    flat_ = tf.reshape(inputs, [shape[0], 1, shape[1], stage.groups]) if ones else inputs
    found = tf.image.extract_patches(flat_, sizes, strides, rates, stage.padding.upper())
    return tf.reshape(found, [shape[0], -1, stage.fan_in, stage.groups])


def whole_rows(stage: Stage, factors: Factors) -> tf.Tensor:
    """Returns a stage's gradients as one vector each, (B, R, parameters), in the usual order."""
    if not _is_depthwise(stage):
        return tf.concat(contractions.explicit_rows(stage, factors), -1)
    inputs, deltas = factors
    # One product a channel, of all rows: [B, G, R, S] × [B, G, S, F].
    found = tf.matmul(tf.transpose(deltas, [0, 3, 1, 2]), tf.transpose(inputs, [0, 3, 1, 2]))
    row = tf.transpose(found, [0, 2, 1, 3])
    row = tf.reshape(row, [-1, deltas.shape[1], stage.groups * stage.fan_in])
    return row if stage.bias is None else tf.concat([row, tf.reduce_sum(deltas, 2)], -1)


def _is_depthwise(stage: Stage) -> bool:
    return isinstance(stage, DepthwiseStage) and stage.units == 1 < stage.groups


def vectors(cut: Cut, factors: Factors, signs: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns vectors of a layer's gradients in each space that is cut, (B, m, F) each.

    Sides of more vectors than `MIXTURES` give random mixtures: their second moment is the same.

    Args:
        cut: The layer.
        factors: Of one row an image.
        signs: (B, at least F and O, `MIXTURES`), that vectors are added up with.
    """
    if cut.kind == "rows":
        return (whole_rows(cut.layer.stage, factors),)
    inputs, deltas = factors.inputs, factors.deltas[:, 0]
    sides = [(deltas, inputs)] if cut.kind == "inputs" else [(deltas, inputs), (inputs, deltas)]
    return tuple(tf.matmul(_mixed(one, signs), other, transpose_a=True) for one, other in sides)


def _mixed(side: tf.Tensor, signs: tf.Tensor) -> tf.Tensor:
    width = side.shape[-1]
    if width <= MIXTURES:
        return side
    return tf.matmul(side, signs[:, :width]) / MIXTURES**0.5


def _outer(deltas: tf.Tensor, inputs: tf.Tensor, others: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns Σ_s δ_s ⊗ a_s, (B, R, O·k), with δ cut down first if there are directions of it."""
    shape = tf.shape(deltas)
    units = deltas.shape[3]
    if others:
        units = tf.shape(others[0])[1]
        cut = tf.matmul(flat(deltas), others[0])
        deltas = tf.reshape(cut, [shape[0], deltas.shape[1], shape[2], units])
    found = tf.matmul(deltas, inputs[:, None], transpose_a=True)  # [B, R, O, k]
    return tf.reshape(found, [shape[0], deltas.shape[1], units * tf.shape(inputs)[2]])


def dot(rows: tf.Tensor, direction: tf.Tensor) -> tf.Tensor:
    """Returns the products of rows (B, R, P) with one vector, (B, R)."""
    return tf.linalg.matvec(rows, direction)
