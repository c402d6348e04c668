"""A check that the factors of each layer give the gradient that automatic differentiation gives.

Graphs can do what no rule foresees: an operation may use a layer's weights, a window may be placed
in a way of its own. A layer whose factors give another gradient is not trusted.
"""

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.forward import ANY_SIZE
from emoc_tf.scoring.gradients import contractions
from emoc_tf.scoring.gradients.layers import inner_layers, probe
from emoc_tf.scoring.gradients.stages import Stage

TOLERANCE, ROUNDING = 1e-3, 1e-5


def verified(model: keras.Model, known: dict[int, list[Stage]]) -> dict[int, list[Stage]]:
    """Returns the known layers whose factors give the right gradient for a random input.

    Args:
        model: A functional model.
        known: Stages by layer id, see `layers.known_stages`.

    Raises:
        ValueError: The model adds losses when it is called, which are no function of its weights.
    """
    image = _random_input(model)
    stages = [stage for own in known.values() for stage in own]
    shown, uses = probe(model, known)
    with tf.GradientTape(persistent=True) as tape:
        logits, taps = shown(image, training=False)
    seed = tf.constant(np.random.default_rng(0).normal(size=logits.shape), logits.dtype)
    outputs = [output for _, output in taps]
    row = tape.gradient(logits, outputs, output_gradients=seed, unconnected_gradients="zero")
    variables = [variable.value for stage in stages for variable in stage.parameters]
    with tf.GradientTape() as tape:
        logits = model(image, training=False)
    _check_losses(model)
    gradients = tape.gradient(
        logits, variables, output_gradients=seed, unconnected_gradients="zero"
    )
    parameters = [variable for stage in stages for variable in stage.parameters]
    right = {id(v): gradient for v, gradient in zip(parameters, gradients, strict=True)}

    def agrees(stage: Stage) -> bool:
        places = [place for place, use in enumerate(uses) if use.stage is stage]
        factors = contractions.merged_factors(stage, places, taps, [row])
        inputs = 1.0 if "int" in factors.inputs.dtype.name else 1 + float(tf.norm(factors.inputs))
        terms = inputs * float(tf.norm(factors.deltas))
        found = [part[0, 0] for part in contractions.explicit_rows(stage, factors)]
        return all(
            _close(have, want, terms)
            for have, want in zip(found, contractions.direction_rows(stage, right), strict=True)
        )

    return {layer: own for layer, own in known.items() if all(map(agrees, own))}


def _random_input(model: keras.Model) -> tf.Tensor:
    image = model.inputs[0]
    shape = [1, *(ANY_SIZE if size is None else size for size in image.shape[1:])]
    has_words = any(isinstance(layer, keras.layers.Embedding) for layer in inner_layers(model))
    if "float" not in image.dtype or (has_words and len(shape) == 2):
        return tf.ones(shape, image.dtype)  # no mask hides such words
    rng = np.random.default_rng(0)
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
