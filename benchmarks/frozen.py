"""What a step takes where a frozen backbone gives features and a linear head learns them.

By default as many images as CIFAR-100 has, and 1,280 features, as of MobileNetV2, from a frozen
layer that is cheap, so that what it takes itself does not count. One step is an update of 1,000
iterations, the posteriors of the pool, candidate sets, and the choice of `emoc` among 1,000 sets
of 25 images with 1,000 reference images. Seconds of wall time; processor seconds in brackets.

    python benchmarks/frozen.py
    python benchmarks/frozen.py --images=100000 --classes=100
"""

import contextlib
import time
from collections.abc import Iterator

import keras
import numpy as np
from absl import app, flags

from emoc_tf import ExplorationConfig, ImageData, agents
from emoc_tf.exploration import Exploration

IMAGES = flags.DEFINE_integer("images", 50_000, "Images in the pool.", 1)
FEATURES = flags.DEFINE_integer("features", 1280, "Numbers that the backbone gives of an image.", 1)
CLASSES = flags.DEFINE_integer("classes", 10, "Classes, all of them known.", 2)
SETS = flags.DEFINE_integer("sets", 1000, "M.", 1)
REFERENCES = flags.DEFINE_integer("references", 1000, "Reference images.", 1)
ITERATIONS = flags.DEFINE_integer("iterations", 1000, "Of the update.", 1)
STEPS = flags.DEFINE_integer("steps", 3, "Steps; the first traces.", 1)
SAMPLER = flags.DEFINE_string("sampler", "single_class", "How sets are built.")
AGENT = flags.DEFINE_string("agent", "emoc", "The policy.")
DECAY = flags.DEFINE_float("decay", 0.0, "Weight decay of the head, part of its gradient.")

SHAPE = (8, 8, 3)


def build() -> keras.Model:
    """Returns a linear head on a frozen layer of random features."""
    base = keras.Sequential(
        [
            keras.Input(SHAPE),
            keras.layers.Flatten(),
            keras.layers.Dense(FEATURES.value, "relu", kernel_initializer="he_normal"),
        ]
    )
    base.trainable = False
    image = keras.Input(SHAPE)
    penalty = keras.regularizers.L2(DECAY.value / 2) if DECAY.value else None
    head = keras.layers.Dense(CLASSES.value, kernel_regularizer=penalty)
    return keras.Model(image, head(base(image, training=False)))


def make_data(count: int, seed: int) -> ImageData:
    """Returns images of classes that a linear head can tell apart, mostly."""
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(0).normal(size=(CLASSES.value, *SHAPE))
    labels = rng.permutation(np.arange(count) % CLASSES.value)
    images = (means[labels] + rng.normal(scale=3, size=(count, *SHAPE))).astype(np.float32)
    return ImageData(images, labels, [str(c) for c in range(CLASSES.value)])


@contextlib.contextmanager
def measured(seconds: dict[str, str], name: str) -> Iterator[None]:
    """Notes wall and processor seconds under a name."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    seconds[name] = f"{wall:6.2f} ({processor:6.2f})"


def main(argv: list[str]) -> None:
    """Prints the seconds of each part of each step."""
    del argv
    keras.utils.set_random_seed(0)
    per_class = IMAGES.value // CLASSES.value
    initial = min(100, per_class // 2)
    config = ExplorationConfig(
        known_classes=CLASSES.value, novel_classes=0, initial_per_class=initial,
        pool_per_class=per_class - initial, num_candidate_sets=SETS.value, set_size=25,
        sampler=SAMPLER.value, batch_size=64, learning_rate=0.001, pretrain_iterations=100,
        update_iterations=ITERATIONS.value, max_steps=None,
    )  # fmt: skip
    data = make_data(IMAGES.value, 1), make_data(1000, 2)
    agent = agents.make(AGENT.value, seed=0)
    if AGENT.value == "emoc":
        agent = agents.make("emoc", seed=0, references=REFERENCES.value)
    seconds: dict[str, str] = {}
    with measured(seconds, "reset, with what is frozen"):
        exploration = Exploration(config, data=data, model=build())
        exploration.reset(0)
    print(f"{'':8}{'reset, with what is frozen':28}{seconds.popitem()[1]}")
    for step in range(1, STEPS.value + 1):
        with measured(seconds, "choice"):
            choice = agent.act({}, exploration.state)
        with measured(seconds, "update, posteriors and sets"):
            outcome = exploration.advance(choice)
        for name, value in exploration.timings.items():
            seconds[f"  {name}"] = f"{value:6.2f}"
        print(f"step {step}, test accuracy {outcome.test_accuracy:.3f}")
        for name, value in seconds.items():
            print(f"{'':8}{name:28}{value}")
        seconds.clear()


if __name__ == "__main__":
    app.run(main)
