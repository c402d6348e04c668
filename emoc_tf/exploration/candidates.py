"""Candidate sets: M sets of K unlabelled images, built by a sampler.

The library's own samplers draw each set within one group of images, and differ only in the groups:
true classes (`single_class`, the paper's), k-means clusters of the network's features (`cluster`,
`minibatch-cluster`), or all images in one (`uniform`); but for `top`, see there. A sampler of your
own is a function of `SamplerInputs`.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data.images import read_only
from emoc_tf.exploration.grouping import PADDING, sample
from emoc_tf.exploration.pool import Pool
from emoc_tf.registries import SAMPLERS


@dataclass(frozen=True, eq=False)
class SamplerInputs:
    """What a sampler may look at; no true label can be reached from here. Arrays are read-only.

    Axis letters: M candidate sets, K images a set, C outputs.

    Attributes:
        waiting: (n,) int64 pool indices of the images that can be asked about, ascending; n > 0.
        probabilities: (n_pool, C) float32, softmax of the model's output.
        features: (n_pool, d) float32, the inputs of the model's head.
        pool: `pool.images` as the model takes them, and `pool.labels`, −1 until asked.
        set_size: K.
        num_sets: M.
        rng: The generator to draw from. It is keyed by the episode's root and the step.
        seed: An integer in [0, 2^31 − 1) with the same keys, for what takes a seed.
        image_scorer: Tells how much the policy wants images, (k,) pool indices to (k,); None if
            nobody does.
        step: How many sets have been answered.

    Example:
        >>> import numpy as np
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> def pairs(inputs):
        ...     shuffled = inputs.rng.permutation(inputs.waiting)
        ...     sets = shuffled[: 2 * inputs.num_sets].reshape(-1, 2)
        ...     return sets, np.ones(len(sets), bool)
        >>> env = ActiveExplorationEnv(sampler=pairs, set_size=2, num_candidate_sets=6)
        >>> _ = env.reset(seed=0)
        >>> env.state.candidates.shape
        (6, 2)
    """

    waiting: np.ndarray
    probabilities: np.ndarray | None
    features: np.ndarray | None
    pool: Pool | None
    set_size: int
    num_sets: int
    rng: np.random.Generator
    seed: int
    image_scorer: Callable[[np.ndarray], Any] | None = None
    step: int = 0

    @functools.cached_property
    def image_scores(self) -> np.ndarray | None:
        """(n,) float64, how much the policy wants each waiting image; None if nobody tells.

        Higher is better. They are computed when they are asked for.

        Raises:
            ValueError: The policy gives anything but a number an image.
        """
        if self.image_scorer is None:
            return None
        found = self.image_scorer(self.waiting)
        try:
            scores = np.asarray(found, np.float64)
        except (TypeError, ValueError):
            scores = np.array(np.nan)
        if scores.shape != self.waiting.shape or np.isnan(scores).any():
            raise ValueError(
                f"score_images: expected {self.waiting.shape} numbers, one an image, got {found!r}"
            )
        return read_only(scores)


Sampler = Callable[[SamplerInputs], tuple[np.ndarray, np.ndarray]]

_KEPT = "sampler."  # before the names of arrays that a sampler keeps


class SingleClass:
    """The sampler whose sets hold images of one class.

    It alone sees true labels: that is the privilege of a simulation, whose images are all labelled.

    Args:
        true_labels: (n_pool,) class ids.
        unlabelled: (n_pool,) bool, which images wait at the start. A class with fewer than K of
            them gives one set, of what it has. None: all.
    """

    def __init__(self, true_labels: np.ndarray, unlabelled: np.ndarray | None = None) -> None:
        self._true_labels = true_labels
        waiting = true_labels if unlabelled is None else true_labels[unlabelled]
        self._sizes = np.bincount(waiting)

    def __call__(self, inputs: SamplerInputs) -> tuple[np.ndarray, np.ndarray]:
        """Returns sets and mask, see `sample`."""
        small = np.flatnonzero(self._sizes < inputs.set_size)
        return within(self._true_labels[inputs.waiting], inputs, small)


def uniform(inputs: SamplerInputs) -> tuple[np.ndarray, np.ndarray]:
    """Returns sets and mask, see `sample`: any images together."""
    return within(np.zeros(len(inputs.waiting), np.int64), inputs)


def within(
    groups: np.ndarray, inputs: SamplerInputs, small: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns sets and mask, see `sample`, of which each is within one of the groups, (n,)."""
    return sample(inputs.rng, inputs.waiting, groups, inputs.num_sets, inputs.set_size, small)


def register_sampler(name: str, function: Sampler) -> None:
    """Adds a way to build candidate sets, for `ExplorationConfig(sampler=name)`.

    Args:
        name: A new name of letters, digits, `.`, `_` and `-`.
        function: Of `SamplerInputs`; of a class, an object without arguments is made for each
            episode. It returns sets, rows of pool indices of waiting images: at
            most M rows of at most K different ones, an array with −1 as padding or a list of rows
            of different lengths; and mask, a boolean a row, which of them may be chosen.

    Raises:
        ValueError: The name is taken or no such name, or `function` is none.

    Example:
        >>> import numpy as np
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> from emoc_tf.exploration import register_sampler
        >>> def first_ones(inputs):
        ...     return inputs.waiting[None, : inputs.set_size], np.ones(1, bool)
        >>> register_sampler("first-ones", first_ones)
        >>> env = ActiveExplorationEnv(sampler="first-ones")
        >>> _ = env.reset(seed=0)
        >>> int(env.state.candidate_mask.sum())
        1
    """
    SAMPLERS.register(name, function)


def named(
    name: str, true_labels: np.ndarray | None, unlabelled: np.ndarray | None = None
) -> Sampler:
    """Returns the sampler of a name; only `single_class` gets the true labels, see `SingleClass`.

    Where nobody knows them, images that look alike to the network stand for those of one class.
    """
    sampler = SAMPLERS[name]
    if sampler is SingleClass:
        if true_labels is None:
            return SAMPLERS["cluster"]
        return SingleClass(true_labels, unlabelled)
    return sampler() if isinstance(sampler, type) else sampler


def to_arrays(sampler: Sampler) -> dict[str, np.ndarray]:
    """Returns what a sampler keeps from step to step, if its `get_arrays` tells something."""
    kept = sampler.get_arrays() if hasattr(sampler, "get_arrays") else {}
    return {_KEPT + name: array for name, array in kept.items()}


def from_arrays(sampler: Sampler, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a sampler what `to_arrays` returned, among other arrays; nothing begins an episode."""
    if hasattr(sampler, "set_arrays"):
        sampler.set_arrays(
            {
                name.removeprefix(_KEPT): array
                for name, array in arrays.items()
                if name.startswith(_KEPT)
            }
        )


def check_given(sampler: Sampler | None) -> None:
    """Raises `ValueError` unless a sampler that was handed in is a function, or None."""
    if sampler is not None and not callable(sampler):
        raise ValueError(
            f"sampler: expected a function or None (names are config.sampler), got {sampler!r}"
        )


def draw(
    sampler: Sampler,
    config: ExplorationConfig,
    root: int,
    step: int,
    waiting: np.ndarray,
    *,
    probabilities: np.ndarray | None = None,
    features: np.ndarray | None = None,
    pool: Pool | None = None,
    again: int = 0,
    image_scorer: Callable[[np.ndarray], Any] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws the candidate sets of a step.

    Args:
        sampler: How.
        config: M and K.
        root: Of the episode.
        step: Whose sets they are.
        waiting: (n,) int64 indices into the pool, ascending.
        probabilities: See `SamplerInputs`; None for a sampler that does not look at it.
        features: See `SamplerInputs`.
        pool: See `SamplerInputs`.
        again: How often sets were drawn before in this step.
        image_scorer: See `SamplerInputs`.

    Returns:
        sets (M, K) int64 pool indices; and mask (M,) bool, which sets are real. What is no image
        is −1: the end of a set with fewer than K images, and sets that are not real.

    Raises:
        ValueError: The sampler returned something else.
    """
    shape = config.num_candidate_sets, config.set_size
    if not len(waiting):
        return np.full(shape, PADDING, np.int64), np.zeros(shape[0], bool)
    more = f" {again}" if again else ""
    seed = int(streams.generator(root, step, f"groups{more}").integers(2**31 - 1))
    rng = streams.generator(root, step, f"candidates{more}")
    inputs = SamplerInputs(
        read_only(waiting), probabilities, features, pool, shape[1], shape[0], rng, seed,
        image_scorer, step,
    )  # fmt: skip
    return _checked(sampler(inputs), waiting, shape)


def _checked(
    found: Any, waiting: np.ndarray, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns what a sampler found as sets (M, K) and mask (M,)."""
    if not isinstance(found, tuple | list) or len(found) != 2:
        raise ValueError(f"sampler: expected it to return (sets, mask), got {found!r}")
    if not np.iterable(found[0]):
        raise ValueError(f"sampler: expected it to return (sets, mask), got sets {found[0]!r}")
    rows, mask = [np.asarray(row) for row in found[0]], np.asarray(found[1])
    if mask.shape != (len(rows),) or not np.isin(mask, (0, 1)).all():
        raise ValueError(
            f"sampler: expected a mask of {len(rows)} booleans, one a set, got {found[1]!r}"
        )
    if len(rows) > shape[0]:
        raise ValueError(
            f"sampler: expected at most {shape[0]} sets (num_candidate_sets), got {len(rows)}"
        )
    sets, real = np.full(shape, PADDING, np.int64), np.zeros(shape[0], bool)
    for i in np.flatnonzero(mask):
        row = rows[i]
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise ValueError(
                f"sampler: expected sets of pool indices, got {row.dtype} of shape {row.shape} as "
                f"set {i}"
            )
        row = row[row != PADDING].astype(np.int64)
        if not 0 < len(row) <= shape[1] or len(np.unique(row)) < len(row):
            raise ValueError(
                f"sampler: expected sets of 1 to {shape[1]} different images (set_size), got "
                f"{row.tolist()} as set {i}; mask the sets that are not to be chosen"
            )
        sets[i, : len(row)], real[i] = row, True
    known = np.isin(sets[real], [PADDING, *waiting])
    if not known.all():
        raise ValueError(
            f"sampler: expected images that wait (inputs.waiting), got "
            f"{sets[real][~known].tolist()}"
        )
    return sets, real
