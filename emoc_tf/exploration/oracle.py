"""Who answers queries. True labels live here, not in the pool."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Query:
    """A candidate set that the oracle was asked about.

    Attributes:
        choice: Index of the set in `state.candidates`.
        classes: (k,) class ids, the answer; None while there is none.
    """

    choice: int
    classes: np.ndarray | None = None


class Oracle(Protocol):
    """Anything that can be asked for the classes of images: a data set's labels, or a person."""

    def label(self, indices: np.ndarray, images: np.ndarray) -> np.ndarray:
        """Returns the class ids of some pool images.

        Args:
            indices: (k,) int64, indices into the pool.
            images: (k, H, W, channels), the same images as they came from the data set.

        Returns:
            (k,) integer class ids of the data set.
        """
        ...


class AnswerError(ValueError):
    """An oracle's answer that is none."""


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


def ask(
    oracle: Oracle, indices: np.ndarray, images: np.ndarray, classes: tuple[int, ...]
) -> np.ndarray:
    """Asks the oracle and checks its answer.

    Raises:
        AnswerError: The answer is not (k,) integers among `classes`, the class ids of the
            episode. What the oracle itself raises is passed on.
    """
    given = oracle.label(indices, images)
    try:
        answer = np.asarray(given)
    except ValueError:
        answer = np.array(None)  # lists of several lengths
    if answer.shape != indices.shape or answer.dtype.kind not in "iu":
        raise AnswerError(
            f"oracle: expected {indices.shape} integer class ids, got {answer.dtype} of shape "
            f"{answer.shape}"
        )
    if not np.isin(answer, classes).all():
        raise AnswerError(
            f"oracle: expected class ids of the episode, {sorted(classes)}, got {answer.tolist()}"
        )
    return answer.astype(np.int64)
