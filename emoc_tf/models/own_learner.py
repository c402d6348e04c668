"""Learners of your own: what one has to have, and what is checked while it is used."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import keras
import numpy as np

from emoc_tf.data.views import read_only
from emoc_tf.models.learner import check_arrays, diverged

_METHODS = ("train", "replace_model", "get_arrays", "set_arrays")
# Before the names of arrays that are the learner's own.
_PREFIX = "learner_"


class LearnerLike(Protocol):
    """Trains one model, that of an episode, in place.

    The library's own is `Learner`; `emoc_tf.testing.LearnerContract` has tests to inherit.

    A learner whose arrays go by image has one more method, `moved(arrays, place, count)`. It is
    called when a folder of images has other images, or others in between, than when the arrays were
    saved, and returns what `set_arrays` gets: arrays of `count` images, where image `place[i]` is
    what image `i` was then. `place` lacks images that are gone. It leaves the learner and the
    arrays given as they are.

    Example:
        >>> class Nothing:
        ...     def __init__(self, model, images): ...
        ...     def train(self, iterations, seed, labels, old, novel): ...
        ...     def replace_model(self, model): ...
        ...     def get_arrays(self):
        ...         return {}
        ...     def set_arrays(self, arrays): ...
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> env = ActiveExplorationEnv(learner=Nothing)
        >>> observation, info = env.reset(seed=0)  # at the initial weights
        >>> info["labelled"]
        40
    """

    def train(
        self,
        iterations: int,
        seed: np.ndarray,
        labels: np.ndarray,
        old: np.ndarray,
        novel: np.ndarray | None,
    ) -> None:
        """Trains the model.

        Args:
            iterations: Of the configuration: how many mini-batches are meant.
            seed: (2,) int32; what is learnt is a function of it, of the model, of what
                `get_arrays` returns and of the images and labels at `old` and `novel`.
            labels: (n_pool,) int64 columns of the model's output, below 0 where there is none;
                read-only, read at `old` and `novel` only.
            old: (n_old,) int64 indices of the images labelled before, ascending, with
                `pseudo_labels` also of those that the model named; there may be none.
            novel: (n_novel,) int64 indices of the set just labelled, n_novel > 0; None for `old`
                alone, which then is not empty.
        """

    def replace_model(self, model: keras.Model) -> None:
        """Trains another model from now on, which holds what was learnt.

        Args:
            model: The same layers with a new head, of more outputs (the old ones come first and are
                as they were) or of fewer (which are left is not told). Equal shapes mean equal
                outputs. What an optimizer keeps of a variable whose shape shrank is to be
                forgotten.
        """

    def get_arrays(self) -> dict[str, np.ndarray]:
        """Returns, by name, what `train` depends on besides the weights; they may be in it."""

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Takes over what `get_arrays` of a learner returned whose model had the same shapes.

        Raises:
            ValueError: Something is missing or has another shape.
        """


# Of the model to train and the pool's images, (n_pool, H, W, channels): an array, or anything with
# `len`, `shape`, `dtype` and indexing by integer arrays.
LearnerMaker = Callable[[keras.Model, Any], LearnerLike]


def check_maker(make: Any) -> None:
    """Raises `ValueError` unless a learner's maker is None or can be called."""
    if make is not None and not callable(make):
        raise ValueError(
            f"learner: expected a function of (model, images) that returns a learner, got {make!r}"
        )


class OwnLearner:
    """A learner of your own, checked: the model's weights are kept beside what it returns.

    Args:
        make: Makes it.
        model: What it trains.
        images: All that may ever be trained on; it gets a read-only view of an array.

    Raises:
        ValueError: What was made lacks a method, or its `train` takes other arguments.
    """

    def __init__(self, make: LearnerMaker, model: keras.Model, images: Any) -> None:
        check_maker(make)
        self._model = model
        self._made = make(model, read_only(images) if isinstance(images, np.ndarray) else images)
        _check_learner(self._made)

    def train(
        self,
        iterations: int,
        seed: np.ndarray,
        labels: np.ndarray,
        old: np.ndarray,
        novel: np.ndarray | None,
    ) -> None:
        """See `LearnerLike`; raises `FloatingPointError` if a weight is not finite afterwards."""
        novel = None if novel is None else read_only(novel)
        self._made.train(iterations, seed, read_only(labels), read_only(old), novel)
        for weight in self._model.weights:
            if "float" in weight.dtype and not np.isfinite(weight.numpy()).all():
                raise diverged(f"{weight.path} not finite")

    def replace_model(self, model: keras.Model) -> None:
        """See `LearnerLike`."""
        self._model = model
        self._made.replace_model(model)

    def get_arrays(self) -> dict[str, np.ndarray]:
        """See `LearnerLike`; raises `ValueError` if it returns no arrays of numbers or text."""
        arrays = _named(self._made.get_arrays(), "get_arrays")
        return arrays | {name: variable.numpy() for name, variable in self._variables().items()}

    def moved(
        self, arrays: Mapping[str, np.ndarray], place: Mapping[int, int], count: int
    ) -> dict[str, np.ndarray]:
        """Returns arrays of `get_arrays` for the images as they lie now, see `LearnerLike`.

        Args:
            arrays: What was saved; arrays of other names stay as they are.
            place: Index of now by index of then, of the images that are still there.
            count: How many images there are now.

        Raises:
            ValueError: The learner's `moved` refuses them or returns no arrays of numbers or text.
        """
        if not callable(move := getattr(self._made, "moved", None)):
            return dict(arrays)
        others = {name: a for name, a in arrays.items() if not name.startswith(_PREFIX)}
        return others | _named(move(_own(arrays), place, count), "moved")

    def set_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        """See `LearnerLike`."""
        check_arrays(self._variables(), arrays)
        try:
            self._made.set_arrays(_own(arrays))
        except KeyError as error:
            raise ValueError(
                f"learner: expected what its get_arrays returned, got arrays without {error}"
            ) from error
        for name, variable in self._variables().items():
            variable.assign(arrays[name])

    def _variables(self) -> dict[str, keras.Variable]:
        return {f"variable_{i}": v for i, v in enumerate(self._model.variables)}


def _own(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the arrays of a learner of your own as it names them."""
    return {n.removeprefix(_PREFIX): a for n, a in arrays.items() if n.startswith(_PREFIX)}


def _named(own: Any, method: str) -> dict[str, np.ndarray]:
    """Returns copies of what a method returned, named apart; raises `ValueError` if it is none."""
    if not isinstance(own, Mapping) or not all(isinstance(name, str) for name in own):
        raise ValueError(
            f"learner: expected a dictionary of named arrays from {method}, got {own!r}"
        )
    arrays = {f"{_PREFIX}{name}": np.array(array) for name, array in own.items()}
    if objects := [name for name in own if arrays[f"{_PREFIX}{name}"].dtype.hasobject]:
        raise ValueError(
            f"learner: expected arrays of numbers or text from {method}, got objects in {objects}"
        )
    return arrays


def _check_learner(made: Any) -> None:
    missing = [name for name in _METHODS if not callable(getattr(made, name, None))]
    if missing:
        raise ValueError(
            f"learner: expected a function that returns an object with the methods "
            f"{', '.join(_METHODS)}, got {type(made).__name__} without {', '.join(missing)}"
        )
    try:
        inspect.signature(made.train).bind(0, None, None, None, None)
    except TypeError as error:
        raise ValueError(
            f"learner: expected train(iterations, seed, labels, old, novel), got "
            f"{type(made).__name__}.train{inspect.signature(made.train)}: {error}"
        ) from None
    except ValueError:  # a signature that cannot be told, such as of a function in C
        return
