"""Continual fine-tuning: SGD with momentum on a mix of old and novel data."""

from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

# Training runs in compiled slices of this many iterations, so that signals are heard between.
SLICE_ITERATIONS = 50


class Learner:
    """Trains a model in compiled slices; the head may grow between two calls of `train`.

    Momentum lives in variables of the learner's own: Keras optimizers refuse new variables once
    built, whereas here growing the head is a copy. The update is v ← μ·v − η·∇(CE + ω),
    θ ← θ + v, so that weight decay enters the gradient before momentum.

    Args:
        model: The model to train, ending in logits. ω(θ) is the sum of `model.losses`.
        images: (n_pool, H, W, channels) float32, all that may ever be trained on.
        learning_rate: η.
        momentum: μ, in [0, 1).
        batch_size: B, images per mini-batch.
        old_fraction: λ, the probability that an image of an update's mini-batch is an old one.
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
    ) -> None:
        self._images = tf.constant(images)
        self._learning_rate = learning_rate
        self._momentum = momentum
        self._batch_size = batch_size
        self._old_fraction = old_fraction
        self.velocities: list[tf.Variable] = []
        self.replace_model(model)

    def replace_model(self, model: keras.Model) -> None:
        """Goes on with a model whose head has grown; momentum is kept, new units start at 0.

        The variables of `model` must be those of the old model in the same order, each at least
        as large as before.
        """
        self.model = model
        old = self.velocities or [None] * len(model.trainable_variables)
        self.velocities = [
            _grown(velocity, variable)
            for velocity, variable in zip(old, model.trainable_variables, strict=True)
        ]
        # Traced here and once: the model is another one only after a discovery.
        self._train_slice = tf.function(self._slice).get_concrete_function(
            tf.TensorSpec([None, self._batch_size], tf.int32),
            tf.TensorSpec([len(self._images)], tf.int32),
        )

    def train(
        self,
        iterations: int,
        seed: np.ndarray,
        labels: np.ndarray,
        old: np.ndarray,
        novel: np.ndarray | None = None,
    ) -> None:
        """Runs SGD iterations.

        Args:
            iterations: How many, at least 0.
            seed: (2,) int32; mini-batches are a function of it.
            labels: (n_pool,) columns of the model's output; read at `old` and `novel` only.
            old: Indices of the images labelled before, not empty.
            novel: Indices of the set just labelled; None trains on `old` alone: in
                pretraining, or as a control, which draws the same old images as with the set
                wherever that draws an old one.

        Raises:
            FloatingPointError: The loss or a weight became NaN or infinite.
        """
        old_share = tf.constant(1.0 if novel is None else self._old_fraction)
        novel = old if novel is None else novel
        data = [tf.constant(array, tf.int32) for array in (labels, old, novel)]
        for start in range(0, iterations, SLICE_ITERATIONS):
            length = min(SLICE_ITERATIONS, iterations - start)
            slice_seed = tf.constant(seed + np.array([0, start], np.int32))
            batches = draw_mini_batches(
                slice_seed, tf.constant([length, self._batch_size]), *data[1:], old_share
            )
            loss = float(self._train_slice(batches, data[0]))
            if not np.isfinite(loss):
                raise self.diverged(f"loss {loss} after {start + length} iterations")
        # The loss of the last mini-batch was that before its own update.
        for variable in self.model.trainable_variables:
            if not np.isfinite(variable.numpy()).all():
                raise self.diverged(f"{variable.path} not finite after {iterations} iterations")

    def diverged(self, what: str) -> FloatingPointError:
        """Returns the error to raise, with advice."""
        return FloatingPointError(
            f"training diverged: {what} at learning_rate={self._learning_rate}; try "
            f"learning_rate={self._learning_rate / 10:g}, or images scaled to a smaller range"
        )

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Returns weights, states of random layers and momentum by name."""
        variables = {f"variable_{i}": v.numpy() for i, v in enumerate(self.model.variables)}
        return variables | {f"velocity_{i}": v.numpy() for i, v in enumerate(self.velocities)}

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `get_arrays` of a learner with the same network returned.

        Raises:
            ValueError: An array is missing or has another shape; nothing has changed then.
        """
        targets = {f"variable_{i}": v for i, v in enumerate(self.model.variables)}
        targets |= {f"velocity_{i}": v for i, v in enumerate(self.velocities)}
        for name, variable in targets.items():
            found = arrays[name].shape if name in arrays else None
            if found != tuple(variable.shape):
                raise ValueError(f"{name}: expected shape {tuple(variable.shape)}, got {found}")
        for name, variable in targets.items():
            variable.assign(arrays[name])

    def _slice(self, batches: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        loss = tf.zeros(())
        for iteration in tf.range(tf.shape(batches)[0]):
            indices = batches[iteration]
            loss = self._step(tf.gather(self._images, indices), tf.gather(labels, indices))
        return loss

    @tf.autograph.experimental.do_not_convert  # it has no loop, and tracing takes half the time
    def _step(self, images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        variables = [variable.value for variable in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.add_n([tf.reduce_mean(losses), *self.model.losses])
        gradients = tape.gradient(loss, variables, unconnected_gradients="zero")
        for variable, velocity, gradient in zip(variables, self.velocities, gradients, strict=True):
            velocity.assign(self._momentum * velocity - self._learning_rate * gradient)
            variable.assign_add(velocity)
        return loss


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


def _grown(velocity: tf.Variable | None, variable: keras.Variable) -> tf.Variable:
    """Returns `velocity` padded with zeros at the end of each axis to the variable's shape."""
    if velocity is None:
        return tf.Variable(tf.zeros(variable.shape, variable.dtype))
    if velocity.shape == variable.shape:
        return velocity
    padding = [(0, new - old) for old, new in zip(velocity.shape, variable.shape, strict=True)]
    return tf.Variable(tf.pad(velocity, padding))
