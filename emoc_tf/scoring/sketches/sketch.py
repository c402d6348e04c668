"""The sketch of one model: fitted, measured, and kept while nothing has changed."""

import hashlib
from typing import NamedTuple

import keras
import numpy as np

from emoc_tf.scoring.changes import OutputChanges
from emoc_tf.scoring.gradients.plans import LayerPlan
from emoc_tf.scoring.images import Images
from emoc_tf.scoring.pairs import BLOCK, PairScores
from emoc_tf.scoring.sketches.changes import SketchedChanges
from emoc_tf.scoring.sketches.fitting import LayerSketch, fit

ERROR = 0.05  # part of the gradients' energy that may be left out
FITTED = 128  # images that directions are fitted on, half of them reference images
USUAL = 32  # directions of a space, before any are fitted
REFERENCES, PAIRS = 4, 16  # that the error is measured on


class SketchReport(NamedTuple):
    """What a sketch is like.

    Attributes:
        size: Numbers that are kept of a pair (x', y'), besides the factors of dense layers.
        parameters: Numbers that the exact gradients have in their place.
        energy_left: What part of the energy of the gradients that are cut down is left out,
            measured on images that the directions were not fitted on.
        error: Root mean square of the error of ‖J(x) g(x', y')‖₁ as part of that of the exact
            values, measured on 4 reference images and 16 pairs.
        layers: The layers that are cut down.
        multiply_adds: Of a product of gradients, per reference image and pair, for all outputs.
        exact_multiply_adds: Of the exact one in its place.
    """

    size: int
    parameters: int
    energy_left: float
    error: float
    layers: list[LayerSketch]
    multiply_adds: int
    exact_multiply_adds: int

    @property
    def summary(self) -> str:
        """All but the layers, in a sentence."""
        return (
            f"sketch: {self.size:,} numbers a pair in place of {self.parameters:,}, "
            f"{self.energy_left:.2%} of the energy left out, measured error of output changes "
            f"{self.error:.2%}; {self.multiply_adds:,} multiply-adds per pair of images in place "
            f"of {self.exact_multiply_adds:,}"
        )


class Sketch:
    """Sketched functions of a model, fitted to its weights and some of the images.

    Args:
        model: The model.
        changes: Its exact functions.
        budget: Bytes that gradients may take.
        size: Numbers a pair that are not exceeded; None for as many as leave little of the
            gradients' energy and fit the budget.
        seed: Of the images that directions are fitted on.

    Attributes:
        report: Of the directions fitted last; None before.
    """

    def __init__(
        self, model: keras.Model, changes: OutputChanges, budget: int, size: int | None, seed: int
    ) -> None:
        self._model, self._exact, self._budget, self._seed = model, changes, budget, seed
        self._base = SketchedChanges(changes)
        self._wanted = 0.0 if size else ERROR
        self._most = int(size) if size else budget // (8 * BLOCK * changes.dtype.size)
        self._fitted_to: bytes | None = None
        self._changes = self._base
        self.report: SketchReport | None = None

    @property
    def usual(self) -> SketchedChanges:
        """The functions for so many directions as are usual: what they take is measured on them."""
        return self._base.along(
            [
                tuple(np.eye(size, min(size, USUAL)) for size in cut.spaces)
                for cut in self._base.factors.cut
            ]
        )

    def along(self, directions: list[tuple[np.ndarray, ...]]) -> SketchedChanges:
        """Returns the functions for directions that were fitted elsewhere, see `directions`."""
        return self._base.along(directions)

    @property
    def directions(self) -> list[tuple[np.ndarray, ...]]:
        """Those that were fitted last."""
        return [tuple(each.numpy() for each in own) for own in self._changes.directions]

    @property
    def plan(self) -> list[LayerPlan]:
        """How each layer's gradients are multiplied; exactly as long as none was fitted."""
        return self._changes.factors.plan

    def apply(self, pairs: PairScores) -> PairScores:
        """Returns the same pairs, by sketched gradients."""
        return pairs.by(self.of(pairs.reference, pairs.images))

    def of(self, reference: Images, images: Images) -> SketchedChanges:
        """Returns the functions for some images.

        Directions are fitted anew unless weights and images are those of the call before: what a
        call returns does not depend on the calls before it.

        Args:
            reference: (N, ...) images x.
            images: (n, ...) images x'.
        """
        rng = np.random.default_rng(self._seed)
        half = FITTED // 2
        chosen = np.concatenate([_some(reference, half, rng), _some(images, half, rng)])
        chosen = chosen[rng.permutation(len(chosen))]
        key = self._key(chosen)
        if key != self._fitted_to:
            found = Images(chosen, "images", self._model)
            settings = self._wanted, self._most, self._budget, self._seed
            fitted = fit(self._base, found, *settings)
            self._changes = self._base.along(fitted.directions)
            self.report = SketchReport(
                self._changes.factors.explicit_size,
                sum(cut.layer.plan.parameters for cut in self._base.factors.cut)
                + self._base.factors.uncut_size,
                fitted.energy_left,
                self._error(found),
                fitted.layers,
                *(_multiply_adds(own) for own in (self._changes, self._exact)),
            )
            self._fitted_to = key
        return self._changes

    def _error(self, images: Images) -> float:
        """Returns the measured error, see `SketchReport`; images in random order."""
        every = np.arange(len(images))
        room = self._budget // 4
        count = max(1, min(PAIRS, room // self._exact.pair_bytes))
        references, pairs = images[every[:REFERENCES]], images[every[-count:]]
        logits = self._model(self._exact.tensor(pairs), training=False).numpy()
        labels = logits.argmax(axis=1)[:, None]
        shape, both = images.shape[1:], (self._exact, self._changes)
        size = max(1, min(PAIRS, room // self._exact.gradient_bytes(shape)))
        gradients = [
            [
                own.gradients(own.tensor(pairs[start : start + size]), labels[start : start + size])
                for start in range(0, len(pairs), size)
            ]
            for own in both
        ]
        exact, sketched = [], []
        size = max(1, min(REFERENCES, room // self._exact.jacobian_bytes(shape, PAIRS)))
        for start in range(0, len(references), size):
            x = self._exact.tensor(references[start : start + size])
            for own, given, values in zip(both, gradients, (exact, sketched), strict=True):
                jacobian = own.jacobian(x)
                values += [own.changes(jacobian, each).numpy().ravel() for each in given]
        right, found = (np.concatenate(own).astype(np.float64) for own in (exact, sketched))
        scale = np.square(right).mean()
        return float(np.sqrt(np.square(found - right).mean() / scale)) if scale else 0.0

    def _key(self, images: np.ndarray) -> bytes:
        told = hashlib.blake2b(np.ascontiguousarray(images))
        for weight in self._model.weights:
            told.update(np.ascontiguousarray(weight.numpy()))
        return told.digest()


def _multiply_adds(changes: OutputChanges) -> int:
    return sum(layer.multiply_adds for layer in changes.factors.plan)


def _some(images: Images, count: int, rng: np.random.Generator) -> np.ndarray:
    chosen = rng.choice(len(images), min(count, len(images)), replace=False)
    return images[np.sort(chosen)]
