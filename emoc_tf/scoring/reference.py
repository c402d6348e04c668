"""The literal EMOC: slow, in float64, one example and one output row at a time.

This is the oracle that every fast path is tested against. Axis letters: N reference images,
n candidate images, M sets, K images a set, C outputs, P trainable parameters.

Example:
    >>> import keras
    >>> import numpy as np
    >>> from emoc_tf.scoring import EMOCScorer, reference
    >>> layers = [keras.layers.Dense(8), keras.layers.Dense(3)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> images = np.random.default_rng(0).normal(size=(6, 4))
    >>> literal = reference.scores(model, images, images)
    >>> np.allclose(literal, EMOCScorer(model).scores(images, images), rtol=1e-4)
    True
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.data import views
from emoc_tf.models.checks import check_model, check_outputs
from emoc_tf.models.forward import batch_of, check_repeatable
from emoc_tf.models.rebuilding import in_precision
from emoc_tf.models.structure import take_weights
from emoc_tf.scoring.checks import (
    check_label_mode,
    check_labels,
    check_output,
    check_regularizer,
    check_set_weights,
    check_sets,
)
from emoc_tf.scoring.images import Images, check_images
from emoc_tf.scoring.labels import most_likely_set_labels, sum_over_sets


def rebuild(model: keras.Model, dtype: str = "float64") -> keras.Model:
    """Returns a copy of the model that computes in `dtype`, with the weights copied."""
    check_model(model)
    copy = in_precision(model, dtype)
    take_weights(copy, model)
    return copy


def outputs(model: keras.Model, images: np.ndarray, output: str = "logits") -> np.ndarray:
    """Returns f(x;θ) for images (n, ...): (n, C) logits, or their softmax."""
    check_output(output)
    parts = []
    for batch in views.batches(images, batch_of(images.shape)):
        logits = model(tf.cast(batch, model.inputs[0].dtype), training=False)
        parts.append((logits if output == "logits" else tf.nn.softmax(logits)).numpy())
    return np.concatenate(parts)


def _variables(model: keras.Model) -> list[tf.Variable]:
    return [variable.value for variable in model.trainable_variables]


def _flat(gradients: list[tf.Tensor]) -> tf.Tensor:
    # Keras keeps adapters in float32, whatever the layer computes in.
    widest = max((gradient.dtype for gradient in gradients), key=lambda dtype: dtype.size)
    return tf.concat([tf.cast(tf.reshape(each, [-1]), widest) for each in gradients], 0)


# Both are compiled once per model and called once per row or example: eager calls would compile
# grouped convolutions, which Keras runs through XLA on CPU, anew each time.


def _row_function(model: keras.Model, output: str) -> Callable[..., tf.Tensor]:
    """Returns a function of (image, column) that gives ∂f_column/∂θ, (P,)."""
    check_output(output)

    @tf.function(autograph=False)
    def row(image: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(image[None], training=False)[0]
            value = (logits if output == "logits" else tf.nn.softmax(logits))[column]
        return _flat(tape.gradient(value, _variables(model), unconnected_gradients="zero"))

    return row


def _loss_gradient_function(model: keras.Model, regularizer: bool) -> Callable[..., tf.Tensor]:
    """Returns a function of (image, label) that gives ∇θ(CE + ω), (P,)."""

    @tf.function(autograph=False)
    def loss_gradient(image: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            logits = model(image[None], training=False)[0]
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(label, logits)
            if regularizer and model.losses:
                loss += tf.add_n([tf.cast(penalty, loss.dtype) for penalty in model.losses])
        return _flat(tape.gradient(loss, _variables(model), unconnected_gradients="zero"))

    return loss_gradient


def _image(model: keras.Model, image: np.ndarray) -> tf.Tensor:
    return tf.cast(image, model.inputs[0].dtype)


def jacobian(model: keras.Model, image: np.ndarray, output: str = "logits") -> np.ndarray:
    """Returns J(x) = ∂f(x;θ)/∂θ, (C, P), by one gradient per output row.

    Args:
        model: The model, computing in the precision wanted (see `rebuild`).
        image: One image, without a batch axis.
        output: `"logits"` or `"softmax"`, what f is.
    """
    return _jacobian(model, _row_function(model, output), image)


def _jacobian(model: keras.Model, row: Callable[..., tf.Tensor], image: np.ndarray) -> np.ndarray:
    columns = range(model.output_shape[-1])
    return np.stack([row(_image(model, image), tf.constant(c)).numpy() for c in columns])


def gradient(
    model: keras.Model, image: np.ndarray, label: int, regularizer: bool = True
) -> np.ndarray:
    """Returns g(x',y') = ∇θ(CE(x',y') + ω(θ)), (P,), with ω = sum(model.losses).

    Args:
        model: The model.
        image: One image, without a batch axis.
        label: Column of the output, in [0, C).
        regularizer: Whether ω takes part.
    """
    function = _loss_gradient_function(model, regularizer)
    return function(_image(model, image), tf.constant(label)).numpy()


def _pair_scores(
    model: keras.Model,
    reference: Images,
    images: Images,
    pairs: list[tuple[int, int]],
    output: str,
    regularizer: bool,
    sums: np.ndarray | None = None,
) -> np.ndarray:
    """Eq. 4 for pairs of an image's index and a label: the mean over x of ‖J(x) g(x',y')‖₁.

    With `sums`, (pairs, M), for M sums of their gradients.
    """
    function = _loss_gradient_function(model, regularizer)
    gradients = np.stack(
        [
            function(_image(model, images[np.array([index])][0]), tf.constant(label)).numpy()
            for index, label in pairs
        ],
        axis=1,
    )  # [P, pairs]
    gradients = gradients if sums is None else gradients @ sums
    row = _row_function(model, output)
    total = np.zeros(gradients.shape[1])
    for batch in views.batches(reference, batch_of(reference.shape)):
        for image in batch:
            total += np.abs(_jacobian(model, row, image) @ gradients).sum(axis=0)
    return total / len(reference)


def _check(
    model: keras.Model,
    reference: np.ndarray,
    images: np.ndarray,
    output: str,
    regularizer: bool,
    name: str = "candidates",
) -> tuple[Images, Images]:
    check_model(model)
    check_outputs(model)
    check_output(output)
    check_regularizer(regularizer)
    check_repeatable(model)
    return check_images(reference, "reference", model), check_images(images, name, model)


def scores(
    model: keras.Model,
    reference: np.ndarray,
    candidates: np.ndarray,
    labels: np.ndarray | None = None,
    output: str = "logits",
    regularizer: bool = True,
) -> np.ndarray:
    """Eq. 4: s(x',y') = (1/N) Σ_x ‖J(x) g(x',y')‖₁, in float64.

    Args:
        model: Any functional or Sequential model ending in logits, of at least two classes.
        reference: (N, ...) images x.
        candidates: (n, ...) images x'.
        labels: (n,) columns y'; None means each candidate's most likely one.
        output: `"logits"` or `"softmax"`, what f is; the loss is the same.
        regularizer: Whether ∇ω is part of g.

    Returns:
        (n,) scores, at least 0.
    """
    reference, candidates = _check(model, reference, candidates, output, regularizer)
    model = rebuild(model)
    logits = outputs(model, candidates)
    labels = logits.argmax(1) if labels is None else check_labels(labels, *logits.shape)
    pairs = list(enumerate(labels))
    return _pair_scores(model, reference, candidates, pairs, output, regularizer)


def expected_scores(
    model: keras.Model,
    reference: np.ndarray,
    candidates: np.ndarray,
    output: str = "logits",
    regularizer: bool = True,
) -> np.ndarray:
    """Eq. 2: Σ_y p(y|x') s(x',y), (n,); arguments as in `scores`."""
    reference, candidates = _check(model, reference, candidates, output, regularizer)
    model = rebuild(model)
    posterior = outputs(model, candidates, "softmax")
    pairs = list(np.ndindex(posterior.shape))
    per_pair = _pair_scores(model, reference, candidates, pairs, output, regularizer)
    return (posterior * per_pair.reshape(posterior.shape)).sum(axis=1)


def set_scores(
    model: keras.Model,
    reference: np.ndarray,
    images: np.ndarray,
    sets: np.ndarray,
    labels: str | np.ndarray = "set",
    output: str = "logits",
    regularizer: bool = True,
    set_weights: np.ndarray | None = None,
) -> np.ndarray:
    """Eq. 5: Δf(X') = Σ_{x'∈X'} s(x', ŷ), (M,); times the weights of the sets, if given.

    Args:
        model: As in `scores`.
        reference: (N, ...) images x.
        images: (n, ...) images that `sets` points into.
        sets: (M, K) indices, −1 as padding.
        labels: ŷ: `"set"`, one label for all of X', argmax_c Σ_{x'∈X'} log p(c|x'); `"image"`,
            each image's own most likely label; `"expected"`, Eq. 2 instead of Eq. 4; or (M,)
            columns. `"joint"`: the labels of `"set"`, and (1/N) Σ_x ‖J(x) Σ_{x'∈X'} g(x', ŷ)‖₁.
        output: As in `scores`.
        regularizer: As in `scores`.
        set_weights: (M,) finite numbers of at least 0, one a set; None for 1.
    """
    reference, images = _check(model, reference, images, output, regularizer, "images")
    sets = check_sets(sets, len(images))
    check_label_mode(labels, len(sets))
    set_weights = check_set_weights(set_weights, len(sets))
    if isinstance(labels, str) and labels == "expected":
        per_image = expected_scores(model, reference, images, output, regularizer)
        return set_weights * sum_over_sets(per_image, sets)
    if isinstance(labels, str) and labels == "image":
        per_image = scores(model, reference, images, None, output, regularizer)
        return set_weights * sum_over_sets(per_image, sets)
    if isinstance(labels, str):
        logits = outputs(rebuild(model), images)
        set_labels = most_likely_set_labels(logits, sets)
    else:
        set_labels = check_labels(labels, len(sets), model.output_shape[-1])
    if not (sets >= 0).any():
        return np.zeros(len(sets))
    pairs = [
        (index, label)
        for row, label in zip(sets, set_labels, strict=True)
        for index in row[row >= 0]
    ]
    set_of = np.nonzero(sets >= 0)[0]
    if isinstance(labels, str) and labels == "joint":
        in_set = set_of[:, None] == np.arange(len(sets))
        args = rebuild(model), reference, images, pairs, output, regularizer
        return set_weights * _pair_scores(*args, in_set.astype(float))
    per_pair = _pair_scores(rebuild(model), reference, images, pairs, output, regularizer)
    return set_weights * np.bincount(set_of, weights=per_pair, minlength=len(sets))
