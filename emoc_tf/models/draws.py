"""Weights and images that are drawn, so that a gradient tells what a layer computes.

Weights as they are may hide it: behind a gate, a scale or a head that is 0 all gradients are 0.
"""

import math
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models.forward import ANY_SIZE
from emoc_tf.models.graphs import inner_layers

# A variable is drawn around its values, by this share of them and of what usual weights have.
SPREAD = 0.1
# Numbers that are drawn for a variable: more are the same again.
NUMBERS = 65_521


class Draw(NamedTuple):
    """How weights and images are drawn.

    Attributes:
        weights: `"around"` those of the model, `"above"` them, for layers that take no negative
            ones, or `"fresh"`, where the model's own lead nowhere.
        image: `"normal"`, `"unit"`, in [0, 1), or `"pixels"`, in [1, 256).
    """

    weights: Literal["around", "above", "fresh"]
    image: Literal["normal", "unit", "pixels"]


# One after the other until all is told; mostly the first one tells.
DRAWS = (
    Draw("around", "normal"),
    Draw("around", "unit"),
    Draw("around", "pixels"),
    Draw("above", "unit"),
    Draw("fresh", "unit"),
)


def weights(model: keras.Model, draw: Draw) -> list[tuple[keras.Variable, tf.Tensor]]:
    """Returns the variables of a model that hold numbers, and drawn values of them."""
    rng = np.random.default_rng(0)
    own = {id(variable): variable for variable in model.weights}
    return [(v, _drawn(v, draw, rng)) for v in own.values() if is_float(v)]


def is_float(variable: keras.Variable) -> bool:
    """Whether a variable holds numbers that are no integers."""
    return "float" in keras.backend.standardize_dtype(variable.dtype)


def _drawn(variable: keras.Variable, draw: Draw, rng: np.random.Generator) -> tf.Tensor:
    value = tf.convert_to_tensor(variable.value).numpy()
    value = np.where(np.isfinite(value), value, np.zeros_like(value))
    numbers = np.resize(rng.normal(size=min(value.size, NUMBERS)), value.shape)
    usual = 1 / math.sqrt(max(1, math.prod(value.shape[:-1])))
    size = np.sqrt(np.mean(np.square(value, dtype=np.float64))) if value.size else 0.0
    # Frozen ones are statistics too, such as variances.
    if draw.weights == "above" or not variable.trainable:
        value = value + SPREAD * (size + usual) * np.abs(numbers)
    elif draw.weights == "around":
        value = value + SPREAD * (size + usual) * numbers
    else:
        value = usual * numbers if value.ndim > 1 else 0.5 + SPREAD * numbers
    return tf.constant(value, variable.dtype)


def image(model: keras.Model, draw: Draw, seed: int = 0) -> tf.Tensor:
    """Returns an image that a model may take, (1, ...)."""
    given, rng = model.inputs[0], np.random.default_rng(seed)
    shape = [1, *(ANY_SIZE if size is None else size for size in given.shape[1:])]
    inside = inner_layers(model)
    tables = [each for each in inside if isinstance(each, keras.layers.Embedding)]
    masked = [each.mask_value for each in inside if isinstance(each, keras.layers.Masking)]
    masked += [0 for table in tables if table.mask_zero]
    words = [table.input_dim for table in tables]
    if words and len(shape) == 2:
        numbers = rng.integers(1, max(2, min(words)), shape)  # 0 may be masked
    elif words or "float" not in given.dtype:
        numbers = rng.integers(0 if draw.image == "normal" else 1, 2, shape)
    elif draw.image == "normal":
        numbers = rng.normal(size=shape)
    else:
        numbers = rng.random(shape)
        numbers = 1 + 255 * numbers if draw.image == "pixels" else numbers
    if masked and shape[1] > 1:  # times that a mask hides, so that masks are seen to
        hidden = {2: [-1], 3: [0], 4: [0, -1]}.get(shape[1], [0, shape[1] // 2, -1])
        numbers[:, hidden] = masked[0]
    return tf.constant(numbers, given.dtype)
