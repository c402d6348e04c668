"""Gradients of a model, cut down to some directions of each stage, see `cuts`."""

import copy
from collections.abc import Callable, Mapping
from typing import Any, Self

import tensorflow as tf

from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.kept import Gradients
from emoc_tf.scoring.gradients.model_passes import Run
from emoc_tf.scoring.gradients.per_example import GradientFactors
from emoc_tf.scoring.gradients.stages import Factors
from emoc_tf.scoring.sketches.cuts import (
    Cut,
    Directions,
    Projection,
    dot,
    kind_of,
    sketch_size,
    vectors,
)


class SketchedGradients(GradientFactors):
    """The same gradients as those of `factors`, cut down; see there.

    Args:
        factors: The model's gradients.

    Attributes:
        plan: As of `factors`, with `"sketch"` for what is cut.
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
        self.explicit_size = self.uncut_size

    def along(self, directions: Directions, regularizer: bool) -> Self:
        """Returns these gradients cut down to directions, one tuple a layer of `cut`.

        Args:
            directions: Of known sizes.
            regularizer: Whether the step has a part that all pairs share.
        """
        other = copy.copy(self)
        other.directions = directions
        sizes = {
            id(cut.layer.plan): sketch_size(cut, tuple(each.shape[1] for each in own))
            for cut, own in zip(self.cut, directions, strict=True)
        }
        other.plan = [
            each._replace(contraction="sketch", multiply_adds=sizes[id(each)] * self._num_classes)
            if id(each) in sizes
            else each
            for each in self.plan
        ]
        other.explicit_size += sum(sizes.values())
        other.explicit_size += bool(regularizer and other.explicit_size)
        return other

    @property
    def most_mixed(self) -> int:
        """The most dimensions that vectors are mixed of where directions are fitted."""
        spaces = [max(cut.spaces) for cut in self.cut if cut.kind != "rows"]
        return max([cut.layer.stage.units for cut in self.cut] + spaces, default=0)

    @property
    def uncut_size(self) -> int:
        """Numbers that are kept of a pair as they are, besides factors."""
        return self._passes.other_size + sum(each.plan.parameters for each in self._whole)

    def _factor_floats(self, layer: Any, positions: int, rows: int) -> int:
        """Returns what a layer's δ take: all are there at once, what is made of them is not."""
        if all(cut.layer is not layer for cut in self.cut):
            return super()._factor_floats(layer, positions, rows)
        return positions * layer.stage.groups * layer.stage.units * (rows + 2)

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
        run = self._run(images, make_seeds, self._layers, True)
        rows, _ = self._rows(images, run, {})
        if direction and rows:
            rows.append(tf.ones_like(rows[0][..., :1]))
        return self._joined(run, rows, self._factors(run), dtype)

    def jacobian(
        self,
        images: tf.Tensor,
        make_seeds: Callable[[tf.Tensor], tf.Tensor],
        dtype: tf.DType,
        direction: Mapping[int, tf.Tensor],
    ) -> Gradients:
        """Returns the rows of J, with arguments as those of `gradients`."""
        run = self._run(images, make_seeds, self._layers, True)
        rows, along = self._rows(images, run, direction)
        if direction and rows:
            rows.append(tf.add_n(along)[..., None])
        return self._joined(run, rows, self._factors(run), dtype)

    def vectors(
        self, images: tf.Tensor, seeds: tf.Tensor, signs: tf.Tensor
    ) -> list[tuple[tf.Tensor, ...]]:
        """Returns vectors of the gradients of `cut` in each space, see `cuts.vectors`.

        Args:
            images: (B, ...).
            seeds: (B, 1, C), what ∂f is multiplied by.
            signs: (B, `most_mixed`, mixtures).
        """
        # All layers, as for J: the passes are traced once.
        run = self._run(images, lambda logits: seeds, self._layers, True)
        found = []
        for cut in self.cut:
            shown = Projection(cut, (), {})
            own = contractions.merged_factors(shown, cut.layer.uses, run.taps, run.rows)
            found.append(vectors(cut, own, signs))
        return found

    def _rows(
        self, images: tf.Tensor, run: Run, direction: Mapping[int, tf.Tensor]
    ) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Returns the explicit parts, and each part's product with a direction."""
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
        return rows, along

    def _factors(self, run: Run) -> list[Factors]:
        return [
            contractions.merged_factors(each.stage, each.uses, run.taps, run.rows)
            for each in self._factored
        ]
