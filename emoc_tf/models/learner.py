"""Continual fine-tuning of a model on a mix of old and novel images."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models import optimizers, reading
from emoc_tf.models.checks import check_precision
from emoc_tf.models.trained_part import TrainedPart
from emoc_tf.models.training_step import compile_iterations

# Training runs in compiled slices of this many iterations, so that signals are heard between.
SLICE_ITERATIONS = 50


class Learner:
    """Trains a model in compiled slices; the head may change between two calls of `train`.

    What the optimizer keeps for each variable lives in slots of the learner's own: Keras optimizers
    refuse new variables once built, whereas here growing the head is a copy. The loss is CE + ω,
    so that weight decay enters the gradient. Images that lie in memory are copied to the device at
    once. Others are read as they are needed, at most 32 MiB at a time (or a mini-batch, if that is
    larger), and give the same bits. What a frozen prefix of the model gives of an image is computed
    once, see `TrainedPart`; batches of another size than a mini-batch may give other last bits.

    Args:
        model: The model to train, ending in logits. ω(θ) is the sum of `model.losses`.
        images: (n_pool, H, W, channels), all that may ever be trained on, as the model takes them:
            an array, or anything with `len`, `shape`, `dtype` and indexing by integer arrays, such
            as a memory map.
        learning_rate: η.
        momentum: μ, in [0, 1), of SGD alone.
        batch_size: B, images per mini-batch.
        old_fraction: λ, the probability that an image of an update's mini-batch is an old one.
        optimizer: `"sgd"`, `"adam"` or `"adamw"`, see `optimizers`.
        weight_decay: d of AdamW, for all trainable variables; the others have ω alone.
        part: Of the model and the images, if somebody else uses it as well.

    Raises:
        ValueError: The model does not compute in float32.
    """

    def __init__(
        self,
        model: keras.Model,
        images: np.ndarray,
        *,
        learning_rate: float,
        momentum: float,
        batch_size: int,
        old_fraction: float,
        optimizer: str = "sgd",
        weight_decay: float = 0.0,
        part: TrainedPart | None = None,
    ) -> None:
        check_precision(model, ("float32",))
        self._part = TrainedPart(model, images) if part is None else part
        self._inputs = None
        self._learning_rate = learning_rate
        self._batch_size = batch_size
        self._old_fraction = old_fraction
        self._rule = optimizers.make(optimizer, momentum, weight_decay)
        self.model, self._trained = model, []
        self._slots: list[dict[str, tf.Variable]] = []
        self.replace_model(model)

    def replace_model(self, model: keras.Model) -> None:
        """Trains another model from now on, whose head has more or fewer outputs.

        The variables of `model` must be those of the old model in the same order. Where one has
        grown, its slots are kept and those of the new units start at 0; where one has shrunk, its
        slots start at 0 again, since it is not known which units are left. Equal shapes mean equal
        units. The same model again means that other layers of it are frozen now.
        """
        shapes = [self._rule.slot_shapes(tuple(v.shape)) for v in model.trainable_variables]
        old = self._slots or [{} for _ in shapes]
        if model is self.model:
            have = {id(v): slots for v, slots in zip(self._trained, self._slots, strict=True)}
            old = [have.get(id(v), {}) for v in model.trainable_variables]
        self.model, self._trained = model, list(model.trainable_variables)
        self._slots = [
            {
                name: _resized(slots.get(name), shape, variable.dtype)
                for name, shape in named.items()
            }
            for slots, named, variable in zip(old, shapes, model.trainable_variables, strict=True)
        ]
        self._part.replace_model(model)
        self._read()
        images, part = self._source.images, self._part.model
        slots = {id(v): slots for v, slots in zip(self._trained, self._slots, strict=True)}
        self._iterate = compile_iterations(
            part,
            [slots[id(variable)] for variable in part.trainable_variables],
            self._rule,
            self._learning_rate,
            self._batch_size,
            tf.TensorSpec([None, *images.shape[1:]], images.dtype),
        )

    def _read(self) -> None:
        """Takes the inputs of what is trained, unless they are those of the last time."""
        inputs = self._part.inputs
        if inputs is not self._inputs:
            self._inputs, self._source = inputs, reading.source(inputs)

    def _look(self) -> None:
        """Follows what was changed by hand: frozen weights, or which layers are frozen."""
        self._part.look()
        if list(map(id, self.model.trainable_variables)) != list(map(id, self._trained)):
            self.replace_model(self.model)
        self._read()

    def train(
        self,
        iterations: int,
        seed: np.ndarray,
        labels: np.ndarray,
        old: np.ndarray,
        novel: np.ndarray | None = None,
    ) -> None:
        """Runs iterations of the optimizer.

        Args:
            iterations: How many, at least 0.
            seed: (2,) int32; mini-batches are a function of it.
            labels: (n_pool,) columns of the model's output; read at `old` and `novel` only.
            old: Indices of the images labelled before. If there are none, the novel ones alone are
                trained on.
            novel: Indices of the set just labelled; none or None trains on `old` alone: in
                pretraining, or as a control, which draws the same old images as with the set
                wherever that draws an old one.

        Raises:
            ValueError: There are neither old nor novel images.
            FloatingPointError: The loss or a weight became NaN or infinite.
        """
        old_share = self._old_fraction
        if novel is None or not len(novel):
            old_share, novel = 1.0, old
        elif not len(old):
            old_share, old = 0.0, novel
        if not len(old):
            raise ValueError("old: expected images to train on, got none, and no novel ones")
        self._look()
        members = [tf.constant(indices, tf.int32) for indices in (old, novel)]
        with self._source.reading(labels, np.union1d(old, novel)) as parts:
            for start in range(0, iterations, SLICE_ITERATIONS):
                length = min(SLICE_ITERATIONS, iterations - start)
                slice_seed = tf.constant(seed + np.array([0, start], np.int32))
                shape = tf.constant([length, self._batch_size])
                batches = draw_mini_batches(slice_seed, shape, *members, tf.constant(old_share))
                for part in parts(batches):
                    loss = float(self._iterate(*part, self._source.images))
                    if not np.isfinite(loss):
                        raise self._diverged(f"loss {loss} after {start + length} iterations")
        # The loss of the last mini-batch was that before its own update.
        for variable in self.model.trainable_variables:
            if not np.isfinite(variable.numpy()).all():
                raise self._diverged(f"{variable.path} not finite after {iterations} iterations")

    def _diverged(self, what: str) -> FloatingPointError:
        return diverged(what, self._learning_rate)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Returns weights, states of random layers and slots of the optimizer by name."""
        return {name: variable.numpy() for name, variable in self._variables().items()}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `get_arrays` of a learner with the same network returned.

        Raises:
            ValueError: An array is missing or has another shape; nothing has changed then.
        """
        targets = self._variables()
        check_arrays(targets, arrays)
        for name, variable in targets.items():
            variable.assign(arrays[name])

    def _variables(self) -> dict[str, keras.Variable | tf.Variable]:
        variables = {f"variable_{i}": v for i, v in enumerate(self.model.variables)}
        return variables | {
            f"{name}_{i}": slot
            for i, slots in enumerate(self._slots)
            for name, slot in slots.items()
        }


@tf.function(
    input_signature=[
        tf.TensorSpec([2], tf.int32),
        tf.TensorSpec([2], tf.int32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([], tf.float32),
    ],
    autograph=False,
)
def draw_mini_batches(
    seed: tf.Tensor,
    shape: tf.Tensor,
    old: tf.Tensor,
    novel: tf.Tensor,
    old_fraction: tf.Tensor,
) -> tf.Tensor:
    """Draws mini-batches with replacement, on the device.

    Each image of a batch is, independently, one of `old` with probability `old_fraction` and one
    of `novel` otherwise, uniformly within either.

    Args:
        seed: (2,) int32.
        shape: (2,) int32, the number of mini-batches and B, the images in each.
        old: (n_old,) int32 indices, n_old > 0.
        novel: (n_novel,) int32 indices, n_novel > 0.
        old_fraction: λ in [0, 1], float32.

    Returns:
        int32 indices of the given shape.
    """
    seeds = tf.random.split(seed, 3)

    def pick(indices: tf.Tensor, pick_seed: tf.Tensor) -> tf.Tensor:
        uniform = tf.random.stateless_uniform(
            shape, pick_seed, maxval=tf.size(indices), dtype=tf.int32
        )
        return tf.gather(indices, uniform)

    is_old = tf.random.stateless_uniform(shape, seeds[0]) < old_fraction
    return tf.where(is_old, pick(old, seeds[1]), pick(novel, seeds[2]))


def diverged(what: str, learning_rate: float | None = None) -> FloatingPointError:
    """Returns the error to raise, with advice."""
    at, lower = "", "a lower learning rate"
    if learning_rate is not None:
        at, lower = f" at learning_rate={learning_rate}", f"learning_rate={learning_rate / 10:g}"
    return FloatingPointError(
        f"training diverged: {what}{at}; try {lower}, or images scaled to a smaller range"
    )


def check_arrays(
    targets: Mapping[str, keras.Variable | tf.Variable], arrays: Mapping[str, np.ndarray]
) -> None:
    """Raises `ValueError` unless there is an array of the same name and shape for each variable."""
    for name, variable in targets.items():
        found = arrays[name].shape if name in arrays else None
        if found != tuple(variable.shape):
            raise ValueError(f"{name}: expected shape {tuple(variable.shape)}, got {found}")


def _resized(slot: tf.Variable | None, shape: tuple[int, ...], dtype: str) -> tf.Variable:
    """Returns a slot with zeros added at the end of each axis; all zeros where it was larger."""
    if slot is None or any(new < old for old, new in zip(slot.shape, shape, strict=True)):
        return tf.Variable(tf.zeros(shape, dtype))
    if slot.shape == shape:
        return slot
    padding = [(0, new - old) for old, new in zip(slot.shape, shape, strict=True)]
    return tf.Variable(tf.pad(slot, padding))
