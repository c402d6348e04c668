"""What the contestants of `scoring.py` are given: one network with its weights, images, sets.

`make` builds a problem with Keras; `Problem` itself needs NumPy alone, so that a contestant can
read it in a process that never imports TensorFlow.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras

IMAGE_SHAPE = (32, 32, 3)
WEIGHT_DECAY = 5e-4
NUM_SETS, SET_SIZE = 1000, 25
# 10 known and 10 novel in the paper's protocol; fewer where they would have too few images.
MAX_IMAGE_CLASSES = 20
STANDARDIZING_BATCH = 128
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
            gradients, by `"explicit"` and `"factored"`; see `_multiply_adds`.
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


def _standardize(model: keras.Model, images: np.ndarray) -> None:
    """Brings what each layer with a kernel puts out to standard deviation 1.

    The paper's small initial weights would give posteriors of 1/C. Units with a bias are centred
    too, so that the most likely label differs from image to image.
    """
    import keras

    for layer in model.layers:
        if not hasattr(layer, "kernel"):
            continue
        output = keras.Model(model.input, layer.output).predict(images, verbose=0)
        mean = output.mean(axis=tuple(range(output.ndim - 1))) if layer.use_bias else 0.0
        scale = 1 / (output - mean).std()
        layer.kernel.assign(layer.kernel * scale)
        if layer.use_bias:
            layer.bias.assign(-mean * scale)


def _multiply_adds(model: keras.Model) -> dict[str, int]:
    """Counts the multiply-adds of J(x)·g(x') for one pair of images.

    Explicit: C rows of P parameters, C·P. Factored: what the library's plan says.
    """
    from emoc_tf.scoring import EMOCScorer

    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    plan = EMOCScorer(model).plan()
    return {
        "explicit": model.output_shape[-1] * parameters,
        "factored": sum(layer.multiply_adds for layer in plan),
    }


def _random_images(count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns smooth images, (count, 32, 32, 3): like natural ones, neighbours are correlated."""
    from scipy.ndimage import gaussian_filter

    noise = rng.standard_normal((count, *IMAGE_SHAPE), np.float32)
    smooth = gaussian_filter(noise, sigma=(0, 3, 3, 0), mode="wrap")
    return np.clip(smooth * (64 / smooth.std()), -128, 127)


def make(case: Case, data_dir: str | None) -> Problem:
    """Makes a problem, the same for the same arguments.

    Args:
        case: The size.
        data_dir: Folder of tensorflow-datasets with CIFAR-100: the first query of the paper's
            protocol, whose network is trained; a residual network is trained whole on ten
            classes. None: a random network and random images.

    Raises:
        ValueError: There are too few candidates for a set, or the protocol has no such case.
    """
    if case.candidates < SET_SIZE:
        raise ValueError(f"candidates: expected at least {SET_SIZE}, got {case.candidates}")
    rng = np.random.default_rng(0)
    if data_dir is not None and case.network in RESNETS:
        import states

        sizes = case.reference, case.candidates, NUM_SETS
        model, reference, candidates, sets = states.trained(case.network, 32, 0, 6, sizes, data_dir)
    elif data_dir is not None:
        model, reference, candidates, sets = _protocol(case, data_dir, rng)
    else:
        images = _random_images(case.reference + case.candidates, rng)
        reference, candidates = images[: case.reference], images[case.reference :]
        num_classes = min(MAX_IMAGE_CLASSES, max(1, case.candidates // (2 * SET_SIZE)))
        members = [np.arange(label, case.candidates, num_classes) for label in range(num_classes)]
        picked = rng.integers(num_classes, size=NUM_SETS)
        sets = np.stack([rng.choice(members[label], SET_SIZE, replace=False) for label in picked])
        model = build(case, rng)
        _standardize(model, images[rng.permutation(len(images))[:STANDARDIZING_BATCH]])
    weights = {variable.path: variable.numpy() for variable in model.weights}
    labels = model.predict(candidates, verbose=0).argmax(axis=1)
    return Problem(case, weights, reference, candidates, labels, sets, _multiply_adds(model))


def _protocol(
    case: Case, data_dir: str, rng: np.random.Generator
) -> tuple[keras.Model, np.ndarray, np.ndarray, np.ndarray]:
    """Returns model, N of the reference images, candidates and sets of the paper's protocol."""
    from emoc_tf import ExplorationConfig
    from emoc_tf.exploration import Exploration

    exploration = Exploration(ExplorationConfig.preset("paper", data_dir=data_dir))
    exploration.reset(0)
    state = exploration.state
    waiting = np.flatnonzero(state.pool.labels < 0)
    have = Case("cifar10_quick", len(state.reference), len(waiting), state.model.output_shape[-1])
    if case != dataclasses.replace(have, reference=min(case.reference, have.reference)):
        raise ValueError(f"case: expected the protocol's, {have}, or a smaller N, got {case}")
    chosen = rng.choice(len(state.reference), case.reference, replace=False)
    sets = np.searchsorted(waiting, state.candidates)
    return state.model, state.reference[chosen], state.pool.images[waiting], sets
