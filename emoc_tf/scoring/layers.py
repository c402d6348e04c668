"""Per-layer factors of output and loss gradients.

For a layer z = W·a + b, the gradient of any scalar with respect to W is a ⊗ δ with δ the gradient
with respect to the pre-activation z. One backward pass to all pre-activations therefore gives the
gradients of every example of a batch at once, where differentiating with respect to the weights
would add them up over the batch.

A gradient of the whole model has two parts: the explicit one (convolutions, and layers of other
types), whose rows are formed and multiplied, and the factored one (dense layers), whose inner
products come from the small factors, (a·a' + 1)(δ·δ').
"""

import warnings
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.networks import check_model, functional


class Gradients(NamedTuple):
    """Gradients of B examples, R rows each (one a seed of the backward pass), in parts.

    Attributes:
        explicit: (B, R, P_explicit) of all layers that are not dense.
        inputs: Per dense layer (B, I), its input a; with a 1 appended where it has a bias.
        deltas: Per dense layer (B, R, O), the gradient δ with respect to its output.
    """

    explicit: tf.Tensor
    inputs: list[tf.Tensor]
    deltas: list[tf.Tensor]


class _PreActivation(keras.layers.Layer):
    """Computes what a Dense or Conv2D layer computes before its activation."""

    def __init__(self, layer: keras.Layer) -> None:
        super().__init__(name=f"{layer.name}_pre_activation", dtype=layer.dtype_policy)
        self.source = layer

    def call(self, inputs):
        layer = self.source
        if isinstance(layer, keras.layers.Dense):
            output = keras.ops.matmul(inputs, layer.kernel)
        else:
            output = keras.ops.conv(
                inputs,
                layer.kernel,
                strides=layer.strides,
                padding=layer.padding,
                dilation_rate=layer.dilation_rate,
                data_format=layer.data_format,
            )
        return output + layer.bias if layer.use_bias else output


def _has_plain_weights(layer: keras.Layer) -> bool:
    weights = [layer.kernel, layer.bias] if layer.use_bias else [layer.kernel]
    return [id(w) for w in weights] == [id(w) for w in layer.trainable_variables]


def _is_factored_dense(layer: keras.Layer, input_rank: int) -> bool:
    return type(layer) is keras.layers.Dense and input_rank == 2 and _has_plain_weights(layer)


def _is_explicit_convolution(layer: keras.Layer) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups == 1
        and layer.data_format == "channels_last"
        and _has_plain_weights(layer)
    )


class GradientFactors:
    """Gradients of a model's logits with respect to its parameters, example by example.

    Dense layers with (batch, features) inputs are factored, Conv2D layers (channels last, no
    groups) explicit; both if they are called once. Any other trainable layer, nested model or
    shared layer goes an exact but slow way, one example at a time, with one warning that names
    it. Frozen layers contribute nothing.

    Args:
        model: A functional or Sequential model that ends in a linear Dense layer. It is not
            changed, and later changes of its weights are seen.

    Raises:
        ValueError: The model is of another kind.
    """

    def __init__(self, model: keras.Model) -> None:
        check_model(model)
        self._model = model
        calls: Counter[int] = Counter()
        ranks: dict[int, int] = {}

        def count(layer, *args, **kwargs):
            calls[id(layer)] += 1
            ranks[id(layer)] = len(args[0].shape) if hasattr(args[0], "shape") else 0
            return layer(*args, **kwargs)

        _walk(model, count)
        trainable = [layer for layer in model.layers if layer.trainable_variables]
        uses = Counter(id(v) for layer in trainable for v in layer.trainable_variables)
        once = [
            layer
            for layer in trainable
            if calls[id(layer)] == 1 and all(uses[id(v)] == 1 for v in layer.trainable_variables)
        ]
        self._dense = [layer for layer in once if _is_factored_dense(layer, ranks[id(layer)])]
        self._convolutions = [layer for layer in once if _is_explicit_convolution(layer)]
        known = {id(layer) for layer in [*self._dense, *self._convolutions]}
        slow_layers = [layer for layer in trainable if id(layer) not in known]
        self._generic = _distinct(v for layer in slow_layers for v in layer.trainable_variables)
        if slow_layers:
            names = ", ".join(f"{layer.name} ({type(layer).__name__})" for layer in slow_layers)
            warnings.warn(
                f"scored exactly but slowly, one example at a time: {names}", stacklevel=3
            )
        self._probe = self._build_probe(known)
        self._explicit = [v for layer in self._convolutions for v in layer.trainable_variables]
        self._explicit += self._generic
        self.explicit_size = sum(int(np.prod(variable.shape)) for variable in self._explicit)

    def _build_probe(self, known: set[int]) -> keras.Model:
        """Returns a model image -> (logits, inputs and pre-activations of the known layers)."""
        seen: dict[int, tuple[keras.KerasTensor, keras.KerasTensor]] = {}

        def call(layer, *args, **kwargs):
            if id(layer) not in known:
                return layer(*args, **kwargs)
            outputs = _PreActivation(layer)(args[0])
            seen[id(layer)] = (args[0], outputs)
            return keras.layers.Activation(layer.activation, dtype=layer.dtype_policy)(outputs)

        clone = _walk(self._model, call)
        taps = [seen[id(layer)] for layer in [*self._dense, *self._convolutions]]
        return keras.Model(clone.inputs[0], [clone.outputs[0], taps])

    def gradients(self, images: tf.Tensor, make_seeds) -> Gradients:
        """Returns the gradients Σ_c seeds[b,r,c] · ∂logit_c(x_b)/∂θ of a batch.

        Args:
            images: (B, ...), B > 0.
            make_seeds: Function of the logits (B, C) that returns seeds (B, R, C), R static.
        """
        with tf.GradientTape(persistent=True) as tape:
            logits, taps = self._probe(images, training=False)
        seeds = make_seeds(logits)
        outputs = [output for _, output in taps]
        rows = [
            tape.gradient(logits, outputs, output_gradients=seed, unconnected_gradients="zero")
            for seed in tf.unstack(seeds, axis=1)
        ]
        deltas = [tf.stack(layer_rows, axis=1) for layer_rows in zip(*rows, strict=True)]
        split = len(self._dense)
        explicit = [
            _convolution_rows(layer, inputs, delta)
            for layer, (inputs, _), delta in zip(
                self._convolutions, taps[split:], deltas[split:], strict=True
            )
        ]
        if self._generic:
            explicit.append(self._generic_rows(images, seeds))
        if not explicit:
            explicit.append(tf.zeros([tf.shape(seeds)[0], seeds.shape[1], 0], seeds.dtype))
        return Gradients(
            tf.concat(explicit, axis=-1),
            [
                _with_one(inputs) if layer.use_bias else inputs
                for layer, (inputs, _) in zip(self._dense, taps[:split], strict=True)
            ],
            deltas[:split],
        )

    def _generic_rows(self, images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        variables = [variable.value for variable in self._generic]

        def one_example(example):
            image, example_seeds = example
            with tf.GradientTape(persistent=True) as tape:
                logits = self._model(image[None], training=False)
            rows = [
                tape.gradient(
                    logits, variables, output_gradients=seed[None], unconnected_gradients="zero"
                )
                for seed in tf.unstack(example_seeds)
            ]
            return tf.stack([tf.concat([tf.reshape(g, [-1]) for g in row], 0) for row in rows])

        return tf.map_fn(one_example, (images, seeds), fn_output_signature=seeds.dtype)

    def project(self, gradients: Gradients, direction: list[tf.Tensor]) -> tf.Tensor:
        """Returns the inner product of each gradient with one direction, (B, R).

        Args:
            gradients: From `gradients`.
            direction: A tensor per variable of `model.trainable_variables`, of its shape.
        """
        by_variable = {
            id(variable): tensor
            for variable, tensor in zip(self._model.trainable_variables, direction, strict=True)
        }
        explicit = [tf.reshape(by_variable[id(variable)], [-1]) for variable in self._explicit]
        total = tf.zeros(tf.shape(gradients.explicit)[:2], gradients.explicit.dtype)
        if explicit:
            total += tf.linalg.matvec(gradients.explicit, tf.concat(explicit, 0))
        for layer, inputs, deltas in zip(
            self._dense, gradients.inputs, gradients.deltas, strict=True
        ):
            matrix = by_variable[id(layer.kernel)]
            if layer.use_bias:
                matrix = tf.concat([matrix, by_variable[id(layer.bias)][None]], 0)
            total += tf.linalg.matvec(deltas, inputs @ matrix)
        return total


def _walk(model: keras.Model, call) -> keras.Model:
    """Calls `call(layer, ...)` for every call in the model's graph; the layers are the model's."""
    return keras.models.clone_model(
        functional(model), clone_function=lambda layer: layer, call_function=call
    )


def _distinct(variables: Iterable[keras.Variable]) -> list[keras.Variable]:
    return list({id(variable): variable for variable in variables}.values())


def _with_one(inputs: tf.Tensor) -> tf.Tensor:
    return tf.concat([inputs, tf.ones_like(inputs[:, :1])], axis=1)


def _convolution_rows(
    layer: keras.layers.Conv2D, inputs: tf.Tensor, deltas: tf.Tensor
) -> tf.Tensor:
    """Returns the rows ∂/∂(kernel, bias) of one convolution, (B, R, F·O + O).

    Args:
        layer: The convolution.
        inputs: (B, H, W, channels).
        deltas: (B, R, H', W', O).
    """
    patches = tf.image.extract_patches(
        inputs,
        sizes=[1, *layer.kernel_size, 1],
        strides=[1, *layer.strides, 1],
        rates=[1, *layer.dilation_rate, 1],
        padding=layer.padding.upper(),
    )  # [B, H', W', F], ordered as the kernel is
    shape = tf.shape(patches)
    positions = shape[1] * shape[2]
    rows, units = deltas.shape[1], deltas.shape[-1]
    patches = tf.reshape(patches, [shape[0], 1, positions, patches.shape[-1]])
    deltas = tf.reshape(deltas, [shape[0], rows, positions, units])
    kernel_rows = tf.matmul(patches, deltas, transpose_a=True)  # [B, R, F, O]
    flat = tf.reshape(kernel_rows, [-1, rows, kernel_rows.shape[2] * units])
    return tf.concat([flat, tf.reduce_sum(deltas, 2)], -1) if layer.use_bias else flat
