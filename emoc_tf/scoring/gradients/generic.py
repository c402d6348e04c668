"""The way for layers that have no factors: exact gradients, one example at a time."""

from collections.abc import Iterable, Sequence

import keras
import tensorflow as tf


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
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
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
