"""Iterations of training, compiled: loss, gradients and the optimizer's update."""

import functools
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from emoc_tf.models import traces
from emoc_tf.models.optimizers import Slots, UpdateRule

# Of (b, B) mini-batches as indices of images, (n,) labels and (n, ...) images; it returns the loss
# of the last mini-batch before its update.
Iterations = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]

# Of (B, ...) images: logits (B, C), the terms of ω, and what gradients are taken for.
_Forward = Callable[[tf.Tensor, tf.GradientTape], tuple[tf.Tensor, list, Sequence]]


def compile_iterations(
    model: keras.Model,
    slots: Sequence[Slots],
    rule: UpdateRule,
    rate: float,
    batch_size: int,
    images: tf.TensorSpec,
) -> Iterations:
    """Compiles training of a model by CE + ω, the sum of `model.losses`.

    Args:
        model: Ending in logits.
        slots: Of each trainable variable.
        rule: How variables and slots are changed.
        rate: The learning rate η.
        batch_size: B.
        images: (n, ...), as the model takes them; n may be None.
    """
    variables = [variable.value for variable in model.trainable_variables]
    indices, labels = tf.TensorSpec([None, batch_size], tf.int32), tf.TensorSpec([None], tf.int32)
    specs = (indices, labels, images)

    def captured(images: tf.Tensor, tape: tf.GradientTape) -> tuple[tf.Tensor, list, Sequence]:
        return model(images, training=True), model.losses, variables

    architecture = traces.architecture(model)
    if architecture is None:

        def own(*given: tf.Tensor) -> tf.Tensor:
            # Variables are captured, by the model too: were they arguments here, TensorFlow would
            # not know that both are the same, and would read and write them in any order.
            return _iterate(captured, rule, rate, variables, slots, *given)

        return tf.function(own, autograph=False).get_concrete_function(*specs)

    def trace() -> Callable:
        run = functools.partial(_iterate_any, model, rule, rate)
        traced = tf.function(run, autograph=False)
        return traced.get_concrete_function(variables, slots, *specs)

    shared = traces.once(("training", architecture, rule, rate, specs), trace)
    return functools.partial(shared, variables, slots)


def _iterate_any(
    model: keras.Model,
    rule: UpdateRule,
    rate: float,
    variables: Sequence[tf.Variable],
    slots: Sequence[Slots],
    *given: tf.Tensor,
) -> tf.Tensor:
    """Trains the variables it is given, with the layers of `model`."""

    def stateless(images: tf.Tensor, tape: tf.GradientTape) -> tuple[tf.Tensor, list, Sequence]:
        values = [tf.convert_to_tensor(variable) for variable in variables]
        tape.watch(values)
        logits, _, losses = model.stateless_call(
            values, [], images, training=True, return_losses=True
        )
        return logits, losses, values

    return _iterate(stateless, rule, rate, variables, slots, *given)


def _iterate(
    forward: _Forward,
    rule: UpdateRule,
    rate: float,
    variables: Sequence[tf.Variable],
    slots: Sequence[Slots],
    batches: tf.Tensor,
    labels: tf.Tensor,
    images: tf.Tensor,
) -> tf.Tensor:
    def iteration(i: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = batches[i]
        with tf.GradientTape() as tape:
            logits, penalties, sources = forward(tf.gather(images, chosen), tape)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                tf.gather(labels, chosen), logits
            )
            loss = tf.add_n([tf.reduce_mean(losses), *penalties])
        gradients = tape.gradient(loss, sources, unconnected_gradients="zero")
        for variable, named, gradient in zip(variables, slots, gradients, strict=True):
            rule.update(variable, named, gradient, rate)
        return i + 1, loss

    start = tf.constant(0), tf.zeros(())
    return tf.while_loop(lambda i, _: i < tf.shape(batches)[0], iteration, start)[1]
