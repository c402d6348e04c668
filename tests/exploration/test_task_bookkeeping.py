"""Random tasks, answers and corrections against an executable model of the books.

`EMOC_CASES` sets the number of cases; `make soak` tries more than the test suite does.
"""

import copy
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.exploration.task_world import Killed, TaskWorld, forms, fractions, one

CASES = int(os.environ.get("EMOC_CASES", "12"))


class TaskBookkeeping(TaskWorld):
    cases = 0

    @precondition(TaskWorld.can_advance)
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

    @precondition(TaskWorld.can_advance)
    @rule(fraction=fractions, wrong=st.sampled_from([[99] * 3, 99, [1.5] * 3, [[0]], [""] * 3]))
    def oracle_answers_wrongly(self, fraction, wrong):
        choice, before = self.choose(fraction), self.exploration.state
        count = len(self.indices_of(choice))
        self.annotator.answer = wrong[:count] if isinstance(wrong, list) else wrong
        with pytest.raises(ValueError, match="oracle"):
            self.exploration.advance(choice)
        assert self.exploration.state is before
        assert self.exploration.query is None

    @precondition(TaskWorld.can_advance)
    @rule(fraction=fractions)
    def oracle_raises(self, fraction):
        choice, before = self.choose(fraction), self.exploration.state
        self.annotator.answer = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            self.exploration.advance(choice)
        assert self.exploration.state is before
        assert self.exploration.query.choice == choice

    @precondition(TaskWorld.can_choose)
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
        self.exploration.answer(query, self.sayable(query, raw, meant, new))
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
        if open_before:
            raw = self.sayable(query, raw, meant, new)

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
