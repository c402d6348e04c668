"""What a step led to: accuracy on test data, on the answers themselves, and on an audit."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from emoc_tf.exploration.answers import by_form, form_of
from emoc_tf.exploration.episode import Episode
from emoc_tf.exploration.journal import Book


@dataclass(frozen=True, eq=False)
class StepOutcome:
    """What one step of an exploration led to.

    Attributes:
        step: 0 after pretraining, then the number of sets answered.
        labelled: Labelled images, the initial ones included.
        test_accuracy: On the test images of all known and novel classes; an undiscovered class
            counts as an error. None without test data, as are the two that follow.
        known_accuracy: On the test images of the classes known at the start; None if there are
            none.
        novel_accuracy: On the test images of the others; None if there are none.
        discovered_classes: Classes discovered so far.
        chosen_set: Index of the set that was answered; None at step 0.
        queried_class: Class id of that set, the most frequent if there are several; None at 0, and
            if no image of it got a class.
        class_recall: (classes,) share of the test images of each class that is recognised, in the
            order of `Episode.classes`, NaN where there are none; empty without test data.
        answer_accuracy: Share of the images just answered whose class the model had predicted
            before it learnt them, None if none got a class. It is no estimate for the pool, since
            a policy chose the images.
        audit_accuracy: On the audit images, which were drawn uniformly from the pool; None without.
        audit_low: Lower end of its 95% interval (Wilson's).
        audit_high: Upper end.
        stopped: Why to stop: a rule of `stop_when` holds, or each image that waits was skipped
            since something was last said. None if there is no reason.
        pseudo_labels: How many images the update learnt as the model named them; None without the
            setting.
        pseudo_labels_wrong: How many of them are of another class; None where nobody knows.

    Example:
        >>> from emoc_tf.envs import ActiveExplorationEnv
        >>> env = ActiveExplorationEnv(set_size=5, update_iterations=20)
        >>> _ = env.reset(seed=0)
        >>> _ = env.step(0)
        >>> outcome = env.outcome
        >>> outcome.step, outcome.labelled  # four known classes with ten images each, and a set
        (1, 45)
        >>> sorted(outcome.to_dict())[:4]
        ['answer_accuracy', 'audit_accuracy', 'audit_high', 'audit_low']
    """

    step: int
    labelled: int
    test_accuracy: float | None
    known_accuracy: float | None
    novel_accuracy: float | None
    discovered_classes: int
    chosen_set: int | None
    queried_class: int | None
    class_recall: np.ndarray
    answer_accuracy: float | None = None
    audit_accuracy: float | None = None
    audit_low: float | None = None
    audit_high: float | None = None
    stopped: str | None = None
    pseudo_labels: int | None = None
    pseudo_labels_wrong: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        recalls = [None if math.isnan(r) else r for r in self.class_recall.tolist()]
        return {**vars(self), "class_recall": recalls}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Returns what `to_dict` was called of."""
        return cls(**{**fields, "class_recall": np.array(fields["class_recall"], np.float64)})


def audit_hits(
    book: Book,
    known: Sequence[int],
    num_images: int,
    logits_of: Callable[[np.ndarray], np.ndarray],
) -> tuple[int, int] | None:
    """Returns how many audit images the model has right, and how many have a class; None if none.

    Args:
        book: With the audit's answers.
        known: Classes of the outputs.
        num_images: In the pool; others are gone.
        logits_of: Function of (k,) pool indices that returns logits (k, at least C).
    """
    images = np.array([index for index in sorted(book.audited) if index < num_images], np.int64)
    if not len(images):
        return None
    truth = np.array([book.audited[index] for index in images])
    right = np.zeros(len(truth), bool)
    if known:
        columns = logits_of(images)[:, : len(known)].argmax(axis=1)
        right = np.array(known)[columns] == truth
    return int(right[truth >= 0].sum()), int((truth >= 0).sum())


def evaluate(
    episode: Episode,
    book: Book,
    logits: np.ndarray | None,
    audit: tuple[int, int] | None,
    *,
    step: int,
    chosen_set: int | None,
    queried_class: int | None,
    answer_accuracy: float | None,
) -> StepOutcome:
    """Returns the outcome of a step.

    Args:
        episode: Whose test labels are compared with.
        book: What is known.
        logits: (n_test, C) of `episode.test_images`; None without test data.
        audit: How many audit images are predicted right, and how many there are; None without.
        step: Passed on to the outcome, as are the following.
        chosen_set: See `StepOutcome`.
        queried_class: See `StepOutcome`.
        answer_accuracy: See `StepOutcome`; told without test data only.
    """
    total = known = novel = None
    recalls = np.zeros(0)
    if logits is not None:
        truth = _test_ids(episode, book)
        correct = _predicted(logits, book.known) == truth
        is_known = np.isin(truth, episode.classes[: episode.num_known])
        total, known, novel = (
            _share(part) for part in (correct, correct[is_known], correct[~is_known])
        )
        recalls = np.array([_share(correct[truth == c]) for c in episode.classes], np.float64)
    right = low = high = None
    if audit is not None and audit[1]:
        right, (low, high) = audit[0] / audit[1], wilson(*audit)
    return StepOutcome(
        step=step,
        labelled=int((book.pool_labels >= 0).sum()),
        test_accuracy=total,
        known_accuracy=known,
        novel_accuracy=novel,
        discovered_classes=len(set(book.known) - {book.resolve(c) for c in book.start[2]}),
        chosen_set=chosen_set,
        queried_class=queried_class,
        class_recall=recalls,
        answer_accuracy=answer_accuracy if logits is None else None,
        audit_accuracy=right,
        audit_low=low,
        audit_high=high,
    )


def _predicted(logits: np.ndarray, known: Sequence[int]) -> np.ndarray:
    """Returns the class id of the highest output, (n,); −1 if no class is known."""
    if not known:
        return np.full(len(logits), -1)
    return np.array(known)[logits.argmax(axis=1)]


def _test_ids(episode: Episode, book: Book) -> np.ndarray:
    """Returns the class id of each test image, −2 for a class that nobody has named yet."""
    ids = {name: i for i, name in reversed(list(enumerate(book.class_names)))}
    ids = by_form(book.class_names) | ids
    found = [ids.get(name, ids.get(form_of(name))) for name in episode.test_names]
    table = [-2 if class_id is None else book.resolve(class_id) for class_id in found]
    return np.array(table)[episode.test_labels]


def _share(correct: np.ndarray) -> float | None:
    return float(correct.mean()) if len(correct) else None


def answer_accuracy(guesses: np.ndarray, labels: np.ndarray) -> float | None:
    """Returns the share of images with a class whose class had been predicted; None if none."""
    labelled = labels >= 0
    if not labelled.any():
        return None
    if not len(guesses):  # no class was known
        return 0.0
    return float((guesses == labels)[labelled].mean())


def wilson(right: int, count: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Returns Wilson's score interval of a share, 95% unless another quantile is given.

    E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.

    Args:
        right: How many, at most `count`.
        count: Of how many, at least 1.
        z: Quantile of the normal distribution.
    """
    share, square = right / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)
