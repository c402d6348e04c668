"""Directions of a model's gradients, fitted on a few images."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from emoc_tf.scoring.images import Images
from emoc_tf.scoring.sketches.changes import SketchedChanges
from emoc_tf.scoring.sketches.cuts import MIXTURES
from emoc_tf.scoring.sketches.directions import (
    Part,
    left,
    numbers,
    sizes,
    spectrum_of,
)

BATCH = 32
HELD_OUT = 4  # every so many images measure the energy that the others' directions hold


class LayerSketch(NamedTuple):
    """How a layer's gradients are cut down.

    Attributes:
        layer: Its name.
        cut: `"inputs"`, `"both"` or `"rows"`, see `projected.Cut`.
        directions: How many, of each space that is cut.
        numbers: Of a pair.
        energy_left: What part of its gradients' energy is lost.
    """

    layer: str
    cut: str
    directions: tuple[int, ...]
    numbers: int
    energy_left: float


class Fit(NamedTuple):
    """Directions, one tuple a layer that is cut, and what they are like."""

    directions: list[tuple[np.ndarray, ...]]
    layers: list[LayerSketch]
    energy_left: float


def fit(
    changes: SketchedChanges, images: Images, error: float, most: int, budget: int, seed: int
) -> Fit:
    """Returns the principal directions of the gradients of a model's logits.

    Args:
        changes: The functions of a model.
        images: At least one.
        error: Part of the energy that may be left.
        most: Numbers that a pair may have.
        budget: Bytes that gradients may take meanwhile.
        seed: Of the mixtures.
    """
    parts = spectra(changes, images, budget, seed)
    return fit_of(changes, parts, sizes(parts, error, most))


def spectra(changes: SketchedChanges, images: Images, budget: int, seed: int) -> list[Part]:
    """Returns the spectra of each layer that is cut, with arguments as those of `fit`.

    Each image gives one row of gradients, of a random mixture of the logits: its second moment is
    that of all rows of J. Directions come from most images, what they hold is measured on others.
    """
    cuts = changes.factors.cut
    found: list[list[list[tf.Tensor]]] = [[[] for _ in cut.spaces] for cut in cuts]
    for vectors in _vectors(changes, images, budget, seed) if cuts else ():
        for kept, own in zip(found, vectors, strict=True):
            for space, each in zip(kept, own, strict=True):
                space.append(each)
    held_out = np.arange(len(images)) % HELD_OUT == HELD_OUT - 1
    few = len(images) < 2 * HELD_OUT  # all are both fitted and held out
    parts = []
    for place, cut in enumerate(cuts):
        spaces, found[place] = [tf.concat(space, 0) for space in found[place]], []  # frees memory
        energy = tf.reduce_sum(tf.square(tf.cast(spaces[0], tf.float64))) / len(images)
        spectra = [
            spectrum_of(_flat(space, few | ~held_out), _flat(space, few | held_out), seed)
            for space in spaces
        ]
        units = 1 if cut.kind == "rows" else cut.layer.stage.units
        parts.append(Part(float(energy), tuple(spectra), units))
    return parts


def fit_of(changes: SketchedChanges, parts: list[Part], counts: list[list[int]]) -> Fit:
    """Returns the leading directions, so many of each spectrum."""
    directions = [
        tuple(s.basis[:, :count] for s, count in zip(part.spectra, own, strict=True))
        for part, own in zip(parts, counts, strict=True)
    ]
    layers = [
        LayerSketch(cut.layer.plan.layer, cut.kind, tuple(own), numbers(part, own), left(part, own))
        for cut, part, own in zip(changes.factors.cut, parts, counts, strict=True)
    ]
    lost = sum(p.energy * each.energy_left for p, each in zip(parts, layers, strict=True))
    return Fit(directions, layers, float(lost / (sum(p.energy for p in parts) or 1.0)))


def _flat(vectors: tf.Tensor, wanted: np.ndarray) -> tf.Tensor:
    """Returns the vectors (B, m, F) of some of the images, one below the other."""
    return tf.reshape(vectors[wanted], [-1, vectors.shape[-1]])


def _vectors(
    changes: SketchedChanges, images: Images, budget: int, seed: int
) -> Iterator[list[tuple[tf.Tensor, ...]]]:
    """Yields what batches of images have in each space that is cut, see `SketchedGradients`.

    Mixtures are those of an image, whatever batch it is in.
    """
    one = changes.factors.gradient_bytes(1, changes.factors.dtype, images.shape[1:])
    size = max(1, min(BATCH, budget // 4 // one))
    rng = np.random.default_rng(seed)
    seeds = rng.normal(size=(len(images), 1, changes.num_classes))
    for start in range(0, len(images), size):
        rows = np.arange(start, min(start + size, len(images)))
        shape = len(rows), changes.factors.most_mixed, MIXTURES
        signs = np.where(rng.random(shape) < 0.5, -1.0, 1.0)
        yield changes.vectors(changes.tensor(images[rows]), seeds[rows], signs)
