"""Learning rate, iterations and normalisation of features of preset `transfer`, for `random` alone.

The head is trained as the learner does it (SGD with momentum, CE + ω, mini-batches of old and novel
images), in NumPy and for several learning rates at once. Sets are random ones of those that the
sampler draws at the beginning, no image twice. A row a setting and initialisation is added to
OUTPUT: mean accuracy along the curve and final accuracy, on every fifth test image, and the number
of classes found. NaN where training diverged.

    python benchmarks/transfer_pilot.py --data_dir=DIR --seeds=100 --iterations=250
"""

import csv
import time
from pathlib import Path

import numpy as np
from absl import app, flags
from threadpoolctl import threadpool_limits

from emoc_tf import ExplorationConfig, streams
from emoc_tf.data import pixels
from emoc_tf.data.named import load
from emoc_tf.data.whole import Whole
from emoc_tf.exploration.candidates import draw, named
from emoc_tf.exploration.drawing import draw_episode
from emoc_tf.models import efficientnet, networks
from emoc_tf.models.trained_part import TrainedPart

DATA_DIR = flags.DEFINE_string("data_dir", None, "Where CIFAR-100 lies.")
CACHE_DIR = flags.DEFINE_string("cache_dir", "~/.cache/emoc_tf", "Where features are kept.")
SEEDS = flags.DEFINE_list("seeds", ["100"], "Initialisations.")
NORMS = flags.DEFINE_list("norms", ["none", "length", "standard", "every"], "Of features.")
RATES = flags.DEFINE_list("rates", ["0.001", "0.003", "0.01", "0.03"], "Learning rates.")
ITERATIONS = flags.DEFINE_integer("iterations", 1000, "Of an update, and of pretraining.", 1)
STEPS = flags.DEFINE_integer("steps", 40, "Sets that are learnt.", 1)
OUTPUT = flags.DEFINE_string("output", "results/transfer/pilot.csv", "Where rows are added.")

COLUMNS = [
    "norm", "learning_rate", "iterations", "steps", "seed", "mean_accuracy", "final_accuracy",
    "found", "cpu_seconds",
]  # fmt: skip


def normalised(features: np.ndarray, labelled: np.ndarray, how: str) -> np.ndarray:
    """Returns features, (n, d), normalised another way.

    Args:
        features: (n, d), as the network gives them, standardised by all training images: `every`.
        labelled: Those of the images that are labelled at the start.
        how: `every`; `none`: as they were before; `length`: these, of length √d; `standard`: of
            mean 0 and variance 1 in the labelled ones.
    """
    if how == "every":
        return features
    if how == "standard":
        return (features - labelled.mean(axis=0)) / (labelled.std(axis=0) + 1e-3)
    mean, deviation = efficientnet.statistics()
    features = features * deviation + mean
    if how == "none":
        return features
    scale = np.sqrt(features.shape[1]) / np.linalg.norm(features, axis=1, keepdims=True)
    return features * scale


class Heads:
    """Linear heads, one a learning rate, that see the same mini-batches."""

    def __init__(self, features: int, outputs: int, rates: list[float], config: ExplorationConfig):
        self._rates = np.array(rates, np.float32)[None, :, None]
        self._config, self._rng = config, np.random.default_rng(0)
        start = self._rng.normal(0, 0.01, (features, 1, outputs))
        self.weights = np.repeat(start, len(rates), 1).astype(np.float32)
        self.weights = np.concatenate([self.weights, np.zeros_like(self.weights[:1])])
        self._speed = np.zeros_like(self.weights)

    def grow(self, outputs: int) -> None:
        """Adds outputs, near zero."""
        more = outputs - self.weights.shape[2]
        if more:
            pad = [(0, 0), (0, 0), (0, more)]
            self.weights, self._speed = np.pad(self.weights, pad), np.pad(self._speed, pad)

    def learn(self, inputs: np.ndarray, labels: np.ndarray, old: np.ndarray, novel: np.ndarray):
        """Trains; `novel` may be empty."""
        size, share = self._config.batch_size, self._config.old_fraction
        flat = (len(self.weights), -1)
        for _ in range(ITERATIONS.value):
            chosen = self._rng.choice(old, size)
            if len(novel):
                new = self._rng.random(size) >= share
                chosen[new] = self._rng.choice(novel, new.sum())
            batch = inputs[chosen]
            residuals = (batch @ self.weights.reshape(flat)).reshape(size, *self.weights.shape[1:])
            residuals -= residuals.max(axis=2, keepdims=True)
            np.exp(residuals, out=residuals)
            residuals /= residuals.sum(axis=2, keepdims=True)
            residuals[np.arange(size), :, labels[chosen]] -= 1
            gradient = (batch.T @ (residuals.reshape(size, -1) / size)).reshape(self.weights.shape)
            gradient += np.float32(self._config.weight_decay) * self.weights
            self._speed *= np.float32(self._config.momentum)
            self._speed -= self._rates * gradient
            self.weights += self._speed

    def accuracies(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the accuracy of each head; a label of no output counts as an error."""
        logits = inputs @ self.weights.reshape(len(self.weights), -1)
        logits = logits.reshape(len(inputs), *self.weights.shape[1:])
        right = (logits.argmax(axis=2) == labels[:, None]).mean(axis=0)
        return np.where(np.isfinite(self.weights).all(axis=(0, 2)), right, np.nan)


def rows(config: ExplorationConfig, data: tuple, seed: int) -> list[dict]:
    """Returns a row a setting."""
    root = streams.root_of(seed)
    wholes = tuple(Whole(part.images, None, 1.0, CACHE_DIR.value) for part in data)
    episode = draw_episode(
        config, *data, root, factor=pixels.factor_to_pixels(*(part.images for part in data)),
        wholes=wholes, plain_pixels=True,
    )  # fmt: skip
    rng = streams.generator(root, 0, "weights")
    model = networks.build(config.network, data[0].images.shape[1:], 10, 0.0, rng)
    part = TrainedPart(model, episode.images)
    features, tested = part.inputs, part.inputs_of(episode.test_images)[::5]
    waiting = np.flatnonzero(episode.task.labels == -1)
    sets, _ = draw(named(config.sampler, None), config, root, 0, waiting, features=features)
    order = streams.generator(root, 0, "pilot").permutation(len(sets))
    taken: list[np.ndarray] = []
    for row in sets[order]:
        if len(taken) < config.max_steps and not np.isin(row, np.ravel(taken)).any():
            taken.append(row)
    start = np.flatnonzero(episode.task.labels >= 0)
    found = []
    for how in NORMS.value:
        began = time.process_time()
        inputs, test = (
            np.pad(normalised(each, features[start], how), [(0, 0), (0, 1)], constant_values=1)
            for each in (features, tested)
        )
        known = list(episode.classes[: episode.num_known])
        heads = Heads(features.shape[1], len(known), list(map(float, RATES.value)), config)
        column = np.full(len(data[0].class_names), -1)
        old, accuracies = start, []
        for step in range(len(taken) + 1):
            novel = taken[step - 1] if step else np.zeros(0, np.int64)
            truth = episode.true_labels[novel].tolist()
            known += [c for c in dict.fromkeys(truth) if c not in known]
            column[known] = np.arange(len(known))
            heads.grow(len(known))
            with np.errstate(all="ignore"):
                heads.learn(inputs, column[episode.true_labels], old, novel)
                accuracies.append(heads.accuracies(test, column[episode.test_labels[::5]]))
            old = np.append(old, novel)
        curve = np.array(accuracies)
        means = np.trapezoid(curve, axis=0) / len(taken)
        seconds = (time.process_time() - began) / len(RATES.value)
        for rate, mean, last in zip(RATES.value, means, curve[-1], strict=True):
            values = how, rate, ITERATIONS.value, len(taken), seed, f"{mean:.4f}", f"{last:.4f}"
            values = (*values, len(known) - episode.num_known, f"{seconds:.0f}")
            found.append(dict(zip(COLUMNS, values, strict=True)))
            print(*values, flush=True)
    return found


def main(argv: list[str]) -> None:
    """Adds the rows."""
    del argv
    config = ExplorationConfig.preset("transfer", max_steps=STEPS.value)
    data = load(config.dataset, DATA_DIR.value)
    output = Path(OUTPUT.value)
    for seed in map(int, SEEDS.value):
        with threadpool_limits(1):
            found = rows(config, data, seed)
        new = not output.exists()
        output.parent.mkdir(parents=True, exist_ok=True)
        with open(output, "a", newline="") as opened:
            writer = csv.DictWriter(opened, COLUMNS)
            if new:
                writer.writeheader()
            writer.writerows(found)


if __name__ == "__main__":
    app.run(main)
