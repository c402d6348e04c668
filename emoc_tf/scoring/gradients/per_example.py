"""Gradients of a model's logits, example by example, as per-layer factors.

One backward pass to all pre-activations gives the factors of every example of a batch at once,
where differentiating with respect to the weights would add the examples up.
"""

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from emoc_tf.models.checks import check_model
from emoc_tf.models.graphs import functional, trained_variables
from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.kept import Gradients, Pairs, Sums, flat
from emoc_tf.scoring.gradients.masks import own_masks
from emoc_tf.scoring.gradients.model_passes import ModelPasses, Run
from emoc_tf.scoring.gradients.plans import LayerPlan
from emoc_tf.scoring.gradients.stages import Factors, Stage, size


class _Layer(NamedTuple):
    stage: Stage
    uses: list[int]  # indices of its taps
    plan: LayerPlan


class GradientFactors:
    """Gradients of a model's logits with respect to its parameters.

    Known layers (`layers.STAGES`) are taken apart into factors, wherever they are in the graph and
    however often they are called. Any other trainable layer is differentiated by itself, in batches
    where that can be vectorised; `warn` names those that go one example at a time. Frozen layers
    contribute nothing.

    Args:
        model: A functional or Sequential model that ends in a linear Dense layer. It is not
            changed, and later changes of its weights are seen.
        shared: Whether what is traced of its body serves models of the same architecture.

    Attributes:
        dtype: That the model computes in.
        plan: How the gradients of each trainable layer are multiplied.
        last: The dense layers at the model's end, whose factors cost little more than a forward
            pass.
        explicit_size: Parameters whose gradients are kept as they are.

    Raises:
        ValueError: The model is of another kind.
    """

    def __init__(self, model: keras.Model, shared: bool = False) -> None:
        head = check_model(model)
        self._model = functional(model)
        self._num_classes = model.output_shape[-1]
        self.dtype = tf.as_dtype(head.compute_dtype)
        self._passes = ModelPasses(self._model, shared)
        known, uses = self._passes.known, self._passes.uses
        self._layers = [
            self._choose(stage, {i: use.positions for i, use in uses.items() if use.stage is stage})
            for stages in known.values()
            for stage in stages
        ]
        self._factored = [each for each in self._layers if each.plan.contraction != "explicit"]
        self.last = self._last_dense()
        self.plan = [each.plan for each in self._layers]
        self.plan += [self._generic_plan(layer) for layer in self._passes.others]
        explicit = [each.parameters for each in self.plan if each.contraction == "explicit"]
        self.explicit_size = sum(explicit) + self._passes.other_size

    def warn(self, stacklevel: int) -> None:
        """Warns of the layers that are scored one example at a time, if there are any."""
        slow = [f"{layer.name} ({type(layer).__name__})" for layer in self._passes.slow]
        if slow:
            what = f"scored exactly but slowly, one example at a time: {', '.join(slow)}"
            warnings.warn(what, stacklevel=stacklevel + 1)

    @functools.cached_property
    def own_masks(self) -> list[str]:
        """The layers that make masks in a way of their own, see `masks.own_masks`."""
        return own_masks(self._model)

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits (B, C) that gradients are of, from the model's layers taken apart."""
        return self._passes.logits(images)

    def _choose(self, stage: Stage, positions: dict[int, int | None]) -> _Layer:
        counts = list(positions.values())
        total = None if None in counts else sum(counts)
        costs = contractions.multiply_adds(stage, total, self._num_classes)
        best = min(costs, key=costs.__getitem__)
        plan = LayerPlan(stage.layer.name, best, total, size(stage), costs[best])
        return _Layer(stage, list(positions), plan)

    def _last_dense(self) -> list["_Layer"]:
        """Returns the dense layers that nothing but dense layers follow."""
        layers, last = {id(each.stage): each for each in self._layers}, []
        uses, others = self._passes.uses, self._passes.local
        for number in sorted({*uses, *others}, reverse=True):
            if number in others:
                break
            layer = layers[id(uses[number].stage)]
            if layer.plan.contraction != "gram" or layer.plan.positions != 1:
                break
            last.append(layer)
        return last

    def _generic_plan(self, layer: keras.Layer) -> LayerPlan:
        parameters = sum(math.prod(each.shape) for each in trained_variables(layer))
        return LayerPlan(layer.name, "generic", None, parameters, parameters * self._num_classes)

    def pair_bytes(self, dtype: tf.DType) -> int:
        """Returns what a prepared pair takes, with its explicit part in `dtype`."""
        kept = sum(contractions.kept_floats(*_shape(each)) for each in self._factored)
        return max(1, self.explicit_size * dtype.size + kept * self.dtype.size)

    def gradient_bytes(self, rows: int, dtype: tf.DType, shape: tuple[int, ...]) -> int:
        """Returns about what an image of a shape takes while R gradient rows are computed."""
        explicit = rows * self.explicit_size * (self.dtype.size + dtype.size)
        factors = 0
        for each in self._layers:
            positions = each.plan.positions
            if positions is None:  # a size that the model leaves open
                positions = math.prod(shape[:-1]) * len(each.uses)
            factors += self._factor_floats(each, positions, rows)
        return explicit + factors * self.dtype.size

    def _factor_floats(self, layer: "_Layer", positions: int, rows: int) -> int:
        return contractions.factor_floats(layer.stage, positions, rows)

    def change_bytes(self, num_pairs: int) -> int:
        """Returns about what an image takes while it meets `num_pairs` pairs."""
        held = [contractions.working_floats(*_shape(e), self._num_classes) for e in self._factored]
        return num_pairs * max([3 * self._num_classes, *held]) * self.dtype.size

    def gradients(
        self,
        images: tf.Tensor,
        make_seeds: Callable[[tf.Tensor], tf.Tensor],
        dtype: tf.DType,
        direction: Mapping[int, tf.Tensor] | None = None,
    ) -> Gradients:
        """Returns the gradients Σ_c seeds[b,r,c] · ∂logit_c(x_b)/∂θ of a batch.

        Args:
            images: (B, ...), B > 0.
            make_seeds: Function of the logits (B, C) that returns seeds (B, R, C), R static.
            dtype: Of the explicit part.
            direction: What is added to the explicit part, a tensor per variable, by its id.
        """
        run = self._run(images, make_seeds, self._layers, True)
        explicit, factors = [], []
        for each in self._layers:
            own = contractions.merged_factors(each.stage, each.uses, run.taps, run.rows)
            if each.plan.contraction == "explicit":
                explicit += contractions.explicit_rows(each.stage, own)
            else:
                factors.append(own)
        explicit += self._passes.other_rows(images, run)
        if direction:
            added = self._explicit_directions(direction)
            explicit = [part + row for part, row in zip(explicit, added, strict=True)]
        return self._joined(run, explicit, factors, dtype)

    def _joined(
        self, run: Run, explicit: list[tf.Tensor], factors: list[Factors], dtype: tf.DType
    ) -> Gradients:
        if not explicit:
            shape = tf.shape(run.seeds)[0], run.seeds.shape[1], 0
            explicit = [tf.zeros(shape, dtype)]
        return Gradients(tf.concat([tf.cast(part, dtype) for part in explicit], -1), factors)

    def last_dense(
        self, images: tf.Tensor, make_seeds: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, list[Factors]]:
        """Returns the logits and the factors of `last`, as `gradients` has them.

        A forward pass and the head's backward passes are all it takes.
        """
        run = self._run(images, make_seeds, self.last, False)
        return run.logits, [
            contractions.merged_factors(each.stage, each.uses, run.taps, run.rows)
            for each in self.last
        ]

    def _run(
        self,
        images: tf.Tensor,
        make_seeds: Callable[[tf.Tensor], tf.Tensor],
        wanted: Sequence["_Layer"],
        others: bool,
    ) -> Run:
        uses = [use for each in wanted for use in each.uses]
        return self._passes.run(images, make_seeds, uses, others)

    def prepare(self, gradients: Gradients) -> Pairs:
        """Returns what `change` needs of pairs (x', y').

        Args:
            gradients: Of B images x', a row for each of their R labels; B·R pairs.
        """
        return Pairs(
            flat(gradients.explicit),
            [
                contractions.prepare(*_shape(each), own)
                for each, own in zip(self._factored, gradients.factors, strict=True)
            ],
        )

    @property
    def factored(self) -> list[tuple[str, Stage, int]]:
        """Contraction, stage and positions of each layer that is not explicit, in their order."""
        return [_shape(each) for each in self._factored]

    def change(
        self, jacobian: Gradients, pairs: Pairs | Sums, direction: Mapping[int, tf.Tensor]
    ) -> tf.Tensor:
        """Returns the inner products of every row of J and every pair's gradient, (B, R, n).

        Args:
            jacobian: Of the images x, R rows each.
            pairs: What `prepare` returned, or sums of that.
            direction: What is added to the factored part of the pairs' gradients.
        """
        total = tf.zeros([], self.dtype)
        batch, (rows, size) = tf.shape(jacobian.explicit)[0], jacobian.explicit.shape[1:]
        if size != 0:  # None where it is not the same at each call
            product = tf.matmul(flat(jacobian.explicit), pairs.explicit, transpose_b=True)
            total += tf.cast(tf.reshape(product, [batch, rows, -1]), self.dtype)
        for each, own in zip(self._factored, jacobian.factors, strict=True):
            for term in self._terms(each, own, pairs, direction):
                total += term
        return total

    def last_change(
        self, jacobian: Sequence[Factors], pairs: Pairs | Sums, direction: Mapping[int, tf.Tensor]
    ) -> tf.Tensor:
        """Returns the part of `change` that comes from the layers `last`.

        Args:
            jacobian: What `last_dense` returned for the images x.
            pairs: As for `change`.
            direction: As for `change`.
        """
        total = tf.zeros([], self.dtype)
        for each, own in zip(self.last, jacobian, strict=True):
            for term in self._terms(each, own, pairs, direction):
                total += term
        return total

    def _terms(
        self,
        layer: "_Layer",
        factors: Factors,
        pairs: Pairs | Sums,
        direction: Mapping[int, tf.Tensor],
    ) -> Iterator[tf.Tensor]:
        """Yields what a factored layer adds to the inner products."""
        place = next(i for i, each in enumerate(self._factored) if each is layer)
        summed = isinstance(pairs, Sums)
        change = contractions.summed_change if summed else contractions.change
        yield change(*_shape(layer), factors, pairs.factored[place])
        if direction:
            along = contractions.project(layer.stage, factors, direction)[..., None]
            yield along * pairs.counts if summed else along

    def _explicit_directions(self, direction: Mapping[int, tf.Tensor]) -> list[tf.Tensor]:
        """Returns the direction in the parts and the order of explicit rows, flat."""
        parts = []
        for each in self._layers:
            if each.plan.contraction == "explicit":
                parts += contractions.direction_rows(each.stage, direction)
        return parts + self._passes.other_directions(direction)


def _shape(each: _Layer) -> tuple[str, Stage, int]:
    return each.plan.contraction, each.stage, each.plan.positions
