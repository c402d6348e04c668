"""The world of random tasks: what is begun, what is said, and what has to hold all the time."""

import tempfile
from pathlib import Path

import keras
import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
)

from emoc_tf import REJECT, SKIP, Answer, ExplorationConfig, Task
from emoc_tf.exploration import Exploration
from tests.exploration.books import Annotator, Books, Counting


class Killed(BaseException):
    """In place of the end of the process."""


kinds = st.sampled_from(["id", "listed name", "new name", "same new name", "skip", "reject"])
forms = st.sampled_from(["list", "objects", "answer", "masked"])
one = st.tuples(kinds, st.integers(0, 5))
fractions = st.floats(0, 0.999)


class TaskWorld(RuleBasedStateMachine):
    """A task with the books that it should have; operations are added by who inherits."""

    @initialize(
        labels=st.lists(st.integers(-2, 3), min_size=1, max_size=14),
        num_names=st.integers(0, 3),
        sets=st.integers(1, 5),
        size=st.integers(1, 3),
        sampler=st.sampled_from(["single_class", "uniform", "cluster", "minibatch-cluster"]),
        audit=st.sampled_from([0, 0, 1, 2]),
        oracle=st.booleans(),
        all_units=st.booleans(),
        root=st.integers(0, 2**40),
        audit_said=st.lists(one, min_size=2, max_size=2),
        stop=st.sampled_from([None, "right=2,no_new=3", "audit=0.5"]),
    )
    def begin(
        self, labels, num_names, sets, size, sampler, audit, oracle, all_units, root, audit_said,
        stop,
    ):  # fmt: skip
        labels = np.array([label if label < num_names else SKIP for label in labels])
        waiting = int((labels == SKIP).sum())
        audit = min(audit, max(0, waiting - 1))
        if (stop == "audit=0.5" and not audit) or (stop and waiting - audit < 3):
            stop = None  # it would be refused, since it could never hold
        self.config = ExplorationConfig(
            num_candidate_sets=sets, set_size=size, sampler=sampler, pretrain_iterations=1,
            update_iterations=1, batch_size=2, max_steps=None, stop_when=stop, audit=audit,
        )  # fmt: skip
        rng = np.random.default_rng(root)
        self.size, self.count, self.new = size, len(labels), 0
        self.task = Task(
            rng.normal(size=(len(labels), 1, 1, 2)).astype(np.float32),
            labels,
            tuple("abc"[:num_names]),
        )
        start = sorted({int(label) for label in labels if label >= 0})
        if num_names and (all_units or not start):
            start = list(range(num_names))
        self.model = keras.Sequential(
            [
                keras.Input((1, 1, 2)),
                keras.layers.Flatten(),
                keras.layers.Dense(
                    max(1, len(start)), kernel_initializer=keras.initializers.GlorotNormal(1)
                ),
            ]
        )
        self.folder, self.with_oracle = Path(tempfile.mkdtemp()), oracle
        self.saved = None
        self.new_process()
        self.books = Books(
            {i: int(label) for i, label in enumerate(labels) if label != SKIP},
            list("abc"[:num_names]), list(start), tuple(start),
        )  # fmt: skip
        raw, said, new = self.answer_of(audit_said[: self.config.audit], "list")
        self.annotator.answer = raw
        self.exploration.reset(root)
        self.audit = []
        if self.config.audit:
            found = (
                self.exploration.journal[0].indices
                if oracle
                else tuple(self.exploration.queries[0].indices.tolist())
            )
            self.audit = list(found)
            assert all(labels[i] == SKIP for i in self.audit)
            if oracle:
                self.take_audit(said, new)
            else:
                self.books.open.append(list(self.audit))

    def new_process(self):
        self.annotator = Annotator()
        self.exploration = Exploration(
            self.config, task=self.task, model=self.model, learner=Counting,
            oracle=self.annotator if self.with_oracle else None,
        )  # fmt: skip

    def answer_of(self, specs, form):
        """Returns an answer as it is given, the class ids it means, and the names it brings."""
        names, new, given, meant = list(self.books.names), [], [], []
        for kind, number in specs:
            if kind in ("id", "listed name") and not names:
                kind = "new name"
            if kind == "skip":
                given.append([SKIP, None, float("nan")][number % 3])
                meant.append(SKIP)
            elif kind == "reject":
                given.append(REJECT)
                meant.append(REJECT)
            elif kind == "id" and number % len(names) < len(self.books.names):
                given.append(number % len(names))
                meant.append(number % len(names))
            elif kind in ("id", "listed name"):
                name = names[number % len(names)]
                given.append(f" {name}" if number == 0 else name)
                meant.append(names.index(name))
            else:
                name = new[-1] if kind == "same new name" and new else f"n{self.new}"
                if name not in names:
                    self.new += 1
                    names.append(name)
                    new.append(name)
                given.append(name)
                meant.append(names.index(name))
        if form == "answer":
            raw = Answer(np.array(meant, np.int64), new)
        elif form == "masked" and not new:
            raw = np.ma.masked_array(np.maximum(meant, REJECT), np.array(meant) == SKIP)
        else:
            raw = np.array([*given, None], object)[:-1] if form == "objects" else given
        return raw, meant, new

    def sayable(self, query, raw, meant, new):
        """Returns an answer that can be given: ids may mean others than when it was asked."""
        changed = self.exploration.class_names != query.class_names
        ids = raw.labels if isinstance(raw, Answer) else raw
        if not changed or not any(isinstance(each, int | np.integer) and each >= 0 for each in ids):
            return raw
        names = [*self.books.names, *new]
        return [names[c] if c >= 0 else c for c in meant]

    def learn_known(self, books):
        wanted = books.expected_known()
        books.known = [c for c in books.known if c in wanted]
        books.known += [c for c in dict.fromkeys(books.labels.values()) if c in wanted - {REJECT}
                        and c not in books.known]  # fmt: skip

    def say(self, indices, meant, new, kind):
        """Enters an answer or a correction into the books."""
        books = self.books
        books.before.append(books.snapshot())
        books.names += new
        for index, label in zip(indices, meant, strict=True):
            label = books.resolve(label)
            if index in self.audit:
                books.audit.pop(index, None)
                if label != SKIP:
                    books.audit[index] = label
                continue
            books.labels.pop(index, None)
            if label != SKIP:
                books.labels[index] = label
            if label >= 0 and label not in books.known:
                books.known.append(label)
        books.known = [c for c in books.known if c in books.expected_known()]
        books.said.append((kind, tuple(indices), tuple(meant)))

    def take_audit(self, meant, new):
        books = self.books
        books.names += new
        if new:
            books.late = len(books.names)
        books.audit |= {i: c for i, c in zip(self.audit, meant, strict=True) if c != SKIP}
        for old in books.before:  # it stands whatever is taken back
            old.audit |= {i: c for i, c in zip(self.audit, meant, strict=True) if c != SKIP}
        books.said.append(("audit", tuple(self.audit), tuple(meant)))

    def choose(self, fraction):
        possible = np.flatnonzero(self.exploration.state.candidate_mask)
        return int(possible[int(fraction * len(possible))])

    def indices_of(self, choice):
        indices = self.exploration.state.candidates[choice]
        return indices[indices >= 0].tolist()

    def can_choose(self):
        return self.exploration.state.candidate_mask.any()

    def can_advance(self):
        return self.with_oracle and self.can_choose()

    @invariant()
    def every_image_is_in_one_place(self):
        if not hasattr(self, "books"):
            return
        books, state = self.books, self.exploration.state
        labels = self.exploration.labels
        assert {i: int(c) for i, c in enumerate(labels) if c != SKIP} == books.labels
        columns = state.pool.labels
        assert [
            state.known_classes[column] if column >= 0 else column for column in columns
        ] == labels.tolist()
        hidden = [i for each in books.open for i in each]
        assert len(set(hidden)) == len(hidden)
        assert [query.indices.tolist() for query in self.exploration.queries] == books.open
        away = set(books.labels) | set(hidden) | set(self.audit)
        for images, real in zip(state.candidates, state.candidate_mask, strict=True):
            images = images[images >= 0].tolist()
            assert bool(images) == real
            assert len(set(images)) == len(images)
            assert not set(images) & away
        waiting = set(range(self.count)) - away
        assert state.candidate_mask.any() == bool(waiting)
        assert not set(books.labels) & set(self.audit)

    @invariant()
    def classes_are_what_was_said(self):
        if not hasattr(self, "books"):
            return
        books, state = self.books, self.exploration.state
        assert self.exploration.class_names == tuple(books.names)
        if self.with_oracle:
            assert self.annotator.classes == tuple(books.names)
        assert list(state.known_classes) == books.known
        count = len(books.known)
        assert state.probabilities.shape == (self.count, count)
        assert state.model.output_shape == (None, max(1, count))
        assert state.step == books.step
        assert np.isfinite(state.probabilities).all()

    @invariant()
    def nothing_that_was_said_is_lost(self):
        if not hasattr(self, "books"):
            return
        told = [
            (entry.kind, entry.indices, len(entry.labels))
            for entry in self.exploration.journal
            if entry.kind in ("answer", "correct", "audit")
        ]
        assert told == [(kind, where, len(meant)) for kind, where, meant in self.books.said]
