"""What is kept of the gradients of images, of (image, label) pairs and of sets of pairs."""

from typing import NamedTuple

import tensorflow as tf

from emoc_tf.scoring.gradients.stages import Factors


class Gradients(NamedTuple):
    """Gradients of B examples, R rows each (one a seed of the backward pass), in parts.

    Attributes:
        explicit: (B, R, P_explicit), of all layers with that contraction side by side.
        factors: Per other layer, its factors.
    """

    explicit: tf.Tensor
    factors: list[Factors]


class Pairs(NamedTuple):
    """What is kept of n pairs (x', y'): their gradients, in the form that each layer multiplies.

    Attributes:
        explicit: (n, P_explicit).
        factored: Per other layer, what `contractions.prepare` returned.
    """

    explicit: tf.Tensor
    factored: list[tuple[tf.Tensor, ...]]


class Sums(NamedTuple):
    """What is kept of m sets of pairs: their gradients, each set's added up; see `sums`.

    Attributes:
        explicit: (m, P_explicit).
        factored: As of `Pairs`, with an axis for the K members of a set behind the first where a
            sum has no smaller form, as of `"gram"`.
        counts: (m,), how many gradients were added.
    """

    explicit: tf.Tensor
    factored: list[tuple[tf.Tensor, ...]]
    counts: tf.Tensor


def flat(tensor: tf.Tensor) -> tf.Tensor:
    """Returns all vectors of the last axis one below the other."""
    last = tensor.shape[-1]
    return tf.reshape(tensor, [-1, tf.shape(tensor)[-1] if last is None else last])
