"""Networks in the states in which sets are chosen, and the exact values of all pairs there."""

import csv
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
import problem
from rich.console import Console
from rich.table import Table

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration import Exploration
from emoc_tf.scoring.selection import Sample

CLASSES, IMAGES = 10, 500  # of a large network: those that it knows, and how many of each
SHARE = 0.5  # of the pool's classes that it knows


class State(NamedTuple):
    """A network, reference images, images and sets of them."""

    model: keras.Model
    reference: np.ndarray
    images: np.ndarray
    sets: np.ndarray


class Known:
    """Known output changes in the place of `PairScores`."""

    def __init__(self, known: Sample) -> None:
        self._known, self.reference = known, known.changes

    def sample(self, references: np.ndarray, pairs: np.ndarray, control: bool = True) -> Sample:
        """See `PairScores`."""
        rows = np.ix_(references, pairs)
        changes = self._known.changes[rows]
        controls = self._known.control[rows] if control else np.zeros_like(changes)
        return Sample(changes, controls, self._known.control_mean[pairs])


def explored(
    preset: str, root: int, changes: dict, steps: int, reference: int, data_dir: str | None
) -> State:
    """Returns the state of an episode before a choice.

    Args:
        preset: Settings of the exploration.
        root: Of the episode.
        changes: Of the preset.
        steps: Update steps before.
        reference: At most so many reference images.
        data_dir: tensorflow-datasets folder; None for the preset's.
    """
    settings = {"data_dir": data_dir, **changes} if data_dir else changes
    exploration = Exploration(ExplorationConfig.preset(preset, **settings))
    exploration.reset(root)
    for step in range(steps):
        exploration.advance(int(np.flatnonzero(exploration.state.candidate_mask)[step]))
    state = exploration.state
    count = min(reference, len(state.reference))
    chosen = np.random.default_rng(root).choice(len(state.reference), count, replace=False)
    sets = state.candidates[state.candidate_mask]
    return State(state.model, state.reference[chosen], state.pool.images, sets)


def trained(
    network: str,
    pixels: int,
    root: int,
    epochs: int,
    sizes: tuple[int, int, int],
    data_dir: str | None,
) -> State:
    """Returns a network that is trained whole on ten classes, and sets of twenty.

    Args:
        network: `"mobilenet"`, or `"resnet"` and `"resnet_wide"` of 32 pixels, see `problem`.
        pixels: Height and width; images are enlarged to it.
        root: Of all random numbers.
        epochs: Of training.
        sizes: Reference images, images of the pool, sets.
        data_dir: tensorflow-datasets folder with CIFAR-100; None for random images and weights.
    """
    rng = np.random.default_rng(root)
    keras.utils.set_random_seed(root)
    count, pool, num_sets = sizes
    if network == "mobilenet":
        shape = pixels, pixels, 3
        body = keras.applications.MobileNetV2(shape, weights=None, include_top=False, pooling="avg")
        model = keras.Model(body.input, keras.layers.Dense(CLASSES)(body.output))
    else:
        model = problem.build(problem.Case(network, count, pool, CLASSES), rng)
    images, labels = _images(rng, pool, data_dir)
    if pixels > images.shape[1]:
        images = images.repeat(pixels // images.shape[1], 1).repeat(pixels // images.shape[1], 2)
    known = CLASSES * IMAGES
    if data_dir:
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = 0.9  # 0.999 of MobileNetV2 is for longer training
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])
        parts = images[:known], labels[:known]
        model.fit(*parts, batch_size=64, epochs=epochs, verbose=0)
        accuracy = model.evaluate(*parts, verbose=0)[1]
        print(f"{network}: accuracy on what was trained {accuracy:.3f}")
    shown, told = images[known:], labels[known:]
    members = [np.flatnonzero(told == label) for label in range(told.max() + 1)]
    picked = rng.integers(len(members), size=num_sets)
    sets = np.stack([rng.choice(members[one], problem.SET_SIZE, replace=False) for one in picked])
    return State(model, images[rng.permutation(known)[:count]], shown, sets)


def _images(
    rng: np.random.Generator, pool: int, data_dir: str | None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and their labels: those of the known classes, then those of the pool."""
    known, classes = CLASSES * IMAGES, int(CLASSES / SHARE)
    each = pool // classes
    told = [np.repeat(np.arange(CLASSES), IMAGES), np.repeat(np.arange(classes), each)]
    if not data_dir:
        images = problem.random_images(known + classes * each, rng) / 64
        return images, np.concatenate(told)
    import tensorflow_datasets as tfds

    data = tfds.as_numpy(tfds.load("cifar100", data_dir=data_dir, batch_size=-1))
    order, (train, test) = rng.permutation(100), (data["train"], data["test"])
    first = [np.flatnonzero(train["label"] == one)[:IMAGES] for one in order[:CLASSES]]
    others = [np.flatnonzero(test["label"] == one)[:each] for one in order[:classes]]
    images = [train["image"][np.concatenate(first)], test["image"][np.concatenate(others)]]
    if pool > sum(map(len, others)):  # then any of all that the network was not trained on
        unseen = np.flatnonzero(~np.isin(train["label"], order[:CLASSES]))
        images[1] = np.concatenate([test["image"], train["image"][unseen]])
        found = np.concatenate([test["label"], train["label"][unseen]])
        chosen = rng.choice(len(found), pool, replace=False)
        images[1], told[1] = images[1][chosen], np.argsort(order)[found[chosen]]
    return (np.concatenate(images).astype(np.float32) - 128) / 64, np.concatenate(told)


def show(rows: Sequence[dict[str, object]], output: str | None) -> None:
    """Prints a table, and writes it to a CSV file if there is a path."""
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=200).print(table)
    if output:
        with open(output, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
