"""The way for layers that have no factors: exact gradients, one example at a time."""

from collections.abc import Container, Iterable, Sequence

import keras
import tensorflow as tf

from emoc_tf.scoring.gradients.layers import inner_layers


def unknown_layers(model: keras.Model, known: Container[int]) -> list[keras.Layer]:
    """Returns the layers of a model that hold trained variables and whose ids are not in `known`.

    A layer that is frozen may hold some: of a layer within it that was unfrozen since.
    """
    return [
        layer for layer in inner_layers(model) if id(layer) not in known and variables_of([layer])
    ]


def variables_of(layers: Iterable[keras.Layer]) -> list[keras.Variable]:
    """Returns the trainable variables of layers, each once."""
    return list({id(v): v for layer in layers for v in layer.variables if v.trainable}.values())


def rows(
    model: keras.Model, variables: Sequence[keras.Variable], images: tf.Tensor, seeds: tf.Tensor
) -> tf.Tensor:
    """Returns Σ_c seeds[b,r,c] · ∂logit_c(x_b)/∂θ over some variables, (B, R, P).

    Args:
        model: Images to logits.
        variables: θ, of P parameters.
        images: (B, ...).
        seeds: (B, R, C).
    """
    values = [variable.value for variable in variables]

    def one_example(example: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, example_seeds = example
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(values)
            logits = model(image[None], training=False)
        gradients = [
            tape.gradient(logits, values, output_gradients=seed[None], unconnected_gradients="zero")
            for seed in tf.unstack(example_seeds)
        ]
        return tf.stack([flat(gradient) for gradient in gradients])

    return tf.map_fn(one_example, (images, seeds), fn_output_signature=seeds.dtype)


def flat(tensors: Iterable[tf.Tensor]) -> tf.Tensor:
    """Returns the numbers of all tensors in one row."""
    return tf.concat([tf.reshape(tensor, [-1]) for tensor in tensors], 0)
