"""How the inner products of a layer's gradients are formed, and what each way costs.

Each contraction computes Σ_W ∂f_r(x)/∂W · g_W(x') for all rows r of a batch of images x and all
pairs (x', y'), from the layer's factors a (B, S, F) and δ (B, R, S, O). Multiply-adds per (x, x'):

| contraction | multiply-adds | what is kept of a pair (x', y') |
|---|---|---|
| explicit | C·G·O·F | its gradient, one row of a matrix that all explicit layers share |
| gram, S = 1 | F + C·O | a' and δ': (a·a')(δ·δ') |
| gram | S²·(F + O) + C·S·O | a' and δ' |
| apply | S·F·O + C·S·O | its gradient G': δ · (a·G') |

A bias is one more input that is always 1.
"""

from collections.abc import Mapping, Sequence

import tensorflow as tf

from emoc_tf.scoring.gradients.stages import EmbeddingStage, Factors, Stage, size

CONTRACTIONS = ("explicit", "gram", "apply")


def multiply_adds(stage: Stage, positions: int | None, num_classes: int) -> dict[str, int]:
    """Returns the multiply-adds per pair of images of every contraction that a stage allows.

    Args:
        stage: The stage.
        positions: S, summed over its uses; None if unknown, which leaves the explicit one.
        num_classes: C.
    """
    costs = {"explicit": num_classes * size(stage)}
    if stage.groups > 1 or positions is None or stage.kernel is None:
        return costs
    units, fan_in = stage.units, _inputs_size(stage) + (stage.bias is not None)
    outer = num_classes * positions * units
    if positions == 1:
        costs["gram"] = fan_in + outer
    else:
        costs["gram"] = positions**2 * (fan_in + units) + outer
    if not isinstance(stage, EmbeddingStage):
        costs["apply"] = positions * fan_in * units + outer
    return costs


def explicit_rows(stage: Stage, factors: Factors) -> list[tf.Tensor]:
    """Returns the gradients of kernel and bias, those that exist, (B, R, size) each."""
    rows = []
    if stage.kernel is not None:
        rows.append(stage.gradient_rows(*factors))
    if stage.bias is not None:
        rows.append(tf.reduce_sum(factors.deltas, 2))
    return rows


def direction_rows(stage: Stage, direction: Mapping[int, tf.Tensor]) -> list[tf.Tensor]:
    """Returns a direction in parameter space as `explicit_rows` orders gradients, (size,) each.

    Args:
        stage: The stage.
        direction: A tensor per variable, by the variable's id.
    """
    rows = []
    if stage.kernel is not None:
        rows.append(tf.reshape(stage.kernel_rows(direction[id(stage.kernel)]), [-1]))
    if stage.bias is not None:
        rows.append(tf.reshape(direction[id(stage.bias)], [-1]))
    return rows


def merged_factors(
    stage: Stage,
    uses: Sequence[int],
    taps: Mapping[int, tuple[tf.Tensor, tf.Tensor]],
    rows: Sequence[Mapping[int, tf.Tensor]],
) -> Factors:
    """Returns a stage's factors; several uses of it are more positions.

    Args:
        stage: The stage.
        uses: Indices of its taps.
        taps: Inputs and outputs z of each use.
        rows: R rows of δ of each use, (B, S, G·O).
    """
    found = []
    for use in uses:
        inputs, outputs = taps[use]
        if not isinstance(stage, EmbeddingStage):
            inputs = tf.cast(inputs, stage.compute_dtype)  # as the layer does
        deltas = tf.stack([row[use] for row in rows], axis=1)
        found.append(Factors(stage.factor(inputs, outputs), deltas))
    if len(found) == 1:
        return found[0]
    return Factors(
        tf.concat([use.inputs for use in found], 1), tf.concat([use.deltas for use in found], 2)
    )


def prepare(
    contraction: str, stage: Stage, positions: int, factors: Factors
) -> tuple[tf.Tensor, ...]:
    """Returns what `change` needs of the B·R pairs that a batch with R labels an image makes."""
    rows = factors.deltas.shape[1]
    if contraction == "apply":
        gradient = tf.reshape(stage.gradient_rows(*factors), [-1, stage.units, stage.fan_in])
        if stage.bias is not None:
            bias = tf.reshape(tf.reduce_sum(factors.deltas, 2), [-1, stage.units, 1])
            gradient = tf.concat([gradient, bias], -1)
        return (gradient,)  # [B·R, O, F + 1]
    inputs = _with_one(stage, factors.inputs)
    deltas = tf.reshape(factors.deltas, [-1, positions, stage.units])
    return tf.repeat(inputs, rows, axis=0), deltas


def change(
    contraction: str,
    stage: Stage,
    positions: int,
    factors: Factors,
    pairs: tuple[tf.Tensor, ...],
) -> tf.Tensor:
    """Returns the inner products of every row and every pair, (B, R, n).

    Args:
        contraction: `"gram"` or `"apply"`.
        stage: The stage.
        positions: S, summed over its uses.
        factors: Of the images x.
        pairs: What `prepare` returned for the pairs.
    """
    inputs, deltas = _with_one(stage, factors.inputs), factors.deltas
    batch = tf.shape(deltas)[0]
    if contraction == "apply":
        (gradients,) = pairs
        flat = tf.reshape(gradients, [-1, gradients.shape[-1]])
        applied = tf.matmul(tf.reshape(inputs, [-1, inputs.shape[-1]]), flat, transpose_b=True)
        applied = tf.reshape(applied, [batch, positions, -1, stage.units])  # [B, S, n, O]
        return tf.einsum("brso,bsno->brn", deltas, applied)
    other_inputs, other_deltas = pairs
    gram = stage.gram(inputs, other_inputs)
    if positions == 1:
        by_delta = tf.einsum("bro,no->brn", deltas[:, :, 0], other_deltas[:, 0])
        return gram[:, None] * by_delta
    gram = tf.reshape(gram, [batch * positions, -1, positions])
    applied = tf.matmul(tf.transpose(gram, [1, 0, 2]), other_deltas)  # [n, B·S, O]
    applied = tf.reshape(applied, [-1, batch, positions, stage.units])
    return tf.einsum("brso,nbso->brn", deltas, applied)


def summed_change(
    contraction: str,
    stage: Stage,
    positions: int,
    factors: Factors,
    sums: tuple[tf.Tensor, ...],
) -> tf.Tensor:
    """Returns the inner products of every row and every set's sum of gradients, (B, R, m).

    Args:
        contraction: `"gram"` or `"apply"`.
        stage: The stage.
        positions: S, summed over its uses.
        factors: Of the images x.
        sums: Of `"apply"` the sum of what `prepare` returned, of `"gram"` all of it, member by
            member, (m, K, ...).
    """
    if contraction == "apply":
        return change(contraction, stage, positions, factors, sums)
    members = tuple(_without_first_axis(part) for part in sums)
    found = change(contraction, stage, positions, factors, members)
    shape = tf.shape(found)
    return tf.reduce_sum(tf.reshape(found, [shape[0], shape[1], -1, tf.shape(sums[0])[1]]), -1)


def project(stage: Stage, factors: Factors, direction: Mapping[int, tf.Tensor]) -> tf.Tensor:
    """Returns the inner product of each row with one direction, (B, R), for one group.

    Args:
        stage: The stage.
        factors: Its factors.
        direction: A tensor per variable, by the variable's id.
    """
    applied = stage.apply(factors.inputs, direction[id(stage.kernel)])  # [B, S, O]
    if stage.bias is not None:
        applied += tf.reshape(direction[id(stage.bias)], [-1])  # it may have several axes
    return tf.einsum("brso,bso->br", factors.deltas, applied)


def squared_norms(
    contraction: str, stage: Stage, positions: int | None, factors: Factors
) -> tf.Tensor:
    """Returns the squared length of each row of gradients, kernel and bias together, (B, R)."""
    if contraction != "gram":
        rows = explicit_rows(stage, factors)
        return tf.add_n([tf.reduce_sum(row * row, -1) for row in rows])
    inputs, deltas = _with_one(stage, factors.inputs), factors.deltas
    gram = stage.own_gram(inputs)  # [B, S, S]
    if positions == 1:
        return gram[:, :, 0] * tf.reduce_sum(deltas * deltas, [2, 3])
    return tf.einsum("bst,brso,brto->br", gram, deltas, deltas)


def factor_floats(stage: Stage, positions: int, rows: int) -> int:
    """Returns about how many numbers are held while a stage's factors are made of an image."""
    # What a convolution sees is cut out and stacked; deltas are found, stacked and transposed.
    return positions * stage.groups * (2 * _inputs_size(stage) + 3 * rows * stage.units)


def kept_floats(contraction: str, stage: Stage, positions: int) -> int:
    """Returns how many numbers `prepare` keeps of a pair."""
    if contraction == "apply":
        return size(stage)
    return positions * (_inputs_size(stage) + 1 + stage.units)


def working_floats(contraction: str, stage: Stage, positions: int, num_classes: int) -> int:
    """Returns how many numbers per pair of images `change` holds at its peak."""
    if contraction == "gram" and positions == 1:
        return 1 + 2 * num_classes
    if contraction == "gram":
        return 2 * positions * (positions + stage.units) + num_classes
    return 2 * positions * stage.units + num_classes


def _inputs_size(stage: Stage) -> int:
    """Returns how many numbers a has per position and group: indices count as one."""
    return 1 if isinstance(stage, EmbeddingStage) else stage.fan_in


def _without_first_axis(tensor: tf.Tensor) -> tf.Tensor:
    """Returns (m, K, ...) as (m·K, ...)."""
    flat = tf.reshape(tensor, tf.concat([[-1], tf.shape(tensor)[2:]], 0))
    return tf.ensure_shape(flat, [None, *tensor.shape[2:]])


def _with_one(stage: Stage, inputs: tf.Tensor) -> tf.Tensor:
    if stage.bias is None:
        return inputs
    return tf.concat([inputs, tf.ones_like(inputs[..., :1])], -1)
