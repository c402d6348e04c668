"""Random tasks, answers and corrections against an executable model of the books.

`EMOC_CASES` sets the number of cases; `make soak` tries more than the test suite does.
"""

import copy
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from emoc_tf import REJECT, SKIP, Answer, ExplorationConfig, Task
from emoc_tf.exploration import Exploration
from tests.exploration.books import Annotator, Books, Counting

CASES = int(os.environ.get("EMOC_CASES", "12"))


class Killed(BaseException):
    """In place of the end of the process."""


kinds = st.sampled_from(["id", "listed name", "new name", "same new name", "skip", "reject"])
forms = st.sampled_from(["list", "objects", "answer", "masked"])
one = st.tuples(kinds, st.integers(0, 5))
fractions = st.floats(0, 0.999)


class TaskBookkeeping(RuleBasedStateMachine):
    cases = 0

    @initialize(
        labels=st.lists(st.integers(-2, 3), min_size=1, max_size=14),
        num_names=st.integers(0, 3),
        sets=st.integers(1, 5),
        size=st.integers(1, 3),
        sampler=st.sampled_from(["single_class", "uniform", "cluster"]),
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
        self.config = ExplorationConfig(
            num_candidate_sets=sets, set_size=size, sampler=sampler, pretrain_iterations=1,
            update_iterations=1, batch_size=2, max_steps=None, stop_when=stop,
            audit=min(audit, max(0, waiting - 1)),
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

    @precondition(can_advance)
    @rule(fraction=fractions, specs=st.lists(one, min_size=3, max_size=3), form=forms)
    def advance(self, fraction, specs, form):
        choice = self.choose(fraction)
        indices = self.indices_of(choice)
        self.annotator.answer, meant, new = self.answer_of(specs[: len(indices)], form)
        outcome = self.exploration.advance(choice)
        self.say(indices, meant, new, "answer")
        self.books.step += 1
        assert outcome.step == self.books.step
        assert outcome.chosen_set == choice
        named = [self.books.resolve(c) for c in meant if c >= 0]
        assert (outcome.queried_class is None) == (not named)
        assert (outcome.answer_accuracy is None) == (not named)

    @precondition(can_advance)
    @rule(fraction=fractions, wrong=st.sampled_from([[99] * 3, 99, [1.5] * 3, [[0]], [""] * 3]))
    def oracle_answers_wrongly(self, fraction, wrong):
        choice, before = self.choose(fraction), self.exploration.state
        count = len(self.indices_of(choice))
        self.annotator.answer = wrong[:count] if isinstance(wrong, list) else wrong
        with pytest.raises(ValueError, match="oracle"):
            self.exploration.advance(choice)
        assert self.exploration.state is before
        assert self.exploration.query is None

    @precondition(can_advance)
    @rule(fraction=fractions)
    def oracle_raises(self, fraction):
        choice, before = self.choose(fraction), self.exploration.state
        self.annotator.answer = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            self.exploration.advance(choice)
        assert self.exploration.state is before
        assert self.exploration.query.choice == choice

    @precondition(can_choose)
    @rule(fraction=fractions)
    def ask(self, fraction):
        choice = self.choose(fraction)
        indices = self.indices_of(choice)
        query = self.exploration.ask(choice)
        assert query.indices.tolist() == indices
        assert query.class_names == tuple(self.books.names)
        self.books.open.append(indices)

    @precondition(lambda self: self.books.open)
    @rule(fraction=fractions, specs=st.lists(one, min_size=3, max_size=3), form=forms)
    def answer(self, fraction, specs, form):
        place = int(fraction * len(self.books.open))
        query = self.exploration.queries[place]
        indices = self.books.open[place]
        raw, meant, new = self.answer_of(specs[: len(indices)], form)
        self.exploration.answer(query, raw)
        del self.books.open[place]
        if indices == self.audit:
            self.take_audit(meant, new)
        else:
            self.say(indices, meant, new, "answer")
            self.books.step += 1

    @precondition(lambda self: self.books.open)
    @rule(fraction=fractions, wrong=st.sampled_from([[99] * 3, [1.5] * 3, [[0]], [""] * 3]))
    def answer_wrongly(self, fraction, wrong):
        place = int(fraction * len(self.books.open))
        before = self.exploration.state
        with pytest.raises(ValueError, match="oracle"):
            self.exploration.answer(
                self.exploration.queries[place], wrong[: len(self.books.open[place])]
            )
        assert self.exploration.state is before

    @precondition(lambda self: any(indices != self.audit for indices in self.books.open))
    @rule(fraction=fractions)
    def withdraw(self, fraction):
        places = [i for i, indices in enumerate(self.books.open) if indices != self.audit]
        place = places[int(fraction * len(places))]
        self.exploration.withdraw(self.exploration.queries[place])
        del self.books.open[place]

    @rule(
        where=st.lists(st.integers(0, 13), min_size=1, max_size=3, unique=True),
        specs=st.lists(one, min_size=3, max_size=3),
        form=forms,
    )
    def correct(self, where, specs, form):
        indices = [i for i in where if i < self.count]
        raw, meant, new = self.answer_of(specs[: len(indices)], form)
        if any(i in indices for each in self.books.open for i in each):
            with pytest.raises(ValueError, match="open query"):
                self.exploration.correct(indices, raw)
            return
        self.exploration.correct(indices, raw)
        if indices:
            self.say(indices, meant, new, "correct")

    @rule(deep=st.integers(1, 3))
    def undo(self, deep):
        for _ in range(deep):
            if not self.books.before:
                with pytest.raises(ValueError, match="undo"):
                    self.exploration.undo()
                return
            self.exploration.undo()
            books, old = self.books, self.books.before.pop()
            books.labels, books.merged, books.audit = old.labels, old.merged, old.audit
            end = max(len(old.names), books.late)
            books.names = [*old.names, *books.names[len(old.names) : end]]
            wanted = books.expected_known()
            books.known = [c for c in books.known if c in wanted]
            # Those that come back follow, in an order that is the journal's own.
            found = list(self.exploration.state.known_classes)
            assert found[: len(books.known)] == books.known
            assert set(found) == wanted
            books.known = found

    @precondition(lambda self: self.books.names)
    @rule(class_id=st.integers(0, 9))
    def rename(self, class_id):
        books = self.books
        class_id %= len(books.names)
        name, self.new = f"n{self.new}", self.new + 1
        self.exploration.rename(class_id, name)
        books.before.append(books.snapshot())
        target = books.resolve(class_id)
        books.names = [
            name if books.resolve(c) == target else old for c, old in enumerate(books.names)
        ]
        with pytest.raises(ValueError, match="name"):
            self.exploration.rename(class_id, f"{name} ")

    @precondition(lambda self: len(self.books.names) > 1)
    @rule(one=st.integers(0, 9), other=st.integers(0, 9))
    def merge(self, one, other):
        books = self.books
        one, other = one % len(books.names), other % len(books.names)
        class_id, into = books.resolve(one), books.resolve(other)
        if class_id == into:
            with pytest.raises(ValueError, match="into"):
                self.exploration.merge(one, other)
            return
        self.exploration.merge(one, other)
        books.before.append(books.snapshot())
        books.merged[class_id] = into
        books.labels = {i: books.resolve(c) if c >= 0 else c for i, c in books.labels.items()}
        books.names = [
            books.names[into] if books.resolve(c) == into else n for c, n in enumerate(books.names)
        ]
        if into not in books.known:  # it takes over the output
            books.known = [into if c == class_id else c for c in books.known]
        books.known = [c for c in books.known if c in books.expected_known() and c != class_id]

    @rule(where=st.lists(st.integers(0, 13), min_size=1, max_size=3, unique=True))
    def split(self, where):
        hidden = {i for each in self.books.open for i in each}
        indices = [i for i in where if i < self.count and i not in hidden]
        if indices:
            name, self.new = f"n{self.new}", self.new + 1
            self.exploration.split(indices, name)
            self.say(indices, [len(self.books.names)] * len(indices), [name], "correct")

    @rule()
    def save(self):
        with open(self.folder / "saved.npz", "wb") as file:
            np.savez(file, **self.exploration.save())
        self.saved = copy.deepcopy(self.books)
        self.state, self.journal = self.exploration.state, self.exploration.journal
        self.weights = [weight.copy() for weight in self.state.model.get_weights()]

    @precondition(lambda self: self.saved)
    @rule()
    def load(self):
        """In a new process: nothing is left but the file."""
        self.new_process()
        with np.load(self.folder / "saved.npz") as file:
            self.exploration.restore(dict(file), None, None)
        self.books = copy.deepcopy(self.saved)
        assert self.exploration.journal == self.journal
        state = self.exploration.state
        for name in ("candidates", "candidate_mask", "probabilities", "features"):
            found, expected = getattr(state, name), getattr(self.state, name)
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(state.pool.labels, self.state.pool.labels)
        assert state.known_classes == self.state.known_classes
        for found, expected in zip(state.model.get_weights(), self.weights, strict=True):
            np.testing.assert_array_equal(found, expected)

    @precondition(lambda self: self.can_choose() or self.books.open)
    @rule(fraction=fractions, specs=st.lists(one, min_size=3, max_size=3), form=forms)
    def killed_between_answer_and_learning(self, fraction, specs, form):
        place = int(fraction * len(self.books.open))
        if self.books.open:
            query = self.exploration.queries[place]
            indices = self.books.open[place]
        elif self.with_oracle:
            choice = self.choose(fraction)
            indices = self.indices_of(choice)
        else:
            return
        raw, meant, new = self.answer_of(specs[: len(indices)], form)
        open_before = bool(self.books.open)

        def on_query():
            asked = self.exploration.queries[place] if open_before else self.exploration.query
            if asked.classes is not None:
                self.save()
                raise Killed

        self.exploration.on_query, self.annotator.answer = on_query, raw
        with pytest.raises(Killed):
            if open_before:
                self.exploration.answer(query, raw)
            else:
                self.exploration.advance(choice)
        self.load()
        with pytest.raises(RuntimeError):
            self.exploration.correct([0], [None])
        told = self.annotator.told
        if open_before:
            self.exploration.answer(self.exploration.queries[place], raw)
            del self.books.open[place]
        else:
            assert self.exploration.query.indices.tolist() == indices
            self.exploration.advance(choice)
        assert self.annotator.told == told  # nobody is asked again
        if open_before and indices == self.audit:
            self.take_audit(meant, new)
        else:
            self.say(indices, meant, new, "answer")
            self.books.step += 1
        self.save()

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

    def teardown(self):
        TaskBookkeeping.cases += 1
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


def test_the_books_of_tasks_are_kept():
    run_state_machine_as_test(
        TaskBookkeeping,
        settings=settings(
            max_examples=CASES,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{TaskBookkeeping.cases} cases of up to 15 operations: the books were kept")
