"""What an update iteration costs: the learner against a bare hand-written step and Keras `fit`.

The paper's network, batch 64, on random images. The three run in turn, round after round, and the
ratios are taken within a round, so that a drifting machine does not favour one of them.

    python benchmarks/learner.py --rounds=9 --iterations=200
"""

import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

from emoc_tf.config import ExplorationConfig
from emoc_tf.models import networks
from emoc_tf.models.learner import Learner

ROUNDS = flags.DEFINE_integer("rounds", 9, "Rounds; the median is shown.", 1)
ITERATIONS = flags.DEFINE_integer("iterations", 200, "SGD iterations a round.", 1)

CONFIG = ExplorationConfig.preset("paper")
CLASSES, POOL = CONFIG.known_classes, 3000


def build() -> keras.Model:
    """Returns the paper's network, the same each time."""
    rng = np.random.default_rng(0)
    return networks.build(CONFIG.network, (32, 32, 3), CLASSES, CONFIG.weight_decay, rng)


def learner(images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """The library's update step: mini-batches of old and novel images drawn on the device."""
    ours = Learner(
        build(),
        images,
        learning_rate=CONFIG.learning_rate,
        momentum=CONFIG.momentum,
        batch_size=CONFIG.batch_size,
        old_fraction=CONFIG.old_fraction,
    )
    seed, old, novel = np.array([1, 2], np.int32), np.arange(1000), np.arange(1000, 1025)
    return lambda iterations: ours.train(iterations, seed, labels, old, novel)


def bare(images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """The same step by hand, on one mini-batch that is never drawn again."""
    model = build()
    variables = [variable.value for variable in model.trainable_variables]
    velocities = [tf.Variable(tf.zeros(variable.shape)) for variable in variables]
    batch = tf.constant(images[: CONFIG.batch_size])
    targets = tf.constant(labels[: CONFIG.batch_size], tf.int32)

    @tf.function
    def step(batch: tf.Tensor, targets: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_mean(losses) + tf.add_n(model.losses)
        gradients = tape.gradient(loss, variables)
        for variable, velocity, gradient in zip(variables, velocities, gradients, strict=True):
            velocity.assign(CONFIG.momentum * velocity - CONFIG.learning_rate * gradient)
            variable.assign_add(velocity)

    def run(iterations: int) -> None:
        for _ in range(iterations):
            step(batch, targets)

    return run


def keras_fit(images: np.ndarray, labels: np.ndarray) -> Callable[[int], None]:
    """Keras' own training loop on the same number of mini-batches."""
    model = build()
    model.compile(
        keras.optimizers.SGD(CONFIG.learning_rate, CONFIG.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    def run(iterations: int) -> None:
        count = iterations * CONFIG.batch_size
        rows = np.arange(count) % len(images)
        model.fit(images[rows], labels[rows], CONFIG.batch_size, epochs=1, verbose=0)

    return run


def main(argv: list[str]) -> None:
    """Prints milliseconds per iteration and ratios to the bare step."""
    del argv
    rng = np.random.default_rng(0)
    images = rng.uniform(-128, 128, (POOL, 32, 32, 3)).astype(np.float32)
    labels = rng.integers(CLASSES, size=POOL)
    runs = {
        "learner": learner(images, labels),
        "bare tf.function step": bare(images, labels),
        "keras fit": keras_fit(images, labels),
    }
    for run in runs.values():
        run(50)  # trace and warm up
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS.value):
        for name, run in runs.items():
            start = time.perf_counter()
            run(ITERATIONS.value)
            seconds[name].append(time.perf_counter() - start)
    base = seconds["bare tf.function step"]
    print(f"{'':24}{'ms/iteration':>14}{'ratio to bare':>16}{'range':>16}")
    for name, values in seconds.items():
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        print(
            f"{name:24}{1e3 * statistics.median(values) / ITERATIONS.value:14.1f}"
            f"{statistics.median(ratios):16.2f}{min(ratios):9.2f}–{max(ratios):.2f}"
        )


if __name__ == "__main__":
    app.run(main)
