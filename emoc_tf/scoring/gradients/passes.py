"""The passes of a model's body forward and backward, as functions that are traced once each.

The backward pass is a function of its own of what the forward pass keeps, called once a row of
gradients: C rows are C calls, not C copies. Both take the values of weights, so that models of one
architecture share them.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from emoc_tf.scoring.gradients import local
from emoc_tf.scoring.gradients.layers import Probe
from emoc_tf.scoring.gradients.masks import untold
from emoc_tf.scoring.gradients.stages import watched_by


class Forward(NamedTuple):
    """What a forward pass found.

    Attributes:
        output: The body's output, (B, ...).
        taps: Input, or inputs, and output z of each use that was asked for, in their order.
        kept: What the backward pass needs.
    """

    output: tf.Tensor
    taps: list[tuple[tf.Tensor | list[tf.Tensor], tf.Tensor]]
    kept: list[tf.Tensor]


class _Traced(NamedTuple):
    forward: tf.types.experimental.ConcreteFunction
    backward: tf.types.experimental.ConcreteFunction | None  # None: nothing was asked for


class Passes:
    """The passes of a body.

    Args:
        probe: The body, with its stages in view.
        variables: Whose values are given with each call; others are captured.
    """

    def __init__(self, probe: Probe, variables: Sequence[keras.Variable]) -> None:
        self._probe, self._variables = probe, list(variables)
        self._traced: dict[tuple[int, ...], _Traced] = {}
        self._local: dict[tuple[int, bool], tf.types.experimental.ConcreteFunction] = {}
        self._lock = threading.RLock()

    def values(self) -> list[tf.Tensor]:
        """Returns the values of its own variables."""
        return values_of(self._variables)

    def local_rows(
        self,
        use: int,
        vectorised: bool,
        values: Sequence[tf.Tensor],
        inputs: Sequence[tf.Tensor],
        deltas: tf.Tensor,
    ) -> list[tf.Tensor]:
        """Returns the gradients of the variables of a layer that is seen as it is.

        Args:
            use: Which, see `Passes.forward`.
            vectorised: Whether over examples and rows at once, or one at a time.
            values: One a variable.
            inputs: Of the use, (B, ...) each.
            deltas: (B, R, ...).

        Returns:
            (B, R, size) each.
        """
        with self._lock:
            if (use, vectorised) not in self._local:
                self._local[use, vectorised] = self._trace_local(use, vectorised)
        # Within a graph sizes may be lost that were there when it was traced.
        traced = self._local[use, vectorised]
        (_, *specs), _ = traced.structured_input_signature
        given = tf.nest.map_structure(
            lambda each, spec: tf.ensure_shape(each, spec.shape), [list(inputs), deltas], specs
        )
        return traced(list(values), *given)

    def _trace_local(self, use: int, vectorised: bool) -> tf.types.experimental.ConcreteFunction:
        stage = self._probe.uses[use].stage

        def rows(values: list[tf.Tensor], inputs: list[tf.Tensor], deltas: tf.Tensor) -> list:
            by_id = {id(v): value for v, value in zip(self._variables, values, strict=True)}
            return local.rows(stage, by_id, inputs, deltas, vectorised)

        # As the graph tells them: a size that it leaves open is another with each image.
        _, taps = self._probe.model.output
        inputs, z = taps[use]
        specs = [tf.TensorSpec(each.shape, each.dtype) for each in self._variables]
        given = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in inputs]
        delta = tf.TensorSpec([None, None, *z.shape[1:]], z.dtype)
        return tf.function(rows, autograph=False).get_concrete_function(specs, given, delta)

    def forward(
        self, uses: tuple[int, ...], values: Sequence[tf.Tensor], images: tf.Tensor
    ) -> Forward:
        """Runs images forward.

        Args:
            uses: Which stages are asked for, indices of the probe's uses.
            values: One a variable.
            images: (B, ...).
        """
        return Forward(*self._of(uses).forward(list(values), images))

    def backward(
        self, uses: tuple[int, ...], kept: Sequence[tf.Tensor], gradient: tf.Tensor
    ) -> list[tf.Tensor]:
        """Runs a gradient back to the z of each use.

        Args:
            uses: As for `forward`.
            kept: What it kept.
            gradient: With respect to the output, shaped as it.

        Returns:
            δ of each use, (B, S, G·O).
        """
        backward = self._of(uses).backward
        if backward is None:
            return []
        with self._lock:
            own = backward.captured_inputs
            backward.set_external_captures(list(kept))
            try:
                return backward(gradient)
            finally:  # nothing of a batch is held
                backward.set_external_captures(own)

    def _of(self, uses: tuple[int, ...]) -> _Traced:
        with self._lock:
            if uses not in self._traced:
                self._traced[uses] = self._trace(uses)
            return self._traced[uses]

    def _trace(self, uses: tuple[int, ...]) -> _Traced:
        backward = None

        def forward(values: list[tf.Tensor], images: tf.Tensor) -> tuple:
            nonlocal backward
            # Of the weights none is watched: from the first stage on, z is. So nothing is traced
            # back through what lies before it, nor to the weights themselves.
            tape = tf.GradientTape(watch_accessed_variables=False)
            scope = keras.StatelessScope(zip(self._variables, values, strict=True))
            with scope, tape, watched_by(tape), untold():
                output, taps = self._probe.model(images, training=False)
            if not uses:
                return output, [], []
            backward = _trace_backward(tape, self._probe, uses, output, taps)
            return (
                output,
                [(taps[use][0], taps[use][1]) for use in uses],
                list(backward.captured_inputs),
            )

        image = self._probe.model.inputs[0]
        specs = [tf.TensorSpec(each.shape, each.dtype) for each in (*self._variables, image)]
        traced = tf.function(forward, autograph=False)
        return _Traced(traced.get_concrete_function(specs[:-1], specs[-1]), backward)


def values_of(variables: Sequence[keras.Variable]) -> list[tf.Tensor]:
    """Returns the values of variables, of a `keras.StatelessScope` within one."""
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def _trace_backward(
    tape: tf.GradientTape,
    probe: Probe,
    uses: tuple[int, ...],
    output: tf.Tensor,
    taps: Sequence[tuple[tf.Tensor, tf.Tensor]],
) -> tf.types.experimental.ConcreteFunction:
    """Returns the function of a gradient, inside the forward pass, whose tensors it captures."""

    def backward(gradient: tf.Tensor) -> list[tf.Tensor]:
        found = tape.gradient(
            output,
            [taps[use][1] for use in uses],
            output_gradients=gradient,
            unconnected_gradients="zero",
        )
        for use, each in zip(uses, found, strict=True):
            each.set_shape(taps[use][1].shape)  # which some gradients do not tell
        return [probe.uses[use].stage.deltas(each) for use, each in zip(uses, found, strict=True)]

    spec = tf.TensorSpec(output.shape, output.dtype)
    return tf.function(backward, autograph=False).get_concrete_function(spec)
