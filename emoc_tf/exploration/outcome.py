"""Test accuracy and discovery after a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from emoc_tf.exploration.episode import Episode


@dataclass(frozen=True, eq=False)
class StepOutcome:
    """What one step of an exploration led to.

    Attributes:
        step: 0 after pretraining, then the number of sets labelled.
        labelled: Labelled images, the initial ones included.
        test_accuracy: On the test images of all known and novel classes; an undiscovered class
            counts as an error.
        known_accuracy: On the test images of the classes known at the start.
        novel_accuracy: On the test images of the novel classes; None if there are none.
        discovered_classes: Classes discovered so far.
        chosen_set: Index of the set that was labelled; None at step 0.
        queried_class: Class id of that set, the most frequent if there are several; None at 0.
        class_recall: (known + novel,) share of the test images of each class that is recognised,
            in the order of `Episode.classes`.
    """

    step: int
    labelled: int
    test_accuracy: float
    known_accuracy: float
    novel_accuracy: float | None
    discovered_classes: int
    chosen_set: int | None
    queried_class: int | None
    class_recall: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {**vars(self), "class_recall": self.class_recall.tolist()}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """Returns what `to_dict` was called of."""
        return cls(**{**fields, "class_recall": np.array(fields["class_recall"], np.float64)})


def evaluate(
    episode: Episode,
    logits: np.ndarray,
    known_classes: list[int],
    *,
    step: int,
    labelled: int,
    chosen_set: int | None,
    queried_class: int | None,
) -> StepOutcome:
    """Evaluates a model's logits on the test images.

    Args:
        episode: Whose test labels are compared with.
        logits: (n_test, C) of `episode.test_images`.
        known_classes: Class id of each column.
        step: Passed on to the outcome, as are the following.
        labelled: See `StepOutcome`.
        chosen_set: See `StepOutcome`.
        queried_class: See `StepOutcome`.
    """
    predicted = np.array(known_classes)[logits.argmax(axis=1)]
    correct = predicted == episode.test_labels
    is_known = np.isin(episode.test_labels, episode.classes[: episode.num_known])
    return StepOutcome(
        step=step,
        labelled=labelled,
        test_accuracy=float(correct.mean()),
        known_accuracy=float(correct[is_known].mean()),
        novel_accuracy=None if is_known.all() else float(correct[~is_known].mean()),
        discovered_classes=len(known_classes) - episode.num_known,
        chosen_set=chosen_set,
        queried_class=queried_class,
        class_recall=np.array([correct[episode.test_labels == c].mean() for c in episode.classes]),
    )
