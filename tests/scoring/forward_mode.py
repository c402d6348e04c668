"""A second oracle: the definition by forward-mode differentiation of a model as it was handed in.

It calls the model itself, in its own precision, and nothing of the library's: no copy of the graph,
no stages, no gradients by example. `scoring.reference` rebuilds the model and differentiates
backwards.
"""

import numpy as np
import tensorflow as tf


def scores(model, reference, candidates, labels=None, output="logits", regularizer=True):
    """Returns (1/N) Σ_x ‖J(x) g(x',y')‖₁ of each candidate, (n,) float64.

    J(x) g is one forward-mode pass along g, the gradient of the candidate's cross-entropy + ω.

    Args:
        model: Images to logits, called with `training=False`; anything with `trainable_variables`.
        reference: (N, ...) images x.
        candidates: (n, ...) images x'.
        labels: (n,) columns y'; None for each candidate's most likely one.
        output: `"logits"` or `"softmax"`, what f is.
        regularizer: Whether ω, the sum of `model.losses`, takes part.
    """
    variables = [variable.value for variable in model.trainable_variables]
    reference, candidates = (_as_taken(model, images) for images in (reference, candidates))
    if labels is None:
        labels = model(tf.identity(candidates), training=False).numpy().argmax(axis=1)
    found = []
    for candidate, label in zip(candidates, labels, strict=True):
        step = _loss_gradient(model, variables, candidate, label, regularizer)
        with tf.autodiff.ForwardAccumulator(variables, step) as accumulator:
            # New ones each time: a layer that returns what it gets leaves its mask on them.
            logits = model(tf.identity(reference), training=False)
            outputs = logits if output == "logits" else tf.nn.softmax(logits)
        change = accumulator.jvp(outputs, unconnected_gradients="zero").numpy().astype(float)
        found.append(np.abs(change).sum(axis=1).mean())
    return np.array(found)


def _as_taken(model, images):
    return tf.cast(images, model.inputs[0].dtype if getattr(model, "inputs", None) else tf.float32)


def _loss_gradient(model, variables, candidate, label, regularizer):
    with tf.GradientTape() as tape:
        logits = model(candidate[None], training=False)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([label], logits)[0]
        if regularizer and model.losses:
            loss += tf.cast(tf.add_n(model.losses), loss.dtype)
    gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
    return [tf.convert_to_tensor(gradient) for gradient in gradients]
