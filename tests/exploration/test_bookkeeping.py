"""Random configurations and sequences of operations against an executable model of the books.

`EMOC_CASES` sets the number of cases; `make soak` tries more than the test suite does.
"""

import copy
import os
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from emoc_tf import ExplorationConfig
from emoc_tf.data import ImageData
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.storage import checkpoint

CASES = int(os.environ.get("EMOC_CASES", "10"))
NUM_CLASSES = 6


class Killed(BaseException):
    """In place of the end of the process."""


def make_data(seed):
    rng = np.random.default_rng(seed)

    def part(each):
        labels = np.repeat(np.arange(NUM_CLASSES), each)
        images = rng.normal(size=(len(labels), 1, 1, 2)).astype(np.float32)
        return ImageData(images, labels, tuple("abcdef"))

    return part(8), part(2)


class Annotator:
    """Answers with the true class, unless told to fail; notes what it was asked."""

    def __init__(self):
        self.fails = None
        self.asked = []
        self.true_labels = None

    def label(self, indices, images):
        self.asked.append(indices.tolist())
        fails, self.fails = self.fails, None
        if fails == "raise":
            raise KeyboardInterrupt
        if fails == "wrong":
            return np.full(len(indices), 99)
        return self.true_labels[indices]


@dataclass
class Books:
    """What the environment should say: which class each asked image has, and so on."""

    seed: int
    classes: tuple[int, ...]
    known: list[int]
    pool_size: int
    answers: dict[int, int]
    step: int = 0
    outcomes: list[dict] = field(default_factory=list)
    query: int | None = None
    answered: bool = False


class Bookkeeping(RuleBasedStateMachine):
    cases = 0

    @initialize(
        known=st.integers(1, 3),
        novel=st.integers(0, 3),
        initial=st.integers(1, 3),
        waiting=st.integers(1, 5),
        sets=st.integers(1, 6),
        size=st.integers(1, 3),
        sampler=st.sampled_from(["single_class", "uniform", "cluster", "minibatch-cluster"]),
        max_steps=st.none() | st.integers(1, 6),
        root=st.integers(0, 2**40),
    )
    def begin(self, known, novel, initial, waiting, sets, size, sampler, max_steps, root):
        self.config = ExplorationConfig(
            known_classes=known, novel_classes=novel, initial_per_class=initial,
            pool_per_class=waiting, num_candidate_sets=sets, set_size=min(size, waiting),
            sampler=sampler, pretrain_iterations=1, update_iterations=2, batch_size=4,
            learning_rate=0.1, max_steps=max_steps,
        )  # fmt: skip
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "checkpoint.npz"
        self.data = make_data(root % 1000)
        inputs = keras.Input((1, 1, 2))
        flat = keras.layers.Flatten()(inputs)
        flat = keras.layers.Dropout(0.2, seed=3)(flat)
        head = keras.layers.Dense(known, kernel_initializer=keras.initializers.GlorotNormal(1))
        self.model = keras.Model(inputs, head(flat))
        self.saved = []  # books of the whole checkpoints, the newest first, at most two
        self.new_process()
        self.reset(root)

    def new_process(self):
        self.annotator = Annotator()
        self.env = ActiveExplorationEnv(
            self.config, data=self.data, model=self.model, oracle=self.annotator
        )

    @rule(root=st.integers(0, 2**40))
    def reset(self, root):
        self.env.reset(seed=root)
        self.remember_images()
        episode = self.env.exploration.episode
        self.books = Books(
            root,
            episode.classes,
            list(episode.classes[: self.config.known_classes]),
            len(episode.true_labels),
            {i: int(episode.true_labels[i]) for i in range(episode.num_initial)},
        )
        self.books.outcomes.append(self.env.outcome.to_dict())

    def remember_images(self):
        episode = self.env.exploration.episode
        self.annotator.true_labels = episode.true_labels
        self.first_images = episode.raw_images.copy()

    def choose(self, fraction):
        if self.books.answered:
            return self.books.query
        possible = np.flatnonzero(self.env.state.candidate_mask)
        return int(possible[int(fraction * len(possible))])

    @precondition(lambda self: not self.env.over)
    @rule(fraction=st.floats(0, 0.999))
    def step(self, fraction):
        choice, state, asked = self.choose(fraction), self.env.state, len(self.annotator.asked)
        indices = state.candidates[choice]
        observation, _, terminated, truncated, info = self.env.step(choice)
        books = self.books
        assert len(self.annotator.asked) - asked == (0 if books.answered else 1)
        true = self.env.exploration.episode.true_labels
        for index in indices:
            assert int(index) not in books.answers
            books.answers[int(index)] = int(true[index])
            if int(true[index]) not in books.known:
                books.known.append(int(true[index]))
        books.step, books.query, books.answered = books.step + 1, None, False
        books.outcomes.append(self.env.outcome.to_dict())
        assert info["labelled"] == len(books.answers)
        assert observation in self.env.observation_space
        assert truncated == (books.step == self.config.max_steps)
        assert terminated == (not self.env.state.candidate_mask.any())

    @precondition(lambda self: not self.env.over and not self.books.answered)
    @rule(fraction=st.floats(0, 0.999), how=st.sampled_from(["raise", "wrong"]))
    def ask_in_vain(self, fraction, how):
        choice, before = self.choose(fraction), self.env.state
        self.annotator.fails = how
        with pytest.raises((KeyboardInterrupt, ValueError)):
            self.env.step(choice)
        assert self.env.state is before
        self.books.query = choice if how == "raise" else None
        assert self.env.query == self.books.query

    @precondition(lambda self: not self.env.over and not self.books.answered)
    @rule(fraction=st.floats(0, 0.999), answered=st.booleans())
    def killed_in_a_step(self, fraction, answered):
        """The process ends after the query was saved, or after its answer was."""
        choice = self.choose(fraction)

        def on_query():
            if (self.env.exploration.query.classes is not None) == answered:
                self.books.query, self.books.answered = choice, answered
                self.save()
                raise Killed

        self.env.exploration.on_query = on_query
        with pytest.raises(Killed):
            self.env.step(choice)
        self.load()

    @rule()
    def save(self):
        checkpoint.write_generation(self.path, self.env.save())
        self.saved = [copy.deepcopy(self.books), *self.saved[:1]]

    @rule(call=st.integers(0, 4), error=st.sampled_from([Killed, OSError]))
    def save_broken_off(self, call, error):
        """The process ends, or the disk is full, somewhere in a write."""
        calls = 0
        names = ("fsync", "replace")
        originals = {name: getattr(os, name) for name in names}

        def failing(name):
            def fail(*arguments):
                nonlocal calls
                calls += 1
                if calls > call:
                    raise error
                return originals[name](*arguments)

            return fail

        finished = False
        try:
            for name in names:
                setattr(os, name, failing(name))
            checkpoint.write_generation(self.path, self.env.save())
            finished = True
        except error:
            pass
        finally:
            for name in names:
                setattr(os, name, originals[name])
        # The file, the one before it (tried where there is none, too), its name, the folder.
        replaced = calls > 3 or finished
        note(f"broken off at call {call}: {'written' if replaced else 'not written'}")
        if replaced:
            self.saved = [copy.deepcopy(self.books), *self.saved[:1]]

    @precondition(lambda self: self.saved)
    @rule()
    def load(self):
        """In a new process: nothing is left but the files."""
        before = self.env.state if self.books == self.saved[0] else None
        self.new_process()
        self.env.restore(checkpoint.read_generation(self.path))
        self.books = copy.deepcopy(self.saved[0])
        self.remember_images()
        assert self.env.query == self.books.query
        if before is not None:
            for name in ("candidates", "probabilities", "features", "candidate_mask"):
                np.testing.assert_array_equal(getattr(self.env.state, name), getattr(before, name))

    @precondition(lambda self: len(self.saved) == 2 and self.path.exists())
    @rule(place=st.floats(0, 0.999))
    def load_after_the_newest_was_cut_short(self, place):
        content = self.path.read_bytes()
        self.path.write_bytes(content[: int(place * len(content))])
        self.saved = self.saved[1:]
        self.load()

    @invariant()
    def every_image_is_in_one_place(self):
        if not hasattr(self, "env"):
            return
        state, books = self.env.state, self.books
        labels = state.pool.labels
        assert len(labels) == books.pool_size == len(state.pool.images)
        found = {int(i): state.known_classes[labels[i]] for i in np.flatnonzero(labels >= 0)}
        assert found == books.answers
        np.testing.assert_array_equal(self.env.exploration.episode.raw_images, self.first_images)

    @invariant()
    def counts_add_up(self):
        if not hasattr(self, "env"):
            return
        state, books, config = self.env.state, self.books, self.config
        assert list(state.known_classes) == books.known
        assert state.step == books.step
        assert state.model.output_shape == (None, len(books.known))
        assert state.probabilities.shape == (books.pool_size, len(books.known))
        assert [outcome.to_dict() for outcome in self.env._outcomes] == books.outcomes
        assert self.env.outcome.labelled == len(books.answers)
        assert len(books.answers) == (
            config.known_classes * config.initial_per_class + books.step * config.set_size
        )
        true = self.env.exploration.episode.true_labels
        assert Counter(true.tolist()) == {
            c: config.pool_per_class + config.initial_per_class * (i < config.known_classes)
            for i, c in enumerate(books.classes)
        }

    @invariant()
    def candidate_sets_hold_images_that_were_not_asked_about(self):
        if not hasattr(self, "env"):
            return
        state = self.env.state
        assert (state.candidates[~state.candidate_mask] == -1).all()
        for images in state.candidates[state.candidate_mask]:
            assert len(set(images)) == self.config.set_size
            assert not set(images.tolist()) & set(self.books.answers)
            if self.config.sampler == "single_class":
                assert len(set(self.env.exploration.episode.true_labels[images])) == 1

    def teardown(self):
        Bookkeeping.cases += 1
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)


def test_the_books_are_kept():
    run_state_machine_as_test(
        Bookkeeping,
        settings=settings(
            max_examples=CASES,
            stateful_step_count=12,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{Bookkeeping.cases} cases of up to 12 operations: the books were kept")
