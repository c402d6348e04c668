"""Output changes by sketched gradients, compiled once whatever the directions are."""

import copy
import functools
from collections.abc import Callable, Hashable
from typing import Any, Self

import numpy as np
import tensorflow as tf

from emoc_tf.scoring.changes import _LAZY, OutputChanges
from emoc_tf.scoring.gradients.kept import Gradients, Pairs
from emoc_tf.scoring.sketches.cuts import Directions
from emoc_tf.scoring.sketches.projected import SketchedGradients


class SketchedChanges(OutputChanges):
    """The same functions as those of `changes`, of gradients that are cut down to directions.

    Directions are arguments of the compiled functions, as variables are of those that models
    share: other weights, and other models of one architecture, have directions of their own.

    Args:
        changes: The exact functions of a model.
    """

    def __init__(self, changes: OutputChanges) -> None:
        vars(self).update(vars(changes))
        self._forget()
        self.exact = changes
        self.factors = SketchedGradients(changes.factors)
        self._traced = changes._traced.setdefault("sketches", {})
        self._directions: Directions = []

    def along(self, directions: list[tuple[np.ndarray, ...]]) -> Self:
        """Returns the functions for some directions, see `SketchedGradients`."""
        other = copy.copy(self)
        other._forget()
        other._directions = [
            tuple(tf.constant(each, self.factors.dtype) for each in own) for own in directions
        ]
        other.factors = self.factors.along(other._directions, self._regularizer)
        return other

    def vectors(
        self, images: tf.Tensor, seeds: np.ndarray, signs: np.ndarray
    ) -> list[tuple[tf.Tensor, ...]]:
        """Returns what directions are fitted to, see `SketchedGradients.vectors`."""
        dtype = self.factors.dtype
        given = [tf.constant(seeds, dtype), tf.constant(signs, dtype)]
        specs = [tf.TensorSpec([None, *each.shape[1:]], dtype) for each in given]
        function = super()._function("vectors", self.factors.vectors, self._images, *specs)
        return function(images, *given)

    def _function(self, name: Hashable, function: Callable, *specs: Any) -> Callable:
        if self._in_parts:  # nothing is traced that directions could be arguments of
            return function

        def along(directions: Directions, *given: Any) -> Any:
            own, self.factors = self.factors, copy.copy(self.factors)
            self.factors.directions = directions
            try:
                return function(*given)
            finally:
                self.factors = own

        spaces = [cut.spaces for cut in self.factors.cut]
        directions = [
            tuple(tf.TensorSpec([size, None], self.factors.dtype) for size in own) for own in spaces
        ]
        traced = super()._function(name, along, directions, *specs)
        return functools.partial(traced, self._directions)

    def _jacobian(self, images: tf.Tensor) -> Gradients:
        seeds, direction = self._output_seeds, self._penalty_gradient()
        return self.factors.jacobian(images, seeds, self.dtype, direction)

    def _pairs(self) -> Pairs:
        self._trace_gradients(1, False)
        return super()._pairs()

    def _specs_of(self, given: Any) -> Any:
        specs = super()._specs_of(given)
        if not hasattr(specs, "explicit"):
            return specs
        shape = [*specs.explicit.shape[:-1], None]  # for other numbers of directions too
        return specs._replace(explicit=tf.TensorSpec(shape, specs.explicit.dtype))

    @property
    def directions(self) -> Directions:
        """What gradients are cut down to."""
        return self._directions

    def _forget(self) -> None:
        """Drops the functions that were made for other directions."""
        for name in _LAZY:
            vars(self).pop(name, None)
