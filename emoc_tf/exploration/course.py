"""The course of one episode: its books, its model, what is learnt, and the state after a step."""

import contextlib
import dataclasses
import datetime
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.config import ExplorationConfig
from emoc_tf.data.images import read_only
from emoc_tf.exploration import candidates, pseudo_labels, stopping, trouble, whereabouts
from emoc_tf.exploration.answers import SKIP
from emoc_tf.exploration.episode import Episode
from emoc_tf.exploration.journal import Book, Entry
from emoc_tf.exploration.oracle import Oracle, Query, tell_classes
from emoc_tf.exploration.outcome import StepOutcome, answer_accuracy, audit_hits, evaluate
from emoc_tf.exploration.pool import Pool
from emoc_tf.exploration.sources import Source, audit_images
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.exploration.whereabouts import Gone
from emoc_tf.models.episode_model import EpisodeModel
from emoc_tf.values import stop_rules


class Course:
    """What an `Exploration` does behind its calls.

    Args:
        config: The settings.
        source: Makes episodes.
        oracle: See `Exploration`, as for the following.
        sampler: See `Exploration`.
        learner: See `Exploration`.
    """

    episode: Episode
    state: ExplorationState

    def __init__(
        self,
        config: ExplorationConfig,
        source: Source,
        oracle: Oracle | None,
        sampler: candidates.Sampler | None,
        learner: Callable[[keras.Model, Any], Any] | None,
    ) -> None:
        self.config = config
        self.initial_model = source.initial_model
        self.timings: dict[str, float] = {}
        self.scoring: Any = None
        self.image_scores: Callable[[ExplorationState, np.ndarray], np.ndarray] | None = None
        self._source = source
        self._given_oracle, self._given_sampler, self._given_learner = oracle, sampler, learner
        self._rules = stop_rules(config.stop_when) if config.stop_when else []
        self._running = False
        self._asked: list[Query] = []
        self._gone: tuple[Gone, ...] = ()
        self.outcomes: list[StepOutcome] = []
        self._book = Book(np.zeros(0, np.int64), source.class_names, ())

    def _begin(self, root: int, arrays: Mapping[str, np.ndarray] | None = None) -> None:
        """Opens the books of an episode; what is labelled is what its task says."""
        self._running, self._asked, self._gone, self.outcomes = False, [], (), []
        self._root, self._step, self.timings, self._draws = root, 0, {}, 0
        self.episode = episode = self._source.episode(root, arrays)
        self._known = list(episode.classes[: episode.num_known])
        if arrays is not None and self._source.task is not None:
            self._gone = whereabouts.gone_now(arrays, self._source.task)
        start = np.array([image.start for image in self._gone], np.int64)
        self._book = Book(
            np.append(episode.task.labels, start), episode.task.class_names, self._known,
            len(episode.images),
        )  # fmt: skip
        self._pool = Pool(episode.images)
        self._pool.set_labels(self._book.columns())
        self._trains = self._source.task is None or len(self._known) > 1
        self._audit = audit_images(self.config, episode, root, arrays)
        self._oracle = self._given_oracle
        if self._oracle is None and episode.true_labels is not None:
            self._oracle = trouble.answering(self.config, root, episode)
        self._sampler = self._given_sampler
        if self._sampler is None:
            self._sampler = candidates.named(
                self.config.sampler, episode.true_labels, episode.task.labels == SKIP
            )
        candidates.from_arrays(self._sampler, arrays or {})
        tell_classes(self._oracle, self._book.class_names)

    def _new_network(self, num_outputs: int | None) -> EpisodeModel:
        return EpisodeModel(
            self.config, self.initial_model, self._pool.images, self._root, num_outputs,
            self.episode.num_known, make_learner=self._given_learner, elsewhere=self.scoring,
        )  # fmt: skip

    def _enter(self, entry: Entry) -> int:
        """Writes into the journal; returns the entry's number."""
        if self._source.task is not None:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            entry = dataclasses.replace(entry, time=now)
        names = tuple(self._book.class_names)
        self._book.enter(entry)
        if names != tuple(self._book.class_names):
            tell_classes(self._oracle, self._book.class_names)
        return len(self._book.entries) - 1

    def _follow(self) -> None:
        """Gives the model the outputs of the classes known now, and the pool its labels."""
        known = self._book.known
        if known != self._known:
            # A class that another was merged into without having an output takes that one's.
            had = list(self._known)
            for column, class_id in enumerate(had):
                into = self._book.resolve(class_id)
                if into not in had:
                    had[column] = into
            kept = [had.index(class_id) for class_id in known if class_id in had]
            # Units that come with one entry are drawn together, those of another one otherwise.
            entries = self._book.entries
            by_answer = entries[-1].kind == "answer"
            purpose = "new units" if by_answer else f"new units {len(entries)}"
            if len(kept) < len(had) or len(kept) < len(known):
                self._network.change_outputs(self._step, kept, len(known) - len(kept), purpose)
            self._known = list(known)
        self._pool.set_labels(self._book.columns())

    def _learn(self, query: Query, learn_set: bool = True) -> StepOutcome:
        """Enters the answer of a query and learns it: one update step."""
        # What breaks off from here on leaves pool, model and state at odds.
        self._running = False
        self._step, self.timings, self._draws = self._step + 1, {}, 0
        labels = [self._book.resolve(c) for c in query.classes.tolist()]
        guesses = [self._guess_now(query, c) for c in query.guesses.tolist()]
        self._asked = [each for each in self._asked if each.number != query.number]
        with self._timed("training_seconds"):
            indices, answer = tuple(query.indices.tolist()), tuple(labels)
            told = {"guesses": tuple(guesses), "choice": query.choice}
            self._enter(Entry("answer", self._step, indices, answer, query.new_classes, **told))
            self._follow()
            self._update(learn_set)
        named = [label for label in labels if label >= 0]
        return self._finish_step(query.choice, int(np.bincount(named).argmax()) if named else None)

    def _guess_now(self, query: Query, class_id: int) -> int:
        """Returns a class that was predicted for an image, `SKIP` if it was taken back since."""
        born = self._book.born
        # Its id may be another class's by now. Queries of earlier versions do not tell.
        then = query.born[class_id : class_id + 1] or born[class_id : class_id + 1]
        there = class_id < len(born) and born[class_id] == then[0]
        return self._book.resolve(class_id) if there else SKIP

    def _update(self, learn_set: bool) -> None:
        """Trains on what no update has learnt yet, among all that was known before."""
        unlearnt = self._book.unlearnt()
        # The newest first: a set in its own order, then what was corrected before it.
        said = [index for i in reversed(unlearnt) for index in self._book.entries[i].indices]
        labels = self._pool.labels
        there = [index for index in dict.fromkeys(said) if index < len(labels)]
        novel = np.array([index for index in there if labels[index] >= 0], np.int64)
        labelled = self._pool.labelled
        if self._trains and (
            len(novel) or any(not self._book.entries[i].indices for i in unlearnt)
        ):
            old = np.setdiff1d(labelled, novel)
            mixed = learn_set and len(novel) > 0
            labels, old, told = self._with_pseudo_labels(labels, old)
            self._network.update(self._step, labels, old, novel if mixed else None)
        elif not self._trains and len(self._known) > 1:
            self._network.begin(self._step, labels, labelled)
            self._trains, told = True, {}
        else:
            return
        self._enter(Entry("learn", self._step, of=tuple(unlearnt), **told))

    def _with_pseudo_labels(
        self, labels: np.ndarray, old: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Returns what an update learns with pseudo-labels, and their numbers for the journal."""
        first = self.config.pseudo_labels
        if first is None:
            return labels, old, {}
        # The state is that before the answer: classes that came with it have no posterior yet.
        indices, columns, told = pseudo_labels.for_update(
            first, self._step, self.state, self._askable(), self._book, self.episode.true_labels
        )
        labels = labels.copy()
        labels[indices] = columns
        return labels, np.union1d(old, indices), told

    def _finish_step(self, choice: int | None, queried_class: int | None) -> StepOutcome:
        self._last = choice, queried_class
        with self._timed("evaluation_seconds"):
            outcome = self._evaluate(choice, queried_class)
        self.outcomes.append(outcome)
        self._look()
        self._running = True
        return outcome

    def _evaluate(self, choice: int | None, queried_class: int | None) -> StepOutcome:
        episode, book, count = self.episode, self._book, len(self._known)
        logits = accuracy = None
        if episode.test_images is not None:
            logits = self._network.predict(episode.test_images)[1][:, :count]

        def audit_logits(images: np.ndarray) -> np.ndarray:
            # Read in batches: there may be thousands.
            return self._network.predict(self._pool.images, images)[1]

        audit = audit_hits(book, self._known, len(self._pool), audit_logits)
        answers = [entry for entry in book.live() if entry.kind == "answer"]
        if answers:
            last = answers[-1]
            accuracy = answer_accuracy(np.array(last.guesses), np.array(last.labels))
        outcome = evaluate(
            episode, book, logits, audit, step=self._step, chosen_set=choice,
            queried_class=queried_class, answer_accuracy=accuracy,
        )  # fmt: skip
        stopped = stopping.reason(self._rules, outcome, book)
        stopped = stopped or stopping.nobody_knows(book, self._waiting())
        told = {}
        if self.config.pseudo_labels is not None:
            told = pseudo_labels.used(book, self._step, episode.true_labels is not None)
        return dataclasses.replace(outcome, stopped=stopped, **told)

    def _waiting(self) -> np.ndarray:
        """Returns the pool indices that wait for an answer, those in open queries included."""
        gone = np.array(getattr(self.episode.raw_images, "gone", ()), np.int64)
        return np.setdiff1d(self._pool.unlabelled, np.concatenate([self._audit, gone]))

    def _look(self) -> None:
        """Predicts the pool and draws candidate sets: the state."""
        with self._timed("prediction_seconds"):
            features, logits = self._network.predict(self._pool.images)
            self._network.check_finite(self._step, features, logits)
            self._network.warn_if_blind(self._step, features)
            probabilities = np.zeros((len(logits), 0), np.float32)
            if self._known:
                probabilities = tf.nn.softmax(logits).numpy()
        with self._timed("candidate_seconds"):
            probabilities, features = read_only(probabilities), read_only(features)
            shape = self.config.num_candidate_sets, self.config.set_size
            none = np.full(shape, candidates.PADDING, np.int64), np.zeros(shape[0], bool)
            state = ExplorationState(
                model=self._network.model,
                pool=self._pool.snapshot(),
                candidates=read_only(none[0]),
                candidate_mask=read_only(none[1]),
                probabilities=probabilities,
                features=features,
                known_classes=tuple(self._known),
                step=self._step,
                **self._open(),
                part=self._network.part,
                scoring=self.scoring,
                update_seconds=self.timings.get("training_seconds") if self._step else None,
            )
            self.state = _with_sets(state, *self._draw(state))

    def _hidden(self) -> np.ndarray:
        """Returns the pool indices that are in open queries."""
        return np.array([i for query in self._asked for i in query.indices], np.int64)

    def _askable(self) -> np.ndarray:
        """Returns the pool indices of the images that can be asked about now."""
        return np.setdiff1d(self._waiting(), self._hidden())

    def _draw(self, state: ExplorationState) -> tuple[np.ndarray, np.ndarray]:
        """Draws candidate sets for a state that has none; images that were skipped come last.

        Of a task, the images that are left when they are fewer than K are a set as well: nobody
        would ever be asked about them otherwise.
        """
        scorer = self.image_scores and functools.partial(self.image_scores, state)
        waiting = self._askable()
        skipped = self._book.skipped[waiting]
        for most in [*np.unique(skipped)] or [0]:
            sets, mask = candidates.draw(
                self._sampler, self.config, self._root, self._step, waiting[skipped <= most],
                probabilities=state.probabilities, features=state.features, pool=state.pool,
                again=self._draws, image_scorer=scorer,
            )  # fmt: skip
            if mask.any():
                return sets, mask
        own = self._given_sampler is not None
        if self._source.task is not None and not own and 0 < len(waiting) < sets.shape[1]:
            sets[0, : len(waiting)], mask[0] = waiting, True
        return sets, mask

    def _draw_again(self) -> None:
        """Draws other candidate sets in the same step, since other images wait."""
        self._draws += 1
        sets, mask = self.state.candidates, self.state.candidate_mask
        none = np.full_like(sets, candidates.PADDING), np.zeros_like(mask)
        self._set_sets(*none)
        self._set_sets(*self._draw(self.state))

    def _hide(self, indices: np.ndarray) -> None:
        """Masks the candidate sets that share an image with a query that was opened."""
        sets, mask = self.state.candidates.copy(), self.state.candidate_mask.copy()
        shared = np.isin(sets, indices).any(axis=1)
        sets[shared], mask[shared] = candidates.PADDING, False
        self._set_sets(sets, mask)
        if not mask.any():
            self._draw_again()

    def _set_sets(self, sets: np.ndarray, mask: np.ndarray) -> None:
        state = dataclasses.replace(self.state, **self._open())
        self.state = _with_sets(state, sets, mask)

    def _open(self) -> dict[str, Any]:
        """Returns what a state tells of the open queries of sets; an audit is none of these."""
        chosen = [query.indices for query in self._asked if query.choice is not None]
        images = np.sort(np.concatenate([np.zeros(0, np.int64), *chosen]))
        return {"open_queries": len(chosen), "open_images": read_only(images)}

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - start


def _with_sets(state: ExplorationState, sets: np.ndarray, mask: np.ndarray) -> ExplorationState:
    return dataclasses.replace(state, candidates=read_only(sets), candidate_mask=read_only(mask))
