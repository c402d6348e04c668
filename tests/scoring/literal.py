"""Gradients of the literal reference of several images, by functions that are made once a model."""

import numpy as np
import tensorflow as tf

from emoc_tf.scoring import reference


def jacobians(model, images, output="logits"):
    """Returns J(x) of each image, (n, C, P), see `reference.jacobian`."""
    row = reference._row_function(model, output)
    return np.stack([reference._jacobian(model, row, image) for image in images])


def gradient_function(model, regularizer=True):
    """Returns a function of an image and a label, see `reference.gradient`."""
    function, dtype = reference._loss_gradient_function(model, regularizer), model.inputs[0].dtype
    return lambda image, label: function(tf.cast(image, dtype), tf.constant(label)).numpy()
