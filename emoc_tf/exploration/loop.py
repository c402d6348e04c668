"""The active-exploration loop: query a candidate set, learn its answer, evaluate, draw new sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from emoc_tf.config import ExplorationConfig
from emoc_tf.data.images import ImageData
from emoc_tf.exploration import candidates, saved
from emoc_tf.exploration.answers import AnswerError, read
from emoc_tf.exploration.asking import Asking
from emoc_tf.exploration.oracle import Oracle, Query, check_oracle, tell_classes
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.exploration.sources import Drawn, Given, Source
from emoc_tf.exploration.task import Task
from emoc_tf.models.checks import check_model
from emoc_tf.models.episode_model import SharedWeights
from emoc_tf.models.own_learner import check_maker


class Exploration(Asking):
    """Owns pool, model, learner, oracle and evaluation of one episode at a time.

    An episode is drawn from labelled data, whose labels an oracle hides, or is a `Task` of yours,
    as it is. The named networks get pixels 0–255 minus the mean image of the images labelled at the
    start, from uint8 and from floats in any range that is plain (see
    `data.pixels.factor_to_pixels`). A model of your own gets images as they are, as float32: it may
    rescale pixels itself.

    Args:
        config: The settings. For a task, those that draw classes and images do not count, and
            candidate sets of the sampler `single_class`, which needs true labels, are those of
            `cluster`.
        data: Training and test part; None loads `config.dataset`.
        model: A functional or Sequential float32 model that ends in a linear Dense layer with
            `config.known_classes` units, which becomes the growing head. Each episode starts
            from a copy of it as it is now, so it is never changed. None builds
            `config.network`. ω is what its own regularisers say, not `config.weight_decay`. What it
            was compiled with is not used: a warning says so if it differs from what is done here.
            For a task it has a unit for each class with a labelled image, or for each of
            `class_names`; where no class is known yet its head is replaced.
        oracle: Who answers queries; None: the labels of `data`, or, for a task, whoever calls
            `ask` and `answer`.
        model_classes: Class id of each output of `model`, for a model that is trained already.
            None draws the known classes at random, as suits an untrained one.
        sampler: A function that builds candidate sets, see `register_sampler`; None:
            `config.sampler`.
        task: Images of yours, with the labels so far, in place of `data`.
        learner: A function of model and pool images that makes what trains the model, see
            `emoc_tf.models.LearnerLike`; None: SGD or Adam, as `config` says.

    Attributes:
        config: As given.
        initial_model: The copy of `model` that episodes start from; None without one.
        episode: Images, and true labels if there are some, of the current episode; not for agents.
        state: What agents may see.
        outcomes: Of the reset and of all steps of the episode so far; after `restore` the last.
        timings: Seconds of the parts of the last `reset`, `advance` or `answer`.
        query: The query that `advance` has begun and that is not learnt yet; None between two
            steps.
        image_scores: A policy's `score_images`, which the sampler `top` asks for the images that
            the policy wants most, also after `restore`: set it before either; None for nobody's.
        scoring: What computes scores and predictions elsewhere, see `emoc_tf.scoring.scoring_on`;
            set it before `reset` or `restore`. None for this process.
        on_query: Called after a set was chosen, and again after it was answered or its answer
            was refused (`query` is None then), when `save` has something new; None for nobody.

    Raises:
        ValueError: Settings, data and model do not fit each other.
        FileNotFoundError: The data set is not there.

    Example:
        >>> from emoc_tf import ExplorationConfig, Task, load
        >>> from emoc_tf.exploration import Exploration
        >>> train, _ = load("digits")
        >>> exploration = Exploration(ExplorationConfig(set_size=3), task=Task(train.images[:60]))
        >>> outcome = exploration.reset(0)
        >>> query = exploration.ask(0)  # the first candidate set
        >>> query.images.shape
        (3, 8, 8, 1)
        >>> outcome = exploration.answer(query, ["seven", "one", None])  # None: ask later
        >>> outcome.labelled, exploration.class_names
        (2, ('seven', 'one'))
    """

    def __init__(
        self,
        config: ExplorationConfig,
        data: tuple[ImageData, ImageData] | None = None,
        model: keras.Model | None = None,
        oracle: Oracle | None = None,
        model_classes: Sequence[int] | None = None,
        sampler: candidates.Sampler | None = None,
        *,
        task: Task | None = None,
        learner: Callable[[keras.Model, Any], Any] | None = None,
    ) -> None:
        candidates.check_given(sampler)
        check_oracle(oracle)
        check_maker(learner)
        if model is not None:  # before any loading
            asks_others = task is not None or oracle is not None  # who may name new classes
            check_model(model, grows=asks_others or config.novel_classes > 0)
        source: Source = (
            Drawn(config, data, model, model_classes, learner is not None)
            if task is None
            else Given(config, task, data, model, model_classes, learner is not None)
        )
        super().__init__(config, source, oracle, sampler, learner)
        self.query: Query | None = None
        self.on_query: Callable[[], None] | None = None

    def reset(self, root: int, pretrained: SharedWeights | None = None) -> StepOutcome:
        """Starts an episode: draws classes and images or takes the task, and pretrains the model.

        The model of a task is trained from the time on at which two classes are known.

        Args:
            root: At least 0; everything random in the episode is a function of it.
            pretrained: Where pretrained weights are taken from, or put into after pretraining, so
                that several policies share one start; such as a `PretrainedFile`.

        Raises:
            ValueError: The weights there are broken or belong to another configuration, data,
                model or root, or were made elsewhere.
            FloatingPointError: Training diverged.
        """
        self.query = None
        self._begin(root)
        self._network, pool = self._new_network(None), self._pool
        with self._timed("training_seconds"):
            if self._trains and len(pool.labelled):
                self._network.pretrain(pool.images, pool.labels, pool.labelled, pretrained)
        if len(self._audit):
            query = Query(None, indices=self._audit)
            if self._oracle is None:
                self._asked.append(self._shown(query))
            else:
                self._take_audit(self._ask_oracle(self._shown(query)))
        return self._finish_step(None, None)

    def advance(self, choice: int, *, learn_set: bool = True) -> StepOutcome:
        """Asks about one candidate set, learns it, evaluates, and draws the next candidate sets.

        Args:
            choice: Index of a set whose `state.candidate_mask` is True; after `restore`, that of
                `query` if it has been answered, since an answer is never thrown away.
            learn_set: Whether the set is learnt; if not, mini-batches hold images labelled before
                only, for a control that draws the same ones where no image of the set was.

        Raises:
            RuntimeError: There is no episode, or its last step did not come to its end, or nobody
                is there to be asked.
            ValueError: The set does not exist, is not the one that was answered, or the oracle's
                answer is none; nothing has changed then, and `query` is None after such an answer.
                What the oracle itself raises is passed on, with the set still in `query`.
            FloatingPointError: Training diverged.
        """
        self._check_running("advance")
        if self.query is None or self.query.classes is None:
            self._check_learnt("advance")
        query = self._query(choice)
        if self.query is not None and self.query.classes is not None:
            if self.query.choice != choice:
                raise ValueError(
                    f"choice: expected {self.query.choice}, the set that has been answered, got "
                    f"{choice}"
                )
            query = self.query
        else:
            if self._oracle is None:
                raise RuntimeError("advance: expected an oracle; without one, call ask and answer")
            self._set_query(query)
            try:
                query = self._ask_oracle(query)
            except AnswerError:
                self._set_query(None)
                raise
            self._set_query(query)
        outcome = self._learn(query, learn_set)
        self.query = None
        return outcome

    def _set_query(self, query: Query | None) -> None:
        self.query = query
        self._tell()

    def _tell(self) -> None:
        if self.on_query is not None:
            self.on_query()

    def save(self) -> dict[str, np.ndarray]:
        """Returns everything that `restore` resumes from: the end of the last step, open queries.

        Raises:
            RuntimeError: There is no episode, or the model is being trained.
        """
        if not self._running:
            raise RuntimeError(
                "save: expected an episode between two steps, got none or one whose last step was "
                "broken off"
            )
        arrays = saved.to_arrays(
            self._root, self.episode, self.state, self._book, self.query, self._asked, self._draws,
            self._audit, self._gone, self._source.task,
        )  # fmt: skip
        return arrays | candidates.to_arrays(self._sampler) | self._network.get_arrays()

    def restore(
        self, arrays: Mapping[str, np.ndarray], choice: int | None, queried_class: int | None
    ) -> StepOutcome:
        """Resumes where `save` was called, as if there had been no break.

        The images of a task may be others than they were then, if they are recognised by their
        content (`ImageFolder`): what was said stays with the image, new ones wait, and a label that
        a folder gives now and did not then is taken as a correction.

        Args:
            arrays: What `save` returned in an exploration of the same configuration, data and
                model. A query begun is in `query` again; `advance` takes its answer from there.
            choice: For the outcome, as are the following; they are not in the arrays.
            queried_class: See `StepOutcome`.

        Returns:
            The outcome of the last step, evaluated again.

        Raises:
            ValueError: The arrays belong to other data, another configuration or model; `reset`
                or another `restore` is needed then.
        """
        self.query = None
        self._begin(int(arrays["root"]), arrays)
        taken = saved.replay_journal(
            arrays, self.episode, self._book, self._source.task, self._audit
        )
        self._audit = taken.audit
        tell_classes(self._oracle, self._book.class_names)
        self._known, self._step = arrays["known_classes"].tolist(), int(arrays["step"])
        self._trains = self._trains or any(entry.kind == "learn" for entry in self.journal)
        self._network = self._new_network(len(self._known))
        self._network.set_arrays(self._network.moved(arrays, taken.place, len(self._pool)))
        self._follow()  # classes may have gone with their images
        self._asked = taken.queries
        outcome = self._finish_step(choice, queried_class)
        self._draws = int(arrays.get("draws", 0))
        end = len(self._book.class_names)
        if taken.late:
            self._say(*taken.late, tell=False)
        query, self.state = saved.take_up(
            arrays, self.state, self._source.task, sets_as_then=not taken.late
        )
        if query is not None:
            guesses = self._guesses(query.indices)
            self.query = self._shown(self._read_again(replace(query, guesses=guesses), end))
        self._asked = [self._shown(self._read_again(query, end)) for query in self._asked]
        return outcome

    def _read_again(self, query: Query, end: int) -> Query:
        """Returns a query with the ids of the new classes in its answer as they are now.

        Args:
            query: Maybe with an answer.
            end: How many classes there were when it was answered.
        """
        if query.classes is None:
            return query
        values = [query.new_classes[c - end] if c >= end else c for c in query.classes.tolist()]
        return query.answered(read(values, len(values), self._book.class_names))

    @property
    def task(self) -> Task | None:
        """The task that was handed in, as it is today; None where episodes are drawn."""
        return self._source.task

    def is_as_saved(self, arrays: Mapping[str, np.ndarray]) -> bool:
        """Returns whether all is as after the last step: the same images, and nothing corrected."""
        kinds = [entry.kind for entry in self.journal]
        corrected = kinds and kinds[-1] not in ("answer", "learn", "audit")
        return str(arrays["images"]) == self.episode.digest and not corrected

    @property
    def running(self) -> bool:
        """Whether there is an episode and its last step came to its end."""
        return self._running

    @property
    def finished(self) -> bool:
        """Whether no candidate set can be formed any more, and no query is open."""
        return not self._asked and not self.state.candidate_mask.any()
