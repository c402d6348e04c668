"""Pseudo-labels: waiting images that the model is sure of, learnt for one update as it names them.

After Wang, Zhang, Li, Zhang, Lin: Cost-effective active learning for deep image classification,
IEEE TCSVT 2017. An image of a class that nobody has named yet gets a wrong one, if any.
"""

import numpy as np

from emoc_tf import uncertainty
from emoc_tf.exploration.journal import Book
from emoc_tf.exploration.state import ExplorationState

# With the threshold of the source, 0.05, its decay of 1/300 a step.
_STEPS = 15


def threshold_at(first: float, step: int) -> float:
    """Returns δ of an update step: `first` at step 1, then less each step, and 0 from 16 on."""
    return first * max(0.0, 1 - (step - 1) / _STEPS)


def choose(
    probabilities: np.ndarray, waiting: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the images to be pseudo-labelled, and their most likely columns, (k,) each.

    Args:
        probabilities: (n_pool, C). With less than two classes there are none: all images would be
            sure, whatever they show.
        waiting: Indices of the images that may take part.
        threshold: δ ≥ 0; those with an entropy below it, in nats, are chosen.
    """
    posterior = probabilities[waiting]
    if posterior.shape[1] < 2:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    entropies = uncertainty.entropy(posterior) * np.log(posterior.shape[1])
    sure = entropies < threshold
    return np.asarray(waiting, np.int64)[sure], posterior[sure].argmax(axis=1)


def for_update(
    first: float,
    step: int,
    state: ExplorationState,
    waiting: np.ndarray,
    book: Book,
    true_labels: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
    """Returns what an update learns beside the answer.

    Args:
        first: δ at step 1.
        step: Of the update.
        state: Before the answer, whose posteriors tell.
        waiting: Indices of the images that wait after it.
        book: After it.
        true_labels: (n_pool,) class ids; None where nobody knows them.

    Returns:
        (k,) indices; (k,) columns of the output now; and their numbers, as the journal has them.
    """
    indices, columns = choose(state.probabilities, waiting, threshold_at(first, step))
    classes = _resolved(book, np.array(state.known_classes, np.int64)[columns])
    there = np.isin(classes, book.known)
    indices, classes = indices[there], classes[there]
    told = {"pseudo_labels": len(indices)}
    if true_labels is not None:
        wrong = classes != _resolved(book, true_labels[indices])
        told["pseudo_labels_wrong"] = int(np.count_nonzero(wrong))
    column_of = {class_id: column for column, class_id in enumerate(book.known)}
    return indices, np.array([column_of[c] for c in classes.tolist()], np.int64), told


def used(book: Book, step: int, counts_wrong: bool) -> dict[str, int | None]:
    """Returns how many pseudo-labels an update step has learnt, and how many of them are wrong.

    Args:
        book: With the journal.
        step: Of the update; 0 after pretraining, which learns none.
        counts_wrong: Whether true labels are known; the number of wrong ones is None otherwise.
    """
    told = {"pseudo_labels": 0, "pseudo_labels_wrong": 0 if counts_wrong else None}
    for entry in book.entries:
        if entry.kind == "learn" and entry.step == step and entry.pseudo_labels is not None:
            told = {name: getattr(entry, name) for name in told}
    return told


def _resolved(book: Book, classes: np.ndarray) -> np.ndarray:
    return np.array([book.resolve(c) for c in classes.tolist()], np.int64)
