"""Directions of a model's gradients, fitted on a few images."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from emoc_tf.scoring.images import Images
from emoc_tf.scoring.sketches.changes import SketchedChanges
from emoc_tf.scoring.sketches.cuts import Cut
from emoc_tf.scoring.sketches.directions import (
    Part,
    Spectrum,
    left,
    numbers,
    of_moments,
    of_rows,
    sizes,
)

BATCH = 16
HELD_OUT = 4  # every so many images measure the energy that the others' directions hold
WIDEST = 1024  # spaces whose second moment is found as it is
MIXTURES = 16  # vectors an image that stand for more


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
    if not cuts:
        return []
    spaces = [[_Space(size) for size in cut.spaces] for cut in cuts]
    energies = np.zeros(len(cuts))
    for rows, batch, fitted, held_out in _rows(changes, images, budget, seed):
        for place, (cut, own) in enumerate(zip(cuts, rows, strict=True)):
            energies[place] += np.square(own, dtype=np.float64).sum() / len(images)
            for space, vectors in zip(
                spaces[place], _vectors(cut, own, [[seed, place, i] for i in batch]), strict=True
            ):
                space.add(vectors[fitted], 0)
                space.add(vectors[held_out], 1)
    return [
        Part(
            energy,
            tuple(space.spectrum() for space in own),
            1 if cut.kind == "rows" else cut.layer.stage.units,
        )
        for cut, own, energy in zip(cuts, spaces, energies, strict=True)
    ]


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


class _Space:
    """Vectors of a space, as they come: added up, or kept where the space is wide."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._moments: list[np.ndarray | float] = [0.0, 0.0]
        self._kept: tuple[list[np.ndarray], list[np.ndarray]] = [], []

    def add(self, vectors: np.ndarray, where: int) -> None:
        """Adds vectors (B, m, F) of B images, to those that are fitted, 0, or held out, 1."""
        own = vectors.reshape(-1, self.size)
        if self.size <= WIDEST and vectors.shape[1] > 1:
            self._moments[where] = self._moments[where] + own.T @ own
        else:
            self._kept[where].append(own)

    def spectrum(self) -> Spectrum:
        """Returns the leading directions."""
        if not isinstance(self._moments[0], float):
            return of_moments(*self._moments)
        return of_rows(*(np.concatenate(own) for own in self._kept))


def _vectors(cut: Cut, rows: np.ndarray, seeds: list[list[int]]) -> list[np.ndarray]:
    """Returns what a batch of gradients has in each space that is cut, (B, m, F) each.

    Args:
        cut: The layer.
        rows: Its gradients.
        seeds: One an image, so that mixtures do not depend on what is in a batch.
    """
    if cut.kind == "rows":
        return [rows[:, None]]
    sides = [rows] if cut.kind == "inputs" else [rows, rows.transpose(0, 2, 1)]
    return [side if side.shape[1] <= MIXTURES else _mixed(side, seeds) for side in sides]


def _mixed(vectors: np.ndarray, seeds: list[list[int]]) -> np.ndarray:
    """Returns few random mixtures of each image's vectors; their second moment is the same."""
    shape = MIXTURES, vectors.shape[1]
    signs = np.stack([np.random.default_rng(seed).choice([-1.0, 1.0], shape) for seed in seeds])
    return np.matmul(signs.astype(vectors.dtype) / MIXTURES**0.5, vectors)


def _rows(
    changes: SketchedChanges, images: Images, budget: int, seed: int
) -> Iterator[tuple[list[np.ndarray], np.ndarray, np.ndarray, np.ndarray]]:
    """Yields gradients, of which images, and which of these are fitted and which held out.

    Few images are both.
    """
    one = changes.exact.factors.gradient_bytes(1, changes.factors.dtype, images.shape[1:])
    size = max(1, min(BATCH, budget // 4 // one))
    places = np.arange(len(images))
    mixtures = np.random.default_rng(seed).normal(size=(len(images), 1, changes.num_classes))
    for start in range(0, len(images), size):
        batch = places[start : start + size]
        _, rows = changes.whole_rows(changes.tensor(images[batch]), mixtures[batch])
        held_out = batch % HELD_OUT == HELD_OUT - 1
        few = len(images) < 2 * HELD_OUT
        yield [part.numpy() for part in rows], batch, few | ~held_out, few | held_out
