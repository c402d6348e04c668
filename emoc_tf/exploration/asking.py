"""Questions and answers: queries that are opened and answered in any order."""

import dataclasses
from typing import Any

import numpy as np

from emoc_tf.exploration.answers import Answer, read
from emoc_tf.exploration.corrections import Corrections
from emoc_tf.exploration.journal import Entry
from emoc_tf.exploration.oracle import Query, ask
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.exploration.whereabouts import Gone


class Asking(Corrections):
    """The part of an `Exploration` that asks and takes answers."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes by class id, those that answers brought included."""
        return tuple(self._book.class_names)

    @property
    def journal(self) -> tuple[Entry, ...]:
        """All that was said in this episode, and what the model learnt of it."""
        return tuple(self._book.entries)

    @property
    def labels(self) -> np.ndarray:
        """(n_pool,) class id of each image as it is known now, `SKIP` or `REJECT`; a copy."""
        return self._book.pool_labels.copy()

    @property
    def gone(self) -> tuple[Gone, ...]:
        """Images of a task that are not there any more; what was said of them is kept.

        In the journal the first has the index behind the pool's last, and so on.
        """
        return tuple(self._gone)

    @property
    def queries(self) -> tuple[Query, ...]:
        """The open queries that `ask` has returned and `answer` has not got yet."""
        return tuple(self._asked)

    def ask(self, choice: int) -> Query:
        """Opens a query: the first half of `advance`. Any number may be open.

        Sets that share an image with it are masked in `state` until it is answered.

        Args:
            choice: Index of a set whose `state.candidate_mask` is True.

        Raises:
            RuntimeError: There is no episode, or its last step did not come to its end.
            ValueError: The set does not exist.
        """
        self._check_running("ask")
        self._check_learnt("ask")
        query = self._query(choice)
        self.query = None  # one of `advance` that nobody answered is given up
        self._asked.append(query)
        self._hide(query.indices)
        self._tell()
        return query

    def ask_again(self, entry: Entry) -> Query:
        """Opens a query about images of an answer that was taken back or skipped.

        Args:
            entry: Of the journal, `answer` or `audit`. Only those of its images are asked about
                that wait for an answer and are in no open query.

        Raises:
            RuntimeError: There is no episode, or its last step did not come to its end.
            ValueError: None of its images waits.
        """
        self._check_running("ask_again")
        self._check_learnt("ask_again")
        audited = [i for i in self._audit.tolist() if i not in self._book.audited]
        waiting = audited if entry.kind == "audit" else self._waiting()
        waits = np.isin(entry.indices, np.setdiff1d(waiting, self._hidden()))
        indices = np.array(entry.indices, np.int64)[waits]
        if not len(indices):
            raise ValueError("entry: expected one with an image that waits, got none of them")
        guesses = self._guesses(indices) if entry.kind != "audit" else indices[:0]
        query = self._shown(Query(entry.choice, indices=indices, guesses=guesses))
        self.query = None
        self._asked.append(query)
        self._hide(indices)
        self._tell()
        return query

    def answer(self, query: Query, answer: Any) -> StepOutcome:
        """Takes the answer of a query and learns it: the second half of `advance`.

        Args:
            query: One of `queries`; in any order.
            answer: What an oracle may return, see `Oracle.label`.

        Raises:
            RuntimeError: There is no episode, or its last step did not come to its end.
            ValueError: The query is not open or was answered otherwise, or the answer is none;
                nothing has changed then.
            FloatingPointError: Training diverged.
        """
        self._check_running("answer")
        place = self._place(query)
        found = self._asked[place]
        self._check_learnt("answer", found.number)
        self._check_list(found, answer)
        said = read(answer, len(found.indices), self.class_names, self._former(found))
        self._check_ids(found, answer)
        if found.classes is not None and not np.array_equal(found.classes, said.labels):
            raise ValueError(
                f"answer: expected {found.classes.tolist()}, which it was answered with, got "
                f"{said.labels.tolist()}; correct changes it later"
            )
        found = self._asked[place] = found.answered(said)
        self.query = None
        self._tell()
        if found.choice is not None:
            return self._learn(found)
        del self._asked[place]
        self._take_audit(found)
        self.outcomes[-1] = self._evaluate(*self._last)
        return self.outcomes[-1]

    def withdraw(self, query: Query) -> None:
        """Closes an open query without an answer; its images may be asked about again.

        Raises:
            RuntimeError: There is no episode, or its last step did not come to its end.
            ValueError: It is not open, or has been answered.
        """
        self._check_running("withdraw")
        place = self._place(query)
        if self._asked[place].classes is not None or self._asked[place].choice is None:
            raise ValueError("query: expected one that has not been answered, of a candidate set")
        self._check_learnt("withdraw")
        self.query = None
        del self._asked[place]
        self._draw_again()
        self._tell()

    def _query(self, choice: int) -> Query:
        """Returns a query of a candidate set."""
        mask = self.state.candidate_mask
        if not (0 <= choice < len(mask) and mask[choice]):
            raise ValueError(
                f"choice: expected the index of one of the {mask.sum()} candidate sets, "
                f"got {choice!r}"
            )
        indices = self.state.candidates[choice]
        indices = indices[indices >= 0]  # a set of your own sampler may have fewer than K images
        return self._shown(Query(int(choice), indices=indices, guesses=self._guesses(indices)))

    def _shown(self, query: Query) -> Query:
        """Returns a query with images and class names, and a number that no open one has."""
        number = query.number or 1 + max((each.number for each in self._asked), default=0)
        images = self.episode.raw_images[query.indices]
        asked = {}
        if not query.number:  # else it is one of then
            asked = {"class_names": self.class_names, "born": tuple(self._book.born)}
        return dataclasses.replace(query, images=images, number=number, **asked)

    def _check_list(self, query: Query, answer: Any) -> None:
        """Refuses ids of new classes where the list that they go on from is another one now."""
        if not isinstance(answer, Answer) or not len(tuple(answer.new_classes)):
            return  # all ids are those of classes that are there
        if self.class_names == query.class_names:
            return
        labels = np.asarray(answer.labels)
        ends = len(query.class_names), len(self.class_names)
        if labels.dtype.kind in "iu" and (labels >= min(ends)).any():
            raise ValueError(
                f"answer: expected names of new classes in place of ids, since the list has other "
                f"classes than when it was asked ({len(self.class_names)}, then "
                f"{len(query.class_names)}), got {labels.tolist()}"
            )

    def _former(self, query: Query) -> dict[str, int]:
        """Returns the ids of classes that are still there by their names when it was asked."""
        born = self._book.born[: len(query.born)]
        there = [i for i, number in enumerate(born) if number == query.born[i]]
        return {query.class_names[i]: i for i in reversed(there)}

    def _check_ids(self, query: Query, answer: Any) -> None:
        """Refuses ids of classes that were taken back since, whatever they mean now."""
        given, born = answer.labels if isinstance(answer, Answer) else answer, self._book.born
        for label in given if np.iterable(given) else [given]:
            if not isinstance(label, int | np.integer) or not 0 <= label < len(query.born):
                continue
            if born[label : label + 1] != [query.born[label]]:
                raise ValueError(
                    f"answer: expected classes that are there, got {label}, which was "
                    f"{query.class_names[label]!r} when it was asked and was taken back since"
                )

    def _guesses(self, indices: np.ndarray) -> np.ndarray:
        """Returns the class that the model predicts for some images; empty if it knows none."""
        if not self._known:
            return np.zeros(0, np.int64)
        return np.array(self._known)[self.state.probabilities[indices].argmax(axis=1)]

    def _place(self, query: Query) -> int:
        for place, each in enumerate(self._asked):
            if each.number == query.number and np.array_equal(each.indices, query.indices):
                return place
        raise ValueError(f"query: expected one of the {len(self._asked)} open queries, got another")

    def _ask_oracle(self, query: Query) -> Query:
        return query.answered(
            ask(self._oracle, query.indices, query.images, self._book.class_names)
        )

    def _take_audit(self, query: Query) -> None:
        """Enters what audit images show."""
        answer = tuple(query.indices.tolist()), tuple(query.classes.tolist())
        self._enter(Entry("audit", self._step, *answer, query.new_classes))
