"""What the features of a pretrained backbone are worth: the nearest class mean, against pixels.

Of some random classes of CIFAR-100 a few images each are labelled; a test image is of the class
whose mean feature is nearest, after features are brought to length 1. Draws of classes and images
are repeated. Also how many images a second go through the backbone.

    python benchmarks/backbone.py --data_dir=DIR

`--statistics=FILE` writes mean and standard deviation of each of EfficientNet-Lite0's features over
all training images instead, by which the library standardises them.
"""

import time

import keras
import numpy as np
from absl import app, flags

from emoc_tf.data.named import load
from emoc_tf.models import forward, networks, prefix

DATA_DIR = flags.DEFINE_string("data_dir", None, "Where CIFAR-100 lies.")
NETWORK = flags.DEFINE_string("network", "efficientnet_lite0", "Whose frozen layers.")
CLASSES = flags.DEFINE_integer("classes", 10, "Classes of a draw.", 2)
SHOTS = flags.DEFINE_integer("shots", 20, "Labelled images of each.", 1)
STATISTICS = flags.DEFINE_string("statistics", None, "NPZ file for statistics of the features.")
DRAWS = flags.DEFINE_integer("draws", 3, "Draws of classes and images.", 1)


def nearest_mean_accuracy(shots: np.ndarray, tested: np.ndarray) -> float:
    """Returns the share of test images that are nearest to their class's mean.

    Args:
        shots: (classes, shots, d).
        tested: (classes, images, d).
    """
    shots, tested = (
        each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (shots, tested)
    )
    means = shots.mean(axis=1)
    distances = np.square(means).sum(axis=-1) - 2 * tested @ means.T
    return float((distances.argmin(axis=-1) == np.arange(len(means))[:, None]).mean())


def write_statistics(images: np.ndarray) -> None:
    """Writes the statistics of the features of images, summed in float64."""
    model = networks.build("efficientnet_lite0", images.shape[1:], 2, 0.0, np.random.default_rng(0))
    backbone = forward.compile_forward(keras.Model(model.input, model.get_layer("pool").output))
    sums = np.zeros((2, model.get_layer("pool").output.shape[-1]))
    for start in range(0, len(images), 1000):
        features = forward.in_batches(backbone, images[start : start + 1000]).astype(np.float64)
        sums += features.sum(axis=0), np.square(features).sum(axis=0)
    mean, square = sums / len(images)
    deviation = np.sqrt(square - np.square(mean))
    found = {"mean": mean.astype(np.float32), "deviation": deviation.astype(np.float32)}
    np.savez_compressed(STATISTICS.value, **found)


def main(argv: list[str]) -> None:
    """Prints the accuracies."""
    del argv
    train, test = load("cifar100", DATA_DIR.value)
    if STATISTICS.value:
        write_statistics(train.images)
        return
    model = networks.build(NETWORK.value, train.images.shape[1:], 2, 0.0, np.random.default_rng(0))
    backbone = forward.compile_forward(prefix.split(model).prefix)
    found: dict[str, list[float]] = {"features": [], "pixels": []}
    seconds, count = 0.0, 0
    for draw in range(DRAWS.value):
        rng = np.random.default_rng(draw)
        classes = rng.choice(len(train.class_names), CLASSES.value, replace=False)
        images = [
            np.concatenate([rng.permutation(part.images[part.labels == c])[:n] for c in classes])
            for part, n in ((train, SHOTS.value), (test, 100))
        ]
        start = time.process_time()
        features = [forward.in_batches(backbone, each) for each in images]
        seconds, count = seconds + time.process_time() - start, count + sum(map(len, images))
        for name, parts in (("features", features), ("pixels", images)):
            by_class = [
                each.reshape(len(classes), -1, each[0].size).astype(float) for each in parts
            ]
            found[name].append(nearest_mean_accuracy(*by_class))
    for name, accuracies in found.items():
        print(f"{name:10}{np.mean(accuracies):.3f}  ({', '.join(f'{a:.3f}' for a in accuracies)})")
    print(f"{count / seconds:.0f} images a processor second, of {keras.backend.backend()}")


if __name__ == "__main__":
    app.run(main)
