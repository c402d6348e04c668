"""What is said about images and classes later: corrections, and answers taken back."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emoc_tf.exploration.answers import Answer, AnswerError, by_form, form_of, read
from emoc_tf.exploration.course import Course
from emoc_tf.exploration.journal import Entry
from emoc_tf.exploration.oracle import Query


class Corrections(Course):
    """The part of an `Exploration` that changes what was said; the model follows at once.

    A class that is said for the first time gets an output, one that was found and has no image left
    loses its own. What images show is learnt with the next update.
    """

    query: Query | None
    on_query: Callable[[], None] | None

    def _say(self, *entries: Entry, tell: bool = True) -> None:
        """Enters what was said; other images wait then, so that candidate sets are drawn anew."""
        self._running, self.query = False, None
        known = list(self._known)
        for entry in entries:
            self._enter(entry)
            self._follow()
        if self._known == known:
            self.state = dataclasses.replace(self.state, pool=self._pool.snapshot())
            self._draw_again()
        else:
            self._draws += 1
            self._look()
        self._running = True
        if tell and self.on_query is not None:
            self.on_query()

    def _check_images(self, indices: Any) -> np.ndarray:
        """Returns pool indices as (k,) int64, of images in no open query."""
        self._check_running("correct")
        self._check_learnt("correct")
        return check_indices(indices, len(self._pool), self._hidden())

    def correct(self, indices: Any, labels: Any) -> None:
        """Changes what images show, whoever said it before.

        Args:
            indices: (k,) pool indices, or a mask (n_pool,), none of them in an open query; or one
                index, for one label.
            labels: What an oracle may answer, see `Oracle.label`: class ids, names, an `Answer`;
                `SKIP` brings an image back into the pool.

        Raises:
            RuntimeError: There is no episode, or its last step was broken off.
            ValueError: There are no such images, or the labels are none; nothing has changed then.
        """
        if isinstance(indices, int | np.integer) and not isinstance(indices, bool):
            indices = [indices]
            if isinstance(labels, str) or (
                not np.iterable(labels) and not isinstance(labels, Answer)
            ):
                labels = [labels]
        where = self._check_images(indices)
        try:
            said = read(labels, len(where), self._book.class_names)
        except AnswerError as error:
            raise ValueError(str(error).replace("oracle:", "labels:")) from None
        if len(where):
            self._say(
                Entry(
                    "correct",
                    self._step,
                    tuple(where.tolist()),
                    tuple(said.labels.tolist()),
                    tuple(said.new_classes),
                )
            )

    def undo(self) -> Entry:
        """Takes back the newest answer, correction, renaming or merging that still stands.

        Its images are what they were before: those of an answer wait in the pool again. The model
        is not trained anew: it learns no more of what was taken back, from the next update on.

        Returns:
            What was taken back.

        Raises:
            RuntimeError: There is no episode, or its last step was broken off.
            ValueError: There is nothing left to take back, or it is about an image that is in an
                open query.
        """
        self._check_images([])
        number = self._book.last_said()
        if number is None:
            raise ValueError("undo: expected an answer or correction to take back, got none left")
        entry = self._book.entries[number]
        self._check_images([i for i in entry.indices if i < len(self._pool)])
        self._say(Entry("undo", self._step, of=(number,)))
        return entry

    def rename(self, class_id: int | str, name: str) -> None:
        """Gives a class, by its id or name, another name.

        Raises:
            RuntimeError: There is no episode, or its last step was broken off.
            ValueError: There is no such class, or another one has this name (see `merge`).
        """
        self._check_images([])
        class_id = self._check_class("class_id", class_id)
        self._check_new(name, "; merge joins two classes")
        self._say(Entry("rename", self._step, class_id=class_id, name=name.strip()))

    def merge(self, class_id: int | str, into: int | str) -> None:
        """Makes the images of a class those of another one; its id stands for that one then.

        Args:
            class_id: Which class, by id or name.
            into: Which other one.

        Raises:
            RuntimeError: There is no episode, or its last step was broken off.
            ValueError: There are no two such classes.
        """
        self._check_images([])
        class_id, into = self._check_class("class_id", class_id), self._check_class("into", into)
        if class_id == into:
            raise ValueError(f"into: expected another class than class_id, got {into} for both")
        self._say(Entry("merge", self._step, class_id=class_id, into=into))

    def split(self, indices: Sequence[int] | np.ndarray, name: str) -> None:
        """Makes some images those of a new class; `correct` with one new name.

        Raises:
            RuntimeError: There is no episode, or its last step was broken off.
            ValueError: There are no such images, or the name is taken or none.
        """
        where = self._check_images(indices)
        self._check_new(name)
        self.correct(where, [name] * len(where))

    def _check_new(self, name: Any, remedy: str = "") -> None:
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"name: expected a name, got {name!r}")
        if form_of(name) in by_form(self._book.class_names):
            raise ValueError(f"name: expected a new name, got {name!r} of a class{remedy}")

    def _check_running(self, call: str) -> None:
        if not self._running:
            raise RuntimeError(
                f"{call}: expected a call of reset first, since there is no episode or its last "
                f"step was broken off"
            )

    def _check_learnt(self, call: str, number: int | None = None) -> None:
        """Raises `RuntimeError` if a set was answered and is not learnt, but that of a number.

        It happens where `on_query` raised, or the process ended. The ids of the classes that an
        answer brings go on where the list ended then.
        """
        if self.query is not None and self.query.classes is not None:
            raise RuntimeError(
                f"{call}: expected a call of advance({self.query.choice}) first, since its set "
                f"has been answered and is not learnt yet"
            )
        for query in self._asked:
            if query.classes is not None and query.number != number:
                raise RuntimeError(
                    f"{call}: expected a call of answer first for query number {query.number}, "
                    f"which has been answered and is not learnt yet"
                )

    def _check_class(self, argument: str, class_id: Any) -> int:
        names = self._book.class_names
        if isinstance(class_id, str) and class_id in names:
            class_id = names.index(class_id)
        elif isinstance(class_id, str):
            class_id = by_form(names).get(form_of(class_id), class_id)
        count = len(names)
        number = isinstance(class_id, int | np.integer) and not isinstance(class_id, bool)
        if not number or not 0 <= class_id < count:
            raise ValueError(
                f"{argument}: expected a class id in [0, {count}) or the name of a class, got "
                f"{class_id!r}"
            )
        return self._book.resolve(int(class_id))


def check_indices(indices: Any, count: int, hidden: np.ndarray) -> np.ndarray:
    """Returns pool indices as (k,) int64.

    Raises:
        ValueError: They are not different integers in [0, count), or some are in an open query.
    """
    array = np.asarray(indices)
    if array.dtype == bool and array.shape == (count,):
        array = np.flatnonzero(array)
    if not array.size:
        array = np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu" or len(np.unique(array)) < len(array):
        raise ValueError(f"indices: expected different pool indices, got {indices!r}")
    if array.size and not 0 <= array.min() <= array.max() < count:
        raise ValueError(f"indices: expected pool indices in [0, {count}), got {array.tolist()}")
    asked = array[np.isin(array, hidden)]
    if asked.size:
        raise ValueError(
            f"indices: expected images of no open query, got {asked.tolist()}; answer it first"
        )
    return array.astype(np.int64)
