"""Models on their way to actors: what Keras saves of one, and what it leaves out.

Keras tells a model by the configurations of its layers. It leaves out which single variables are
trained and penalised, and it finds layers and functions of the user's only where somebody has
registered them. Both travel along. What else a configuration does not tell, such as an attribute
that was set by hand, is noticed by what a model computes here and there.
"""

import contextlib
import math
import pickle
import types
import warnings
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.cluster.connection import ray
from emoc_tf.models.draws import is_float
from emoc_tf.models.forward import random_images
from emoc_tf.models.graphs import calls_in, functional
from emoc_tf.models.layer_state import is_kerass_module, states_in
from emoc_tf.scoring.precision import tensor_float_32
from emoc_tf.scoring.scored_part import SAME

_LONGEST = 300  # of what an error tells, in characters


class Packed(NamedTuple):
    """A model, as bytes.

    Attributes:
        own: Pickles of classes and functions that are not Keras' own, by their names there.
        saved: A pickle of the model, not compiled.
        marks: A pickle of a list of whether each of its weights is trained, and its penalty.
        shapes: Of its weights.
        outputs: What it gives of some images, with weights that hide nothing.
    """

    own: dict[str, bytes]
    saved: bytes
    marks: bytes
    shapes: list[tuple[int, ...]]
    outputs: np.ndarray


def sent_graph(model: keras.Model) -> keras.Model:
    """Returns the graph of a functional model, which is what is sent; it has the same variables.

    What a model was compiled with stays here, and so does a class of its own around a graph.
    """
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0])
    return keras.Model(model.input, model.output)


def pack(model: keras.Model) -> Packed:
    """Returns a model as it is sent.

    Args:
        model: What `sent_graph` returned.

    Raises:
        ValueError: It cannot be saved.
    """
    dumps = ray().cloudpickle.dumps
    try:
        marks = [(variable.trainable, variable.regularizer) for variable in model.weights]
        packed = _own(model), dumps(model), dumps(marks)
    except Exception as error:  # whatever layers of your own make of it
        raise ValueError(
            f"model: expected one that Keras can save, to send it to other processes, got "
            f"{_told(error)}"
        ) from error
    return Packed(*packed, [tuple(each.shape) for each in model.weights], _outputs(model))


def unpack(packed: Packed) -> keras.Model:
    """Returns the model that was packed in another process.

    Raises:
        ValueError: It cannot be made here, or computes something else.
    """
    try:
        own = {name: pickle.loads(each) for name, each in packed.own.items()}
        with warnings.catch_warnings(), keras.saving.custom_object_scope(own):
            warnings.simplefilter("ignore")  # about weights, which are given to it later
            model = pickle.loads(packed.saved)
        marks = pickle.loads(packed.marks)
    except Exception as error:
        raise ValueError(
            f"model: expected one that Keras can save and load in another process, with layers of "
            f"your own in a module that it finds there, got {_told(error)}"
        ) from error
    if [tuple(each.shape) for each in model.weights] != packed.shapes:
        raise _told_in_part("other weights")
    for variable, (trainable, penalty) in zip(model.weights, marks, strict=True):
        variable.trainable, variable.regularizer = trainable, penalty
    if not _same(packed.outputs, _outputs(model)):
        raise _told_in_part("other outputs")
    return model


def _same(there: np.ndarray, here: np.ndarray) -> bool:
    finite = np.isfinite(there)
    if not np.array_equal(finite, np.isfinite(here)):
        return False
    scale = np.abs(there[finite]).max(initial=0)
    return bool((np.abs(here - there)[finite] <= SAME * scale).all())


def _own(model: keras.Model) -> dict[str, bytes]:
    """Returns what a model needs that is not Keras' own, by the name that Keras gives it."""
    found: list[Any] = [type(call.operation) for call in calls_in(model)]
    found += [type(layer) for layer in model._flatten_layers()]
    for leaves in states_in(model).values():
        for leaf in leaves:
            found += [type(leaf)] if hasattr(leaf, "get_config") else []
            found += [leaf] if isinstance(leaf, types.FunctionType) else []
    pickled = {}
    for each in found:
        if not is_kerass_module(each.__module__ or "builtins"):
            # Keras says what it misses, if it is this.
            with contextlib.suppress(Exception):
                name = keras.saving.get_registered_name(each)
                pickled[name] = ray().cloudpickle.dumps(each)
    return pickled


def _outputs(model: keras.Model) -> np.ndarray:
    """Returns what a model gives of two images, at weights that are drawn by their shapes alone.

    Its own are others there, where layers merge some of them as they are saved.
    """
    given, rng = model.inputs[0], np.random.default_rng(0)
    images, values = tf.cast(random_images(given), given.dtype), []
    for variable in {id(each): each for each in model.weights}.values():
        if is_float(variable):
            drawn = rng.normal(size=variable.shape)
            usual = 1 / math.sqrt(max(1, math.prod(variable.shape[:-1])))
            drawn = usual * drawn if drawn.ndim > 1 else 0.5 + 0.1 * drawn  # or variances
            values.append((variable, tf.constant(drawn, variable.dtype)))
    # A GPU's products of TensorFloat-32 would differ from a processor's by more than is the same.
    with tensor_float_32(False), keras.StatelessScope(values):
        return np.asarray(functional(model)(images, training=False), np.float64)


def _told(error: Exception) -> str:
    """Returns the reason of an error: Keras puts it last, behind all the model's configuration."""
    _, _, reason = str(error).rpartition("Exception encountered: ")
    words = reason.partition(" Full object config")[0].split()
    return f"{type(error).__name__}: {' '.join(words)[:_LONGEST]}"


def _told_in_part(what: str) -> ValueError:
    return ValueError(
        f"model: expected layers that get_config and their weights tell whole, to send them to "
        f"other processes, got {what} from the model that was made there; let get_config return "
        f"every argument that a layer of your own is made with, and set nothing of it by hand"
    )
