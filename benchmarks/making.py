"""Makes the problem of a case: a network with its weights, images and sets of them."""

import dataclasses
import math

import keras
import numpy as np
import states
from problem import NUM_SETS, RESNETS, SET_SIZE, Case, Problem, build, random_images

from emoc_tf import ExplorationConfig
from emoc_tf.exploration import Exploration
from emoc_tf.scoring import EMOCScorer

# 10 known and 10 novel in the paper's protocol; fewer where they would have too few images.
MAX_IMAGE_CLASSES = 20
STANDARDIZING_BATCH = 128


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
        sizes = case.reference, case.candidates, NUM_SETS
        model, reference, candidates, sets = states.trained(case.network, 32, 0, 6, sizes, data_dir)
    elif data_dir is not None:
        model, reference, candidates, sets = _protocol(case, data_dir, rng)
    else:
        images = random_images(case.reference + case.candidates, rng)
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


def _standardize(model: keras.Model, images: np.ndarray) -> None:
    """Brings what each layer with a kernel puts out to standard deviation 1.

    The paper's small initial weights would give posteriors of 1/C. Units with a bias are centred
    too, so that the most likely label differs from image to image.
    """
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
    parameters = sum(math.prod(variable.shape) for variable in model.trainable_variables)
    plan = EMOCScorer(model).plan()
    return {
        "explicit": model.output_shape[-1] * parameters,
        "factored": sum(layer.multiply_adds for layer in plan),
    }
