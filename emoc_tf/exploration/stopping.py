"""When to stop before the pool runs out: rules on what the answers have shown."""

from collections.abc import Sequence

import numpy as np

from emoc_tf.exploration.journal import Book
from emoc_tf.exploration.outcome import StepOutcome, answer_accuracy


def reason(rules: Sequence[tuple[str, float]], outcome: StepOutcome, book: Book) -> str | None:
    """Returns why to stop, in words; None if there is no reason.

    Args:
        rules: See `config.stop_rules`.
        outcome: Of the last step.
        book: With the journal of all answers.
    """
    answers, known, found_new = [], set(book.start[2]), []
    for entry in book.live():
        labels = {book.resolve(label) for label in entry.labels if label >= 0}
        if entry.kind == "answer" and labels:  # one that names nothing tells nothing
            answers.append(entry)
            found_new.append(not labels <= known)
        known |= labels if entry.kind != "audit" else set()
    for name, value in rules:
        if name == "audit":
            if outcome.audit_accuracy is not None and outcome.audit_accuracy >= value:
                return f"audit accuracy {outcome.audit_accuracy:.3f} has reached {value:g}"
            continue
        last = int(value)
        if len(answers) < last:
            continue
        if name == "right" and all(
            answer_accuracy(np.array(e.guesses), np.array(e.labels)) == 1 for e in answers[-last:]
        ):
            return f"the model had the answers of {last} sets in a row right"
        if name == "no_new" and not any(found_new[-last:]):
            return f"no new class in {last} sets in a row"
    return None
