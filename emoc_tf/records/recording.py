"""A run folder for questions and answers of your own, with `Exploration.ask` and `answer`."""

import contextlib
from pathlib import Path
from typing import Any, Self

from emoc_tf import streams
from emoc_tf.exploration import whereabouts
from emoc_tf.exploration.loop import Exploration
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.records.final_model import save_final_model
from emoc_tf.records.queried import QUERIED, QUERIED_COLUMNS, AnswerFiles, read_texts
from emoc_tf.records.record_folder import CHECKPOINT
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.storage.checkpoint import Checkpoint


class Recording:
    """Writes what is asked and said in an exploration into `OUTPUT_DIR/<agent>/<seed>/`.

    The folder is that of a run, with all its files, and exports, predictions and reports are made
    from it in the same way. It is written after each question, answer, correction and undoing, so
    that a process may end at any time: the same call starts the episode the first time, and resumes
    it where it was ever after, with its open queries. An answer that had not been learnt then is
    learnt at once.

    Answers are taken up on another machine or version as well, and with another learning rate,
    which a training that diverged needs: `config.json` tells so under `mixed`.

    Args:
        exploration: Without an episode, which is started here, or with one that has had no answer
            yet, which is recorded as it is if there is nothing to resume.
        output_dir: OUTPUT_DIR; made if it is not there.
        agent: Who chooses the sets, or who answers: the name of the run.
        seed: Of the episode, as of an environment's `reset(seed=seed)`; at least 0.

    Attributes:
        path: Of the run's folder.
        resumed: Whether an episode was resumed.

    Raises:
        ValueError: There is an episode with answers already; or the folder holds a run of other
            settings or images, one that was ended, or other files; or another process works on it.
        FloatingPointError: Training diverged.
    """

    def __init__(
        self,
        exploration: Exploration,
        output_dir: str | Path,
        agent: str = "person",
        seed: int = 0,
    ) -> None:
        _check(exploration, agent, seed)
        self._exploration = exploration
        self._folder = RunFolder(output_dir, agent, seed, exploration.config)
        self.path = self._folder.path
        lock, self._held = self._folder.lock, contextlib.ExitStack()
        if not lock.acquire():
            raise ValueError(
                f"output_dir: expected a free folder, got {self.path} of {lock.owner()}; close() "
                f"of a recording gives it free"
            )
        self._held.callback(lock.release)
        self._held.callback(self._folder.close)
        try:
            found = self._found()
            self.resumed = found is not None
            if found is None:
                self._begin(seed)
            else:
                self._resume(found)
            self._held.callback(setattr, exploration, "on_query", exploration.on_query)
            self._next, exploration.on_query = exploration.on_query, self._on_query
            self._learn_what_was_answered()
            self.write()
        except BaseException:
            self._held.close()
            raise

    def _found(self) -> Checkpoint | None:
        self._folder.check(allow_mixed=True, allow_rate=True)
        if self._folder.finished and not self._folder.has_checkpoint:
            raise ValueError(
                f"output_dir: expected a run that goes on, got {self.path}, which was ended; "
                f"use another output folder, agent or seed"
            )
        try:
            found = self._folder.saved()
        except ValueError as error:
            raise ValueError(f"{error}; {self._folder.remedy}") from error
        answers = self.path / QUERIED
        if found is None and answers.exists() and read_texts(answers, QUERIED_COLUMNS):
            raise ValueError(
                f"output_dir: expected {CHECKPOINT} beside the answers in {self.path}, got none: "
                f"they would be written over; use another output folder, agent or seed"
            )
        return found

    def _begin(self, seed: int) -> None:
        exploration, folder = self._exploration, self._folder
        folder.claim(task=exploration.task)
        if not exploration.running:
            exploration.reset(streams.root_of(seed))
        self._episode = exploration.episode
        folder.start(self._episode.classes, self._episode.test_images is not None)
        self._written: list[StepOutcome] = []
        self._files = AnswerFiles(self.path, exploration)

    def _resume(self, found: Checkpoint) -> None:
        exploration, task = self._exploration, self._exploration.task
        try:
            if task is not None and not whereabouts.places(found.arrays, task):
                raise ValueError(
                    f"output_dir: expected a run of these images in {self.path}, got one of which "
                    f"none is there; use another output folder"
                )
            outcomes = [StepOutcome.from_dict(fields) for fields in found.header["outcomes"]]
            last = outcomes[-1]
            exploration.restore(found.arrays, last.chosen_set, last.queried_class)
            exploration.outcomes[:] = outcomes
            self._folder.resume(found)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError(
                f"checkpoint: {type(error).__name__}: {error}; {self._folder.remedy}"
            ) from error
        if task is not None:  # today's folder may be another one
            self._folder.tell(task)
        self._episode, self._written = exploration.episode, list(outcomes)
        self._files = AnswerFiles(self.path, exploration)

    def _learn_what_was_answered(self) -> None:
        """Learns the answer that came last before the process ended, if it had not been learnt."""
        exploration = self._exploration
        begun = exploration.query
        if begun is not None and begun.classes is not None:
            exploration.advance(begun.choice)
        for query in exploration.queries:
            if query.classes is not None:
                names = [*exploration.class_names, *query.new_classes]
                end = len(exploration.class_names)
                labels = [names[c] if c >= end else c for c in query.classes.tolist()]
                exploration.answer(query, labels)

    def _on_query(self) -> None:
        self.write()
        if self._next is not None:
            self._next()

    def write(self) -> None:
        """Brings all files up to date; a call after `answer` writes what the step led to at once.

        It is called whenever something was asked, answered or corrected.

        Raises:
            RuntimeError: The episode is another one than at the beginning, or its last step was
                broken off.
        """
        exploration, folder, outcomes = self._exploration, self._folder, self._exploration.outcomes
        if exploration.episode is not self._episode:
            raise RuntimeError(
                "write: expected the episode that the recording began with, got another one; "
                "a recording is of one episode: close it before reset or restore"
            )
        state = Checkpoint(
            {
                "configuration": exploration.config.record(),
                "outcomes": [outcome.to_dict() for outcome in outcomes],
            },
            exploration.save(),
        )
        self._files.write()
        count = len(self._written)
        if count and outcomes[count - 1] is not self._written[-1]:
            folder.rewrite_last(outcomes[count - 1])
        for outcome in outcomes[count:]:
            timings = exploration.timings if outcome is outcomes[-1] else {}
            folder.write_step(outcome, None, timings)
        self._written = list(outcomes)
        folder.save(state)

    def finish(self, reason: str = "ended by hand") -> None:
        """Ends the run: writes its model, after which nothing can be resumed, and closes.

        Reports count it among the finished runs from then on.

        Args:
            reason: Recorded in `config.json`.

        Raises:
            RuntimeError: See `write`.
        """
        self.write()
        save_final_model(self._exploration, self.path)
        self._folder.finish(reason)
        self._held.close()

    def close(self) -> None:
        """Writes what is not written yet and gives the folder free, to be resumed later."""
        try:
            if self._exploration.running and self._exploration.episode is self._episode:
                self.write()
        finally:
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _check(exploration: Any, agent: Any, seed: Any) -> None:
    if not isinstance(exploration, Exploration):
        raise ValueError(
            f"exploration: expected an Exploration, such as env.unwrapped.exploration, got "
            f"{exploration!r}"
        )
    if exploration.running and any(entry.kind != "audit" for entry in exploration.journal):
        raise ValueError(
            "exploration: expected one that has had no answer yet, since a recording starts or "
            "resumes its episode, got one with answers"
        )
    if not isinstance(agent, str) or not agent.strip() or agent.startswith("."):
        raise ValueError(f"agent: expected a name, got {agent!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise ValueError(f"seed: expected an integer of at least 0, got {seed!r}")
