"""A check that the factors of each layer give the gradient that automatic differentiation gives.

Graphs can do what no rule foresees: an operation may use a layer's weights, a window may be placed
in a way of its own. A layer whose factors give another gradient is not trusted.
"""

from collections import Counter
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.forward import ANY_SIZE
from emoc_tf.models.graphs import inner_layers, last_operation, trained_variables
from emoc_tf.scoring.gradients import contractions, local
from emoc_tf.scoring.gradients.layers import Probe
from emoc_tf.scoring.gradients.local import LocalStage
from emoc_tf.scoring.gradients.passes import Passes
from emoc_tf.scoring.gradients.stages import Factors, Stage

TOLERANCE, ROUNDING = 1e-3, 1e-5


class Verdict(NamedTuple):
    """What gives the right gradient.

    Attributes:
        stages: Of layers whose stages do, by the layer's id.
        local: Ids of the layers, seen as they are, that do.
        vectorised: Of each use of such a layer, whether examples can be taken at once.
    """

    stages: dict[int, list[Stage]]
    local: set[int]
    vectorised: dict[int, bool]


def verified(
    model: keras.Model,
    known: dict[int, list[Stage]],
    shown: Probe,
    passes: Passes,
    splits: bool,
) -> Verdict:
    """Returns which layers give the right gradient for one random image.

    Theirs come from the compiled passes that scores are made of.

    Args:
        model: A functional model.
        known: Stages by layer id, see `layers.known_stages`.
        shown: The probe with these layers in view, see `layers.probe`.
        passes: Its passes.
        splits: Whether the probe ends at the head's input.

    Raises:
        ValueError: The model adds losses when it is called, which are no function of its weights.
    """
    image = _random_input(model)
    stages = [stage for own in known.values() for stage in own]
    seen = [use.stage.layer for use in shown.uses if isinstance(use.stage, LocalStage)]
    parameters = [variable for each in (*stages, *seen) for variable in _variables(each)]
    values = [variable.value for variable in parameters]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        logits = model(image, training=False)
    _check_losses(model)
    seed = tf.constant(np.random.default_rng(0).normal(size=logits.shape), logits.dtype)
    gradients = tape.gradient(logits, values, output_gradients=seed, unconnected_gradients="zero")
    right = {id(v): gradient for v, gradient in zip(parameters, gradients, strict=True)}
    found = _Found(model, known, shown, passes, splits, image, seed)

    def agrees(stage: Stage) -> bool:
        own = found.factors[id(stage)]
        inputs = 1.0 if "int" in own.inputs.dtype.name else 1 + float(tf.norm(own.inputs))
        terms = inputs * float(tf.norm(own.deltas))
        rows = [part[0, 0] for part in contractions.explicit_rows(stage, own)]
        return all(
            _close(have, want, terms)
            for have, want in zip(rows, contractions.direction_rows(stage, right), strict=True)
        )

    def is_right(variable: keras.Variable) -> bool:
        want = tf.reshape(right[id(variable)], [-1])
        return _close(found.rows[id(variable)], want, found.terms[id(variable)])

    return Verdict(
        {layer: own for layer, own in known.items() if all(map(agrees, own))},
        {id(layer) for layer in seen if all(map(is_right, trained_variables(layer)))},
        found.vectorised,
    )


def _variables(part: Stage | keras.Layer) -> list[keras.Variable]:
    return part.parameters if isinstance(part, Stage) else trained_variables(part)


class _Found:
    """What the passes give for one image and one seed.

    Attributes:
        factors: Of each stage, by its id.
        rows: Of each variable of layers seen as they are, by its id, (size,).
        terms: About how large the numbers are that rows are sums of.
        vectorised: See `Verdict`.
    """

    def __init__(
        self,
        model: keras.Model,
        known: dict[int, list[Stage]],
        shown: Probe,
        passes: Passes,
        splits: bool,
        image: tf.Tensor,
        seed: tf.Tensor,
    ) -> None:
        uses = tuple(range(len(shown.uses)))
        values = passes.values()
        forward = passes.forward(uses, values, image)
        self.factors: dict[int, Factors] = {}
        gradient = seed
        if splits:
            head = last_operation(model)
            gradient = tf.matmul(seed, head.kernel, transpose_b=True)
            gradient = tf.cast(gradient, forward.output.dtype)
            for stage in known.get(id(head), []):
                inputs = tf.cast(forward.output, stage.compute_dtype)
                self.factors[id(stage)] = Factors(stage.factor(inputs, seed), seed[:, None, None])
        deltas = passes.backward(uses, forward.kept, gradient)
        taps = dict(zip(uses, forward.taps, strict=True))
        rows = [dict(zip(uses, deltas, strict=True))]
        self.rows, self.terms, self.vectorised = Counter(), Counter(), {}
        by_stage: dict[int, list[int]] = {}
        for place, use in enumerate(shown.uses):
            if isinstance(use.stage, LocalStage):
                self._see(passes, values, place, use.stage, *taps[place], deltas[place])
            else:
                by_stage.setdefault(id(use.stage), []).append(place)
        for own in by_stage.values():
            stage = shown.uses[own[0]].stage
            self.factors[id(stage)] = contractions.merged_factors(stage, own, taps, rows)

    def _see(
        self,
        passes: Passes,
        values: list[tf.Tensor],
        place: int,
        stage: LocalStage,
        inputs: list[tf.Tensor],
        output: tf.Tensor,
        delta: tf.Tensor,
    ) -> None:
        """Adds the rows of a layer's use."""

        def every(fast: bool, *given: Any) -> list[tf.Tensor]:
            return passes.local_rows(place, fast, values, *given)

        fast = not local.has_loop(stage, inputs) and local.agree(every, inputs, output)
        self.vectorised[place] = fast
        found = every(fast, inputs, delta[:, None])
        for variable, row in zip(trained_variables(stage.layer), found, strict=True):
            self.rows[id(variable)] += row[0, 0]
            self.terms[id(variable)] += float(tf.norm(row)) + float(tf.norm(delta))


def _random_input(model: keras.Model) -> tf.Tensor:
    image, rng = model.inputs[0], np.random.default_rng(0)
    shape = [1, *(ANY_SIZE if size is None else size for size in image.shape[1:])]
    has_words = any(isinstance(layer, keras.layers.Embedding) for layer in inner_layers(model))
    if "float" not in image.dtype or (has_words and len(shape) == 2):
        return tf.ones(shape, image.dtype)  # no mask hides such words
    numbers = rng.integers(0, 2, shape) if has_words else rng.normal(size=shape)
    return tf.constant(numbers, image.dtype)


def _close(found: tf.Tensor, right: tf.Tensor, terms: float) -> bool:
    """Returns whether two gradients agree, up to what rounding leaves of terms that cancel."""
    scale = TOLERANCE * float(tf.norm(right)) + ROUNDING * terms
    return not np.isfinite(scale) or float(tf.norm(found - right)) <= scale


def _check_losses(model: keras.Model) -> None:
    penalties = sum(v.regularizer is not None for v in model.trainable_variables)
    if len(model.losses) != penalties:
        raise ValueError(
            f"model: expected losses of its weights alone, {penalties} regularisers, got "
            f"{len(model.losses)} losses after a call; add_loss and activity regularisers are no "
            f"part of ω"
        )
