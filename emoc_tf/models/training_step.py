"""Iterations of training, compiled: loss, gradients and the optimizer's update."""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from emoc_tf.models import graphs, traces
from emoc_tf.models.known_bodies import known_body
from emoc_tf.models.optimizers import Slots, UpdateRule
from emoc_tf.models.structure import feature_extractor

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

    A body is traced once for all models that have it, whatever outputs they end in, as long as one
    of their functions is held.

    Args:
        model: Ending in logits.
        slots: Of each trainable variable.
        rule: How variables and slots are changed.
        rate: The learning rate η.
        batch_size: B.
        images: (n, ...), as the model takes them; n may be None.
    """
    indices, labels = tf.TensorSpec([None, batch_size], tf.int32), tf.TensorSpec([None], tf.int32)
    specs = (indices, labels, images)
    head = None if graphs.has_own_call(model) else graphs.plain_head(graphs.functional(model))
    how = _How(model, head, rule, rate, slots, specs)
    architecture = traces.architecture(model, head=head is None)
    if architecture is not None:
        given = model.trainable_variables
        traced = traces.once(
            ("training", architecture, head is None, rule, rate, specs), lambda: how.trace(given)
        )
        return functools.partial(traced, _values(given), slots)
    if head is not None:
        given, known = head.variables, known_body(graphs.functional(model))
        what = ("training", rule, rate, specs, _penalties(model))
        traced = known.once(what, lambda: _unless_read(how.trace(given), given))
        if traced is not None:
            return functools.partial(_held, known, traced, _values(given), slots)
    return functools.partial(how.trace([]), [], slots)


def _held(held: Any, traced: Callable, *given: Any) -> tf.Tensor:
    return traced(*given)


def _values(variables: Sequence[keras.Variable]) -> list[tf.Variable]:
    return [variable.value for variable in variables]


def _unless_read(traced: Any, given: Sequence[keras.Variable]) -> Callable | None:
    """Returns a function, unless it also captures what it is given: others' functions may read it.

    TensorFlow would not know that both are the same, and would read and write in any order.
    """
    handles = {id(variable.value.handle) for variable in given}
    return None if any(id(outer) in handles for outer, _ in traced.graph.captures) else traced


def _penalties(model: keras.Model) -> tuple:
    """Returns what tells which terms ω has of the weights, equal for a head that is made anew."""
    found = [variable.regularizer for variable in model.trainable_variables]
    keras_own = (type(each).__module__.startswith("keras.") for each in found)
    return tuple(
        (type(each) if own else each, str(getattr(each, "__dict__", "")))
        for each, own in zip(found, keras_own, strict=True)
    )


class _How(NamedTuple):
    """What iterations are traced of.

    Attributes:
        model: Ending in logits.
        head: Its last layer, if the number of its units is to be left open; None otherwise.
        rule: See `compile_iterations`, as for the following.
        rate: See there.
        slots: See there.
        specs: Of mini-batches, labels and images.
    """

    model: keras.Model
    head: keras.layers.Dense | None
    rule: UpdateRule
    rate: float
    slots: Sequence[Slots]
    specs: tuple[tf.TensorSpec, ...]

    def trace(self, given: Sequence[keras.Variable]) -> Any:
        """Returns the iterations compiled: a function of variables, slots and what `specs` are of.

        Args:
            given: Variables that are arguments; others are captured. None may be both: TensorFlow
                would not know that they are the same, and would read and write them in any order.
        """
        own = set() if self.head is None else {id(each) for each in self.head.variables}
        trained = self.model.trainable_variables
        some = [_any(each.value) if id(each) in own else each.value for each in given]
        slots = [
            {name: _any(slot) if id(each) in own else slot for name, slot in named.items()}
            for each, named in zip(trained, self.slots, strict=True)
        ]
        parts = [self.model]
        if self.head is not None:
            parts = [feature_extractor(self.model), self.head]

        def iterations(
            variables: list[tf.Variable], slots: Sequence[Slots], *batches: tf.Tensor
        ) -> tf.Tensor:
            by_id = {id(each): now for each, now in zip(given, variables, strict=True)}
            changed = [by_id.get(id(each), each.value) for each in trained]
            forward = functools.partial(_forward, parts, trained, by_id)
            return _iterate(forward, self.rule, self.rate, changed, slots, *batches)

        traced = tf.function(iterations, autograph=False)
        return traced.get_concrete_function(some, slots, *self.specs)


def _any(variable: tf.Variable) -> tf.Variable:
    """Returns a variable like one whose last axis may be of any size, to be traced with."""
    shape = [*variable.shape[:-1], None]
    return tf.Variable(tf.zeros_like(variable), shape=shape, trainable=variable.trainable)


def _forward(
    parts: Sequence[keras.Layer],
    trained: Sequence[keras.Variable],
    given: Mapping[int, tf.Variable],
    images: tf.Tensor,
    tape: tf.GradientTape,
) -> tuple[tf.Tensor, list, Sequence]:
    """Runs images through parts of a model, one after the other; see `_Forward`.

    Args:
        parts: Up to the logits.
        trained: The variables that gradients are taken for.
        given: Variables that stand for some of the parts', by the id of these.
        images: (B, ...).
        tape: Watches.
    """
    values = {key: tf.convert_to_tensor(variable) for key, variable in given.items()}
    sources = [values.get(id(each), each.value) for each in trained]
    tape.watch(
        [source for each, source in zip(trained, sources, strict=True) if id(each) in values]
    )
    outputs, losses = images, []
    for part in parts:
        own = [variable for variable in part.variables if id(variable) in values]
        with contextlib.ExitStack() as stack:
            if own:
                scope = stack.enter_context(keras.StatelessScope(collect_losses=True))
                for variable in own:  # whose sizes may be open
                    scope.add_update((variable, values[id(variable)]))
            outputs = part(outputs, training=True)
            losses += part.losses
    return outputs, losses, sources


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
