"""Gradients of a model, cut down to some directions of each stage, see `cuts`."""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import tensorflow as tf

from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.kept import Gradients, Pairs
from emoc_tf.scoring.gradients.per_example import GradientFactors
from emoc_tf.scoring.gradients.stages import Factors, size
from emoc_tf.scoring.sketches.cuts import (
    Cut,
    Directions,
    Projection,
    dot,
    flat,
    kind_of,
    sketch_size,
)


class SketchedGradients(GradientFactors):
    """The same gradients as those of `factors`, cut down; see there.

    Args:
        factors: The model's gradients.

    Attributes:
        cut: The layers that are cut.
        directions: Those that gradients are cut down to.
    """

    def __init__(self, factors: GradientFactors) -> None:
        vars(self).update(vars(factors))  # the same model: nothing is traced or verified again
        self.cut = [Cut(each, kind) for each in self._layers if (kind := kind_of(each))]
        cut = [each.layer for each in self.cut]
        others = [each for each in self._layers if all(each is not other for other in cut)]
        self._whole = [each for each in others if each.plan.contraction == "explicit"]
        self._factored = [each for each in others if each.plan.contraction != "explicit"]
        self.directions: Directions = []

    def along(self, directions: Directions, regularizer: bool) -> Self:
        """Returns these gradients cut down to directions, one tuple a layer of `cut`.

        Args:
            directions: Of known sizes.
            regularizer: Whether the step has a part that all pairs share.
        """
        other = copy.copy(self)
        other.directions = directions
        other.explicit_size = self.uncut_size + sum(
            sketch_size(cut, tuple(each.shape[1] for each in own))
            for cut, own in zip(self.cut, directions, strict=True)
        )
        other.explicit_size += bool(regularizer and other.explicit_size)
        return other

    @property
    def uncut_size(self) -> int:
        """Numbers that are kept of a pair as they are, besides factors."""
        return self._passes.other_size + sum(each.plan.parameters for each in self._whole)

    def gradient_bytes(self, rows: int, dtype: tf.DType, shape: tuple[int, ...]) -> int:
        """See `GradientFactors`."""
        places = {id(cut.layer): i for i, cut in enumerate(self.cut) if cut.kind != "rows"}
        floats = 0
        for each in self._layers:
            positions = each.plan.positions
            if positions is None:
                positions = math.prod(shape[:-1]) * len(each.uses)
            if id(each) in places:
                count = self.directions[places[id(each)]][0].shape[1] + each.stage.units
                floats += positions * (count + 3 * rows * each.stage.units)
            else:
                floats += contractions.factor_floats(each.stage, positions, rows)
                floats += rows * size(each.stage)
        return rows * self.explicit_size * 2 * self.dtype.size + floats * self.dtype.size

    def gradients(
        self,
        images: tf.Tensor,
        make_seeds: Callable[[tf.Tensor], tf.Tensor],
        dtype: tf.DType,
        direction: Mapping[int, tf.Tensor] | None = None,
    ) -> Gradients:
        """Returns the gradients of pairs, see `GradientFactors`.

        A direction is the same for all pairs: `jacobian` has its product with each row of J, which
        nothing is lost of, and a pair has a 1 there.
        """
        rows, factors, _ = self._rows(images, make_seeds, {})
        if direction and rows:
            rows.append(tf.ones_like(rows[0][..., :1]))
        return self._gradients(rows, factors, images, dtype)

    def jacobian(
        self,
        images: tf.Tensor,
        make_seeds: Callable[[tf.Tensor], tf.Tensor],
        dtype: tf.DType,
        direction: Mapping[int, tf.Tensor],
    ) -> Gradients:
        """Returns the rows of J, with arguments as those of `gradients`."""
        rows, factors, along = self._rows(images, make_seeds, direction)
        if direction and rows:
            rows.append(tf.add_n(along)[..., None])
        return self._gradients(rows, factors, images, dtype)

    def prepare(self, gradients: Gradients) -> Pairs:
        """See `GradientFactors`."""
        return Pairs(
            flat(gradients.explicit),
            [
                contractions.prepare(*shape, own)
                for shape, own in zip(self.factored, gradients.factors, strict=True)
            ],
        )

    def change(
        self, jacobian: Gradients, pairs: Any, direction: Mapping[int, tf.Tensor]
    ) -> tf.Tensor:
        """See `GradientFactors`."""
        rows = jacobian.explicit.shape[1]
        product = tf.matmul(flat(jacobian.explicit), pairs.explicit, transpose_b=True)
        product = tf.reshape(product, [-1, rows, tf.shape(product)[1]])
        total = tf.cast(product, self.dtype)
        for each, own in zip(self._factored, jacobian.factors, strict=True):
            for term in self._terms(each, own, pairs, direction):
                total += term
        return total

    def whole_rows(
        self, images: tf.Tensor, make_seeds: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the logits and the gradients of `cut` as they are, one row an image.

        Args:
            images: (B, ...).
            make_seeds: Function of the logits (B, C) that returns seeds (B, 1, C).

        Returns:
            (B, O, F) of kernels where sides are cut, (B, parameters) elsewhere.
        """
        run = self._run(images, make_seeds, [cut.layer for cut in self.cut], False)
        rows = []
        for cut in self.cut:
            stage = cut.layer.stage
            own = contractions.merged_factors(stage, cut.layer.uses, run.taps, run.rows)
            if cut.kind == "rows":
                rows.append(tf.concat(contractions.explicit_rows(stage, own), -1)[:, 0])
            else:
                kernel = stage.gradient_rows(*own)
                rows.append(tf.reshape(kernel, [-1, stage.units, stage.fan_in]))
        return run.logits, rows

    def _rows(
        self,
        images: tf.Tensor,
        make_seeds: Callable[[tf.Tensor], tf.Tensor],
        direction: Mapping[int, tf.Tensor],
    ) -> tuple[list[tf.Tensor], list[Factors], list[tf.Tensor]]:
        """Returns the explicit parts, the factors, and each part's product with a direction."""
        run = self._run(images, make_seeds, self._layers, True)
        rows, along = [], []
        for each, own in zip(self.cut, self.directions, strict=True):
            projection = Projection(each, own, direction)
            found = contractions.merged_factors(projection, each.layer.uses, run.taps, run.rows)
            kept, product = projection.cut(found)
            rows += kept
            along += product
        for each in self._whole:
            found = contractions.merged_factors(each.stage, each.uses, run.taps, run.rows)
            parts = contractions.explicit_rows(each.stage, found)
            rows += parts
            if direction:
                given = contractions.direction_rows(each.stage, direction)
                along += [dot(part, d) for part, d in zip(parts, given, strict=True)]
        others = self._passes.other_rows(images, run)
        rows += others
        if direction:
            given = self._passes.other_directions(direction)
            along += [dot(part, d) for part, d in zip(others, given, strict=True)]
        factors = [
            contractions.merged_factors(each.stage, each.uses, run.taps, run.rows)
            for each in self._factored
        ]
        return rows, factors, along

    def _gradients(
        self, rows: list[tf.Tensor], factors: list[Factors], images: tf.Tensor, dtype: tf.DType
    ) -> Gradients:
        if not rows:
            count = factors[0].deltas.shape[1]
            return Gradients(tf.zeros([tf.shape(images)[0], count, 0], dtype), factors)
        return Gradients(tf.concat([tf.cast(part, dtype) for part in rows], -1), factors)
