"""Who answers queries. True labels live here, not in the pool."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import numpy as np

from emoc_tf.exploration.answers import Answer, read

_NOBODY = np.zeros(0, np.int64)


@dataclass(frozen=True, eq=False)
class Query:
    """Images that somebody is asked about.

    Attributes:
        choice: Index of the candidate set when it was chosen; None for the images of an audit.
        classes: (k,) class ids, `SKIP` or `REJECT`: the answer; None while there is none.
        indices: (k,) int64 pool indices of the images.
        new_classes: Names of classes in the answer that the list lacked.
        guesses: (k,) class ids that the model predicted when it was asked; empty if it knew none,
            and for an audit, whose answers they might sway.
        number: Tells the open queries of an exploration apart.
        images: (k, H, W, channels), the images as they came.
        class_names: Of the classes there were when it was asked, by class id.
        born: Number of the journal's entry that each of them came with, −1 at the start.
    """

    choice: int | None
    classes: np.ndarray | None = None
    indices: np.ndarray = field(default_factory=lambda: _NOBODY)
    new_classes: tuple[str, ...] = ()
    guesses: np.ndarray = field(default_factory=lambda: _NOBODY)
    number: int = 0
    images: np.ndarray | None = None
    class_names: tuple[str, ...] = ()
    born: tuple[int, ...] = ()

    def answered(self, answer: Answer) -> Self:
        """Returns the query with its answer."""
        return dataclasses.replace(
            self, classes=answer.labels, new_classes=tuple(answer.new_classes)
        )

    def of_images(self, place: Mapping[int, int]) -> Self:
        """Returns the query for images at other indices, without those that have none."""
        kept = np.array([i for i, index in enumerate(self.indices) if int(index) in place], int)
        arrays = {
            name: value[kept]
            for name in ("classes", "guesses")
            if (value := getattr(self, name)) is not None and len(value)
        }
        indices = np.array([place[int(i)] for i in self.indices[kept]], np.int64)
        return dataclasses.replace(self, indices=indices, **arrays)

    def to_dict(self) -> dict[str, Any]:
        """Returns what is not in the pool as JSON values."""
        return {
            "choice": self.choice,
            "classes": None if self.classes is None else self.classes.tolist(),
            "indices": self.indices.tolist(),
            "new_classes": list(self.new_classes),
            "guesses": self.guesses.tolist(),
            "number": self.number,
            "class_names": list(self.class_names),
            "born": list(self.born),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Returns what `to_dict` was called of, without images."""
        arrays = ("classes", "indices", "guesses")
        return cls(
            **{
                name: np.array(value, np.int64)
                if name in arrays and value is not None
                else tuple(value)
                if name in ("new_classes", "class_names", "born")
                else value
                for name, value in told.items()
            }
        )


class Oracle(Protocol):
    """Anything that can be asked for the classes of images: a data set's labels, or a person.

    One that has `set_classes(class_names)` is told the names of the classes, by class id, at the
    beginning and whenever the list has grown.

    Example:
        >>> import numpy as np
        >>> from emoc_tf import SKIP, Task
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> class Person:
        ...     def label(self, indices, images):
        ...         return [SKIP if image.mean() < 100 else "bright" for image in images]
        >>> images = np.linspace(0, 255, 20).astype(np.uint8).reshape(20, 1, 1, 1)
        >>> env = ActiveExplorationEnv(task=Task(images), oracle=Person(), set_size=4)
        >>> _ = env.reset(seed=0)
        >>> _ = env.step(env.action_masks().argmax())
        >>> env.exploration.class_names
        ('bright',)
    """

    def label(self, indices: np.ndarray, images: np.ndarray) -> Any:
        """Returns what some pool images show.

        Args:
            indices: (k,) int64, indices into the pool.
            images: (k, H, W, channels), the same images as they came.

        Returns:
            (k,) class ids, `emoc_tf.SKIP` or `emoc_tf.REJECT`; or names; or an `emoc_tf.Answer`,
            which may name new classes.
        """
        ...


class LabelOracle:
    """Answers from the data set's own labels.

    Args:
        labels: (n_pool,) class ids of all pool images.
    """

    def __init__(self, labels: np.ndarray) -> None:
        self._labels = labels

    def label(self, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the true class ids; see `Oracle.label`."""
        return self._labels[indices]


def check_oracle(oracle: Oracle | None) -> None:
    """Raises `ValueError` for what cannot be asked; None stands for the labels of the data."""
    if oracle is not None and not callable(getattr(oracle, "label", None)):
        raise ValueError(f"oracle: expected an object with label(indices, images), got {oracle!r}")


def tell_classes(oracle: Any, class_names: Sequence[str]) -> None:
    """Tells an oracle that wants to know which classes there are."""
    told = getattr(oracle, "set_classes", None)
    if callable(told):
        told(tuple(class_names))


def ask(
    oracle: Oracle, indices: np.ndarray, images: np.ndarray, class_names: Sequence[str]
) -> Answer:
    """Asks the oracle and reads its answer.

    Raises:
        AnswerError: The answer is none, see `answers.read`. What the oracle itself raises is passed
            on.
    """
    return read(oracle.label(indices, images), len(indices), class_names)
