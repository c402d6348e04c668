"""The passes of a whole model: its body's, and its head's around them."""

import math
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import keras
import tensorflow as tf

from emoc_tf.models.graphs import last_operation, trained_variables
from emoc_tf.scoring.gradients import bodies, generic
from emoc_tf.scoring.gradients.layers import Use
from emoc_tf.scoring.gradients.passes import values_of
from emoc_tf.scoring.gradients.stages import Stage


class Run(NamedTuple):
    """What a forward pass and R backward passes found.

    Attributes:
        logits: (B, C).
        seeds: (B, R, C).
        taps: Input and output z of each use that was asked for.
        rows: Of each row, δ of each use.
    """

    logits: tf.Tensor
    seeds: tf.Tensor
    taps: Mapping[int, tuple[tf.Tensor, tf.Tensor]]
    rows: list[Mapping[int, tf.Tensor]]


class ModelPasses:
    """The passes of a model.

    Args:
        model: A functional model that `check_model` accepts.
        shared: Whether what is traced of its body serves models of the same architecture.

    Attributes:
        known: The stages of each layer that has them.
        uses: Of these stages, by their number; the head's comes last.
        others: The layers that have none.
    """

    def __init__(self, model: keras.Model, shared: bool) -> None:
        self._model = model
        self._body, self._known = (bodies.shared(model), None) if shared else bodies.of(model)
        self._before_head = bodies.body_variables(model, self._body.splits)
        self._layers = self._body.layers(model)
        self.known = self._body.stages(model)
        self._head = last_operation(model)
        self.uses = {
            number: Use(self._stages(place)[place.stage], place.positions)
            for number, place in enumerate(self._body.places)
            if place.stage is not None
        }
        if self._body.splits and id(self._head) in self.known:
            (self._head,) = self.known[id(self._head)]
            self.uses[self._last] = Use(self._head, 1)
        self.others = [
            layer
            for layer in self._layers
            if trained_variables(layer) and id(layer) not in self.known
        ]
        seen = {self._body.places[use].layer for use in self._body.local}
        local_ = {id(v) for place in seen for v in trained_variables(self._layers[place])}
        every = list({id(v): v for layer in self.others for v in trained_variables(layer)}.values())
        self._local = [variable for variable in every if id(variable) in local_]
        self._generic = [variable for variable in every if id(variable) not in local_]

    def _stages(self, place: bodies.Place) -> list[Stage]:
        return self.known[id(self._layers[place.layer])]

    @property
    def _last(self) -> int:
        """The number of the head's use."""
        return len(self._body.places)

    @property
    def local(self) -> Collection[int]:
        """The uses of `others`."""
        return self._body.local.keys()

    @property
    def slow(self) -> list[keras.Layer]:
        """The layers whose gradients are taken one example at a time."""
        one_by_one = {id(variable) for variable in self._generic}
        for use, (_, fast) in self._body.local.items():
            if not fast:
                layer = self._layers[self._body.places[use].layer]
                one_by_one |= {id(variable) for variable in trained_variables(layer)}
        return [
            layer
            for layer in self.others
            if any(id(variable) in one_by_one for variable in trained_variables(layer))
        ]

    @property
    def other_size(self) -> int:
        """How many parameters `others` have."""
        return sum(math.prod(variable.shape) for variable in (*self._local, *self._generic))

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """Returns the logits that the body's passes lead to, (B, C), of images (B, ...)."""
        output = self._body.passes.forward((), values_of(self._before_head), images).output
        return self._head(output) if self._body.splits else output

    def run(
        self,
        images: tf.Tensor,
        make_seeds: Callable[[tf.Tensor], tf.Tensor],
        wanted: Collection[int],
        others: bool,
    ) -> Run:
        """Runs images forward and seeds back.

        Args:
            images: (B, ...), B > 0.
            make_seeds: Function of the logits (B, C) that returns seeds (B, R, C), R static.
            wanted: The uses that are asked for.
            others: Whether `other_rows` will be asked for too.
        """
        body = self._body
        inside = {use for use in wanted if use < self._last} | (
            body.local.keys() if others else set()
        )
        inside = tuple(sorted(inside))
        forward = body.passes.forward(inside, values_of(self._before_head), images)
        logits = output = forward.output
        tape = tf.GradientTape(persistent=True, watch_accessed_variables=False)
        if body.splits:
            with tape:
                if output.dtype.is_floating:
                    tape.watch(output)
                logits = self._head(output)
        seeds = make_seeds(logits)
        rows = []
        for seed in tf.unstack(seeds, axis=1):
            found = {self._last: seed[:, None]}
            if inside:
                back = tape.gradient(logits, output, output_gradients=seed) if body.splits else seed
                deltas = body.passes.backward(inside, forward.kept, back)
                found.update(zip(inside, deltas, strict=True))
            rows.append(found)
        taps = {**dict(zip(inside, forward.taps, strict=True)), self._last: (output, logits)}
        return Run(logits, seeds, taps, rows)

    def other_rows(self, images: tf.Tensor, run: Run) -> list[tf.Tensor]:
        """Returns the gradients of the variables of `others`, in parts (B, R, size)."""
        found: dict[int, tf.Tensor] = {}
        values = values_of(self._before_head)
        for use, (_, fast) in self._body.local.items():
            inputs, _ = run.taps[use]
            deltas = tf.stack([row[use] for row in run.rows], axis=1)
            rows = self._body.passes.local_rows(use, fast, values, inputs, deltas)
            own = trained_variables(self._layers[self._body.places[use].layer])
            for variable, row in zip(own, rows, strict=True):
                row = tf.ensure_shape(row, [None, len(run.rows), math.prod(variable.shape)])
                row = tf.cast(row, run.seeds.dtype)
                before = found.get(id(variable))
                found[id(variable)] = row if before is None else before + row
        parts = [found[id(variable)] for variable in self._local]
        if self._generic:
            parts.append(generic.rows(self._model, self._generic, images, run.seeds))
        return parts

    def other_directions(self, direction: Mapping[int, tf.Tensor]) -> list[tf.Tensor]:
        """Returns a direction, a tensor per variable, in the parts of `other_rows`, flat."""
        parts = [generic.flat([direction[id(variable)]]) for variable in self._local]
        if self._generic:
            parts.append(generic.flat(direction[id(variable)] for variable in self._generic))
        return parts
