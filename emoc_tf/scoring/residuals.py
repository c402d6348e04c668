"""Gradients of the cross-entropy with respect to the logits, with all their digits."""

import tensorflow as tf


def residual(posterior: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Returns p − e_y, (B, C), keeping all digits where p_y is close to 1.

    There p_y − 1 is a difference of nearly equal numbers; −Σ_{j≠y} p_j is not.
    """
    is_label = tf.one_hot(labels, posterior.shape[1], dtype=tf.bool, on_value=True, off_value=False)
    others = tf.where(is_label, tf.zeros_like(posterior), posterior)
    return tf.where(is_label, -tf.reduce_sum(others, axis=1, keepdims=True), others)


def unseen_residual(logits: tf.Tensor) -> tf.Tensor:
    """Returns q, (B, C), the old part of q − e_{C+1} for a class that has no output yet.

    Its output is taken to be 0, as that of a new unit is, and q is the softmax of all outputs.
    """
    new = tf.zeros_like(logits[:, :1])
    return tf.nn.softmax(tf.concat([logits, new], axis=1))[:, :-1]
