"""Samples of a model by its dropout layers, without a change of the model."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.data import views
from emoc_tf.models.forward import batch_of
from emoc_tf.models.graphs import flat_layers, functional, is_graph, walk

_SPATIAL = (
    keras.layers.SpatialDropout1D,
    keras.layers.SpatialDropout2D,
    keras.layers.SpatialDropout3D,
)


class DropoutSampler:
    """Draws models by the dropout masks of a model, each with one mask for all images.

    Layers of dropout (`Dropout`, `SpatialDropout1D` to `3D`, `AlphaDropout`, `GaussianDropout`) act
    as in training. All others are as in inference, normalisations too. Neither the model's weights
    nor the state of its generators of random numbers change. What no dropout lies before is
    computed once for all samples.

    Args:
        model: One that `check_model` accepts; later changes of its weights are seen.

    Attributes:
        model: The model.
        is_random: Whether its outputs depend on a dropout layer.
    """

    def __init__(self, model: keras.Model) -> None:
        self.model = model
        graph = functional(model)
        self.is_random = False
        if not any(map(_is_dropout, flat_layers(graph))):
            return
        self._seed = tf.Variable([0, 0], dtype=tf.int32, trainable=False)
        made: list[_Mask] = []
        sampled, border, self.is_random = _with_masks(graph, self._seed, made)
        if self.is_random:
            image = graph.inputs[0]
            self._before = _compiled(keras.Model(sampled.inputs[0], border), [image])
            self._after = _compiled(keras.Model(border, sampled.outputs[0]), border)
            self._dtype = image.dtype

    def logits(self, images: Any, rows: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Returns the outputs of some images under each sample, (T, k, C) float32.

        Args:
            images: (n, ...), an array or an array-like, see `data.views`.
            rows: (k,) which, ascending; k > 0.
            seeds: (T, 2) int32. A sample is a function of its seed, whatever images it meets.
        """
        parts, size = [], batch_of(images.shape)
        for start in range(0, len(rows), size):
            batch = views.read(images, rows[start : start + size])
            given = tf.nest.flatten(self._before(tf.constant(batch, self._dtype)))
            outputs = []
            for seed in seeds:
                self._seed.assign(seed)
                outputs.append(self._after(*given).numpy())
            parts.append(np.stack(outputs))
        return np.concatenate(parts, axis=1)


class _Mask(keras.layers.Layer):
    """What a dropout layer does in training, with one mask for all images."""

    def __init__(self, layer: keras.layers.Layer, seed: tf.Variable, number: int) -> None:
        super().__init__(dtype=layer.dtype_policy)
        self.supports_masking = True
        self._kind = layer
        self._draw_seed = lambda: tf.random.experimental.stateless_fold_in(seed, number)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        layer, shape, rate = self._kind, self._shape_of(inputs), self._kind.rate
        seed, dtype = self._draw_seed(), inputs.dtype
        if type(layer) is keras.layers.GaussianDropout:
            deviation = np.sqrt(rate / (1 - rate))
            return inputs * tf.random.stateless_normal(shape, seed, 1.0, deviation, dtype)
        kept = tf.random.stateless_uniform(shape, seed, dtype=dtype) >= rate
        if type(layer) is keras.layers.AlphaDropout:
            low = -1.6732632423543772 * 1.0507009873554805  # where SELU ends
            factor = ((1 - rate) * (1 + rate * low**2)) ** -0.5
            dropped = tf.where(kept, inputs, tf.constant(low, dtype))
            return factor * dropped - factor * low * rate
        factor = 1 / (1 - rate) if rate < 1 else 0.0
        return tf.where(kept, factor * inputs, tf.zeros([], dtype))

    def _shape_of(self, inputs: tf.Tensor) -> tf.Tensor:
        sizes = tf.unstack(tf.shape(inputs))
        if type(self._kind) in _SPATIAL:
            channel = 1 if getattr(self._kind, "data_format", None) == "channels_first" else -1
            last = len(sizes) - 1 if channel == -1 else 1
            sizes = [size if axis == last else 1 for axis, size in enumerate(sizes)]
        fixed = getattr(self._kind, "noise_shape", None) or [None] * len(sizes)
        sizes = [size if own is None else own for size, own in zip(sizes, fixed, strict=True)]
        return tf.stack([1, *sizes[1:]])


def _is_dropout(layer: keras.Operation) -> bool:
    """Whether a layer drops in training: by exact type, since a subclass may do something else."""
    kinds = (
        keras.layers.Dropout,
        keras.layers.AlphaDropout,
        keras.layers.GaussianDropout,
        *_SPATIAL,
    )
    return type(layer) in kinds and layer.rate > 0


def _with_masks(
    model: keras.Model, seed: tf.Variable, made: list[_Mask]
) -> tuple[keras.Model, list[keras.KerasTensor], bool]:
    """Returns the model with masks, what its random part gets, and whether its output is random."""
    random: set[int] = set()
    border: dict[int, keras.KerasTensor] = {}  # masks of time steps too: the graph passes them on

    def call(layer: keras.Operation, *args: Any, **kwargs: Any) -> Any:
        drops, given = False, _tensors([args, kwargs])
        if _is_dropout(layer):
            made.append(_Mask(layer, seed, len(made)))
            drops, outputs = True, made[-1](args[0])
        elif is_graph(layer):
            inner, _, drops = _with_masks(layer, seed, made)
            outputs = (inner if drops else layer)(*args, **kwargs)
        else:
            outputs = layer(*args, **kwargs)
        if drops or any(id(tensor) in random for tensor in given):
            border.update({id(each): each for each in given if id(each) not in random})
            random.update(id(each) for each in _tensors(outputs))
        return outputs

    found = walk(model, call)
    return found, list(border.values()), id(found.outputs[0]) in random


def _tensors(structure: Any) -> list[keras.KerasTensor]:
    flat = keras.tree.flatten(structure)
    return [each for each in flat if isinstance(each, keras.KerasTensor)]


def _compiled(model: keras.Model, tensors: list[keras.KerasTensor]) -> Callable[..., Any]:
    """Returns a compiled function of the model's inputs, in inference mode; traced once."""

    def forward(*inputs: tf.Tensor) -> Any:
        return model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)

    specifications = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in tensors]
    return tf.function(forward, autograph=False).get_concrete_function(*specifications)
