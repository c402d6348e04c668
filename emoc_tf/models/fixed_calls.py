"""Which calls compute the same of equal inputs, at any time."""

from typing import Any

import keras
import tensorflow as tf

from emoc_tf.models.graphs import is_graph, outer_calls


def inner(layer: keras.Layer) -> list[keras.Layer]:
    """Returns a layer and all that are in it."""
    return list(layer._flatten_layers())


def is_fixed(operation: keras.Operation, args: Any, kwargs: Any) -> bool:
    """Whether a call that trains nothing computes the same of equal inputs at any time."""
    if any(map(_is_variable, keras.tree.flatten((args, kwargs)))):
        return False
    if not isinstance(operation, keras.Layer):
        return True
    told = operation._call_signature.parameters.get("training")
    # Where False is what a call does without being told, it is written down all the same.
    inference = kwargs.get("training") is False and told is not None and told.default is not False
    return all(_is_layer_fixed(layer, inference) for layer in inner(operation))


def makes_mask(operation: keras.Operation) -> bool:
    """Whether masks go beside tensors within a model, which its own outputs do not tell."""
    return is_graph(operation) and any(
        any(map(has_mask, each.outputs)) or makes_mask(each.operation)
        for each in outer_calls(operation)
    )


def has_mask(tensor: keras.KerasTensor) -> bool:
    """Whether a mask goes beside a tensor: behind a cut it would be lost."""
    return getattr(tensor, "_keras_mask", None) is not None


def _is_variable(given: Any) -> bool:
    return isinstance(given, keras.Variable | tf.Variable)


def _is_layer_fixed(layer: keras.Layer, inference: bool) -> bool:
    """Whether a layer without trainable weights computes the same at any time.

    Args:
        layer: Those inside it are asked themselves.
        inference: Whether its call says that it is in inference mode.
    """
    kinds = keras.layers
    if isinstance(layer, kinds.Masking) or getattr(layer, "mask_zero", False):
        return False  # the mask goes beside the tensor, and would be lost
    if getattr(layer, "stateful", False):
        return False
    if is_graph(layer):
        nodes = [node for nodes in getattr(layer, "_nodes_by_depth", {}).values() for node in nodes]
        given = [(node.arguments.args, node.arguments.kwargs) for node in nodes]
        return not any(map(_is_variable, keras.tree.flatten(given)))
    if inference:
        return True
    if layer._seed_generators:
        return False
    if isinstance(layer, kinds.BatchNormalization):
        return not layer.trainable
    if isinstance(layer, kinds.Lambda):
        return not layer._fn_expects_training_arg
    if not type(layer).__module__.startswith("keras."):
        # What it does in training, and with a state of its own, cannot be told.
        return not layer._call_has_training_arg and not layer._non_trainable_variables
    return not isinstance(layer, kinds.SpectralNormalization | kinds.TFSMLayer)
