"""Compiled forward passes, and images in batches through them."""

import functools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.data import views
from emoc_tf.models import traces
from emoc_tf.models.graphs import functional, last_operation, plain_head
from emoc_tf.models.known_bodies import known_body
from emoc_tf.models.structure import feature_extractor

FORWARD_BATCH = 256  # images that go through a network at once
# Numbers of all of them: 256 images of 100 × 100 pixels. What layers hold of larger images grows
# with them: EfficientNet-Lite0 took 3.1 GiB for 256 images of 224 pixels.
MOST_NUMBERS = 1 << 23
ANY_SIZE = 32  # of axes that a model leaves open; most networks for images take so few pixels


def compile_forward(model: keras.Model) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a compiled function of images (n, ...), n > 0, in inference mode."""
    model = functional(model)
    if plain_head(model):
        run = compile_features(model)
        return lambda images: run(images)[1]
    architecture = traces.architecture(model)
    return _compile(model, architecture, "logits", lambda: lambda x: model(x, training=False))


def compile_features(model: keras.Model) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """Returns a compiled function of images (n, ...), n > 0, in inference mode.

    It returns the features, which are the (n, d) inputs of the head, and the (n, C) logits. The
    body is traced once for all models that have it, as long as one of their functions is held.
    """
    model = functional(model)
    if not plain_head(model):
        architecture = traces.architecture(model)
        return _compile(model, architecture, "features and logits", lambda: _both(model))
    body, known = feature_extractor(model), known_body(model)
    run = known.once("features", lambda: _compile_body(model, body))
    head, features = last_operation(model), body.outputs[0]
    logits = tf.function(lambda given: head(given), autograph=False)
    logits = logits.get_concrete_function(tf.TensorSpec(features.shape, features.dtype))

    def both(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        _ = known
        found = run(images)
        return found, logits(found)

    return both


def _compile_body(model: keras.Model, body: keras.Model) -> Callable:
    architecture = traces.architecture(model, head=False)
    return _compile(body, architecture, "features", lambda: lambda x: body(x, training=False))


def _compile(
    model: keras.Model, architecture: str | None, what: str, make: Callable[[], Callable]
) -> Callable:
    """Returns what `make` gives, compiled; models of one architecture share it."""
    image = model.inputs[0]
    images = tf.TensorSpec(image.shape, image.dtype)
    if architecture is None:
        return tf.function(make(), autograph=False).get_concrete_function(images)
    variables = [variable.value for variable in model.trainable_variables]

    def trace() -> Callable:
        forward = make()

        def of_any(variables: list[tf.Variable], images: tf.Tensor) -> Any:
            values = [tf.convert_to_tensor(variable) for variable in variables]
            with keras.StatelessScope(zip(model.trainable_variables, values, strict=True)):
                return forward(images)

        return tf.function(of_any, autograph=False).get_concrete_function(variables, images)

    return functools.partial(traces.once((what, architecture, images), trace), variables)


def _both(model: keras.Model) -> Callable:
    body, head = feature_extractor(model), last_operation(model)

    def forward(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        features = body(images, training=False)
        return features, head(features)

    return forward


def batch_of(shape: Sequence[int]) -> int:
    """Returns how many images (n, ...) of a shape go through a network at once.

    256 of small ones, fewer the larger they are, by halving, so that memory does not grow with
    them. It depends on the images' size alone: another one gives other bits.
    """
    size = max(1, math.prod(map(int, shape[1:])))  # NumPy's integers have no `bit_length`
    if size * FORWARD_BATCH <= MOST_NUMBERS:
        return FORWARD_BATCH
    return 1 << max(0, (MOST_NUMBERS // size).bit_length() - 1)


def in_batches(function: Callable[[tf.Tensor], Any], images: Any, dtype: str = "float32") -> Any:
    """Returns the output or outputs of `function` for all images, `batch_of` them at a time.

    Args:
        function: Of (B, ...) images.
        images: (n, ...), an array or an array-like, see `data.views`, which is read in batches.
        dtype: That `function` takes.
    """
    batches = views.batches(images, batch_of(images.shape))
    outputs = [function(tf.constant(batch, dtype)) for batch in batches]
    return tf.nest.map_structure(lambda *parts: np.concatenate(parts), *outputs)


def check_repeatable(model: keras.Model, images: np.ndarray | None = None) -> None:
    """Checks that a model is a function of its images in inference mode.

    Args:
        model: One that `check_model` accepts.
        images: (n, ...), n > 0, as it takes them; None for two of random numbers.

    Raises:
        ValueError: It refuses so many images, or returns other outputs when called again.
        MemoryError, tf.errors.ResourceExhaustedError: There is too little memory.
    """
    if images is None:
        images = random_images(model.inputs[0])
    model = functional(model)
    plain = plain_head(model) is not None  # which is the same at each call
    architecture = traces.architecture(model, head=not plain)
    what = "repeatable", images.shape
    if architecture is not None:
        traces.once((*what, architecture), lambda: _call_again(model, images, True))
    elif plain:
        known_body(model).once(what, lambda: _call_again(model, images, False))
    else:
        _call_again(model, images, False)


def _call_again(model: keras.Model, images: np.ndarray, all_is_told: bool) -> None:
    """Raises as `check_repeatable`.

    Args:
        model: A functional model.
        images: See there.
        all_is_told: Whether it consists of Keras' layers, which draw nothing while they are traced.
    """
    outputs = []
    try:
        compiled = [compile_forward(model)]
        if not all_is_told:  # what Python draws is drawn once a trace
            compiled.append(_compile(model, None, "", lambda: lambda x: model(x, training=False)))
        for forward in compiled:
            outputs += [in_batches(forward, images, model.inputs[0].dtype) for _ in range(4)]
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise  # tells nothing about the model
    except Exception as error:
        raise ValueError(
            f"model: expected one that takes any number of images with training=False, got an "
            f"error for {len(images)} of them{_told_of_sizes(model)}: {reason(error)}"
        ) from error
    if None in model.inputs[0].shape[1:]:
        _check_open_sizes(model, images, outputs[0])
    first = outputs[0]
    scale = np.abs(first[np.isfinite(first)]).max(initial=0)
    if not all(
        np.allclose(first, other, rtol=0, atol=1e-5 * scale, equal_nan=True) for other in outputs
    ):
        raise ValueError(
            "model: expected the same outputs at each call with training=False, got others at a "
            "second one; random layers of your own have to obey `training`, as Keras' do"
        )


def _check_open_sizes(model: keras.Model, images: np.ndarray, found: np.ndarray) -> None:
    """Raises a ValueError if a model computes something else where sizes are told with each call.

    Keras' `TimeDistributed` does: as many times as there are images, the others are left out. So
    does a window that is larger than what is left of an image.
    """
    told = np.asarray(model(tf.constant(images, model.inputs[0].dtype), training=False))
    scale = np.abs(told[np.isfinite(told)]).max(initial=0)
    if not np.allclose(found, told, rtol=0, atol=1e-3 * scale, equal_nan=True):
        timed = any(isinstance(e, keras.layers.TimeDistributed) for e in model._flatten_layers())
        why = ", since Keras' TimeDistributed leaves times out" if timed else ""
        raise ValueError(
            f"model: expected the same outputs whether the sizes of images are told beforehand or "
            f"not, got others{_told_of_sizes(model)}{why}"
        )


def _told_of_sizes(model: keras.Model) -> str:
    """Returns what helps where sizes are open and something fails; else nothing."""
    sizes = tuple(model.inputs[0].shape[1:])
    if None not in sizes:
        return ""
    tried = tuple(ANY_SIZE if size is None else size for size in sizes)
    return f" of shape {tried} (in place of keras.Input({sizes}) give all sizes)"


def random_images(image: keras.KerasTensor) -> np.ndarray:
    """Returns two images that any model may take: numbers in [0, 1), integers 0 and 1."""
    shape = [2, *(ANY_SIZE if size is None else size for size in image.shape[1:])]
    numbers = np.random.default_rng(0).random(shape)
    return numbers if "float" in image.dtype else np.round(numbers)


def reason(error: Exception) -> str:
    """Returns the line of an error's message that tells why, without frames and colours."""
    text = re.sub("\x1b\\[[0-9;]*m", "", str(error))
    _, keras_says, after = text.rpartition("Exception encountered when calling")
    if keras_says:
        told = [line.strip() for line in after.splitlines()[1:] if line.strip()][:1]
    else:  # frames are indented
        told = [line for line in text.splitlines() if line and line.strip() == line][-1:]
    return told[0] if told else type(error).__name__
