"""What the contestants of `scoring.py` are given: one network with its weights, images, sets.

`making.make` makes a problem; `Problem` itself needs NumPy alone, so that a contestant can read it
in a process that never imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

IMAGE_SHAPE = (32, 32, 3)
WEIGHT_DECAY = 5e-4
NUM_SETS, SET_SIZE = 1000, 25
RESNETS = {"resnet": 16, "resnet_wide": 64}  # channels of their first stage


@dataclasses.dataclass(frozen=True)
class Case:
    """The size of a problem.

    Attributes:
        network: `"cifar10_quick"`, `"resnet"` or `"resnet_wide"`.
        reference: N, images that the expectation runs over.
        candidates: n, images that are scored.
        classes: C, outputs of the network.
    """

    network: str
    reference: int
    candidates: int
    classes: int


@dataclasses.dataclass(frozen=True)
class Problem:
    """One network, images and labels.

    Attributes:
        case: The size.
        weights: By `"layer/variable"`, all of the network, those that are not trained included.
        reference: (N, 32, 32, 3) float32, pixels 0–255 minus the mean.
        candidates: (n, 32, 32, 3) float32.
        labels: (n,) the network's most likely label of each candidate.
        sets: (M, K) candidates of one true class each.
        multiply_adds: Per pair of a reference image and a candidate, of the product of their
            gradients, by `"explicit"` and `"factored"`; see `making`.
    """

    case: Case
    weights: dict[str, np.ndarray]
    reference: np.ndarray
    candidates: np.ndarray
    labels: np.ndarray
    sets: np.ndarray
    multiply_adds: dict[str, int]

    def save(self, path: str) -> None:
        """Writes an npz file."""
        weights = {f"weights:{name}": value for name, value in self.weights.items()}
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        adds = {f"multiply_adds:{name}": value for name, value in self.multiply_adds.items()}
        np.savez(path, case=dataclasses.astuple(self.case), **arrays, **weights, **adds)

    @staticmethod
    def load(path: str) -> Problem:
        """Reads what `save` wrote."""
        with np.load(path) as file:
            arrays = dict(file)
        network, *sizes = arrays["case"].tolist()
        case = Case(network, *(int(size) for size in sizes))
        adds = {name: int(value) for name, value in _of(arrays, "multiply_adds").items()}
        weights = _of(arrays, "weights")
        return Problem(
            case, weights, **{name: arrays[name] for name in _ARRAYS}, multiply_adds=adds
        )

    def trainable(self) -> dict[str, np.ndarray]:
        """Returns the parameters θ."""
        return {name: value for name, value in self.weights.items() if "moving" not in name}

    def model(self) -> keras.Model:
        """Builds the network in Keras, with these weights."""
        model = build(self.case, np.random.default_rng(0))
        for variable in model.weights:
            variable.assign(self.weights[variable.path])
        return model


_ARRAYS = ("reference", "candidates", "labels", "sets")


def _of(arrays: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    names = [name for name in arrays if name.startswith(f"{kind}:")]
    return {name.removeprefix(f"{kind}:"): arrays[name] for name in names}


def build(case: Case, rng: np.random.Generator) -> keras.Model:
    """Returns a network with fresh weights; ω = ½·weight_decay·‖θ‖² over all that is trained."""
    from emoc_tf.models import networks

    if case.network in RESNETS:
        import resnets

        width = RESNETS[case.network]
        return resnets.build(IMAGE_SHAPE, case.classes, width, WEIGHT_DECAY, rng)
    return networks.build(case.network, IMAGE_SHAPE, case.classes, WEIGHT_DECAY, rng)


def random_images(count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns smooth images, (count, 32, 32, 3): like natural ones, neighbours are correlated."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal((count, *IMAGE_SHAPE), np.float32)
    smooth = gaussian_filter(noise, sigma=(0, 3, 3, 0), mode="wrap")
    return np.clip(smooth * (64 / smooth.std()), -128, 127)
