"""When to stop before the pool runs out: rules on what the answers have shown."""

from collections.abc import Sequence

import numpy as np

from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.answers import SKIP
from emoc_tf.exploration.journal import Book, Entry
from emoc_tf.exploration.outcome import StepOutcome, answer_accuracy
from emoc_tf.values import stop_rules


def reason(rules: Sequence[tuple[str, float]], outcome: StepOutcome, book: Book) -> str | None:
    """Returns why to stop, in words; None if there is no reason.

    Args:
        rules: See `values.stop_rules`.
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
        if name == "right" and all(_was_right(each, book) for each in answers[-last:]):
            return f"the model had the answers of {last} sets in a row right"
        if name == "no_new" and not any(found_new[-last:]):
            return f"no new class in {last} sets in a row"
    return None


def _was_right(answer: Entry, book: Book) -> bool:
    """Whether the model had named all images of an answer as they are named today."""
    guesses = np.array([book.resolve(guess) for guess in answer.guesses])
    today = book.labels[np.array(answer.indices)]
    return answer_accuracy(guesses, np.where(np.array(answer.labels) >= 0, today, SKIP)) == 1


def nobody_knows(book: Book, waiting: np.ndarray) -> str | None:
    """Returns in words that asking on leads nowhere; None if it may lead somewhere.

    Nothing changes where all images of an answer are skipped, so that an oracle that knows none of
    them would be asked for ever.

    Args:
        book: With the journal of all answers.
        waiting: (n,) pool indices of the images that wait for an answer, those in open queries
            included.
    """
    skipped: set[int] = set()
    count = 0
    for entry in reversed(book.live()):
        taught = any(label != SKIP for label in entry.labels)
        if entry.kind == "correct" or (entry.kind == "answer" and taught):
            break
        if entry.kind == "answer":
            skipped |= set(entry.indices)
            count += 1
    if not count or not len(waiting):
        return None
    if np.isin(waiting, list(skipped)).all():
        return "each image that waits was skipped since something was last said"
    if count >= 2 * len(waiting):  # some can be in no set, since too few are like them
        return f"all images of {count} sets in a row were skipped"
    return None


def check_rules(config: ExplorationConfig, most: int | None, why: str) -> None:
    """Refuses rules that can never hold, with which an episode would silently never end.

    Args:
        config: With `stop_when`.
        most: How many sets can be answered at most; None if nobody knows.
        why: Where that comes from.

    Raises:
        ValueError: There is such a rule.
    """
    for name, value in stop_rules(config.stop_when) if config.stop_when else ():
        if name == "audit":
            if not config.audit:
                raise ValueError(
                    f"stop_when: expected audit={value:g} beside images that are audited, such as "
                    f"audit=30, got audit=0, with which it could never hold"
                )
        elif most is not None and value > most:
            raise ValueError(
                f"stop_when: expected {name} of at most {most} sets in a row, since {why}, got "
                f"{name}={value:g}, which could never hold"
            )
