"""The active-exploration loop: query a candidate set, learn it, evaluate, draw new sets."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.config import ExplorationConfig
from emoc_tf.data import pixels
from emoc_tf.data.images import ImageData, read_only
from emoc_tf.data.named import load
from emoc_tf.exploration import candidates, saved
from emoc_tf.exploration.episode import (
    Episode,
    check_data,
    check_known_ids,
    draw_episode,
    eligible_classes,
)
from emoc_tf.exploration.oracle import AnswerError, LabelOracle, Oracle, Query, ask, check_oracle
from emoc_tf.exploration.outcome import StepOutcome, evaluate
from emoc_tf.exploration.pool import UNLABELLED, Pool
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.models import compiled, episode_model
from emoc_tf.models.checks import check_model
from emoc_tf.models.episode_model import EpisodeModel, SharedWeights


class Exploration:
    """Owns pool, model, learner, oracle and evaluation of one episode at a time.

    The named networks get pixels 0–255 minus the mean image of the initial labelled images, from
    uint8 and from floats in any range that is plain (see `data.pixels.factor_to_pixels`). A model
    of your own gets images as they are, as float32: it may rescale pixels itself.

    Args:
        config: The settings.
        data: Training and test part; None loads `config.dataset`.
        model: A functional or Sequential float32 model that ends in a linear Dense layer with
            `config.known_classes` units, which becomes the growing head. Each episode starts
            from a copy of it as it is now, so it is never changed. None builds
            `config.network`. ω is what its own regularisers say, not `config.weight_decay`. What it
            was compiled with is not used: a warning says so if it differs from what is done here.
        oracle: Who answers queries; None: the labels of `data`.
        model_classes: Class id of each output of `model`, for a model that is trained already.
            None draws the known classes at random, as suits an untrained one.
        sampler: A function that builds candidate sets, see `register_sampler`; None:
            `config.sampler`.

    Attributes:
        config: As given.
        class_names: Names of all classes of the data, by class id.
        initial_model: The copy of `model` that episodes start from; None without one.
        episode: Images and true labels of the current episode; not for agents.
        state: What agents may see.
        timings: Seconds of the parts of the last `reset` or `advance`.
        query: The query that was begun and is not learnt yet; None between two steps.
        on_query: Called after a set was chosen, and again after it was answered or its answer
            was refused (`query` is None then), when `save` has something new; None for nobody.

    Raises:
        ValueError: Settings, data and model do not fit each other.
        FileNotFoundError: The data set is not there.
    """

    episode: Episode
    state: ExplorationState

    def __init__(
        self,
        config: ExplorationConfig,
        data: tuple[ImageData, ImageData] | None = None,
        model: keras.Model | None = None,
        oracle: Oracle | None = None,
        model_classes: Sequence[int] | None = None,
        sampler: candidates.Sampler | None = None,
    ) -> None:
        candidates.check_given(sampler)
        check_oracle(oracle)
        if model is not None:
            check_model(model, grows=config.novel_classes > 0)  # before any loading
        self.config = config
        self._train, self._test = check_data(
            load(config.dataset, config.data_dir) if data is None else data
        )
        large, _ = eligible_classes(config, self._train, self._test)
        self.class_names = self._train.class_names
        self.initial_model = None
        if model is None:
            pixels.factor_to_pixels(self._train.images, self._test.images)  # raises at once
        else:
            self.initial_model = episode_model.copy_own(
                compiled.uncompiled(model), self._train.images, config.known_classes
            )
            compiled.warn_of_other_training(model, config.learning_rate, config.momentum)
        self._model_classes = check_known_ids(model_classes, model is not None, config, large)
        self._given_oracle, self._given_sampler = oracle, sampler
        self._running = False
        self.timings: dict[str, float] = {}
        self.query: Query | None = None
        self.on_query: Callable[[], None] | None = None

    def reset(self, root: int, pretrained: SharedWeights | None = None) -> StepOutcome:
        """Starts an episode: draws classes and images, builds and pretrains the model.

        Args:
            root: At least 0; everything random in the episode is a function of it.
            pretrained: Where pretrained weights are taken from, or put into after pretraining, so
                that several policies share one start; such as a `PretrainedFile`.

        Raises:
            ValueError: The weights there are broken or belong to another configuration, data,
                model or root, or were made elsewhere.
            FloatingPointError: Training diverged.
        """
        self._begin(root)
        self._network, pool = self._new_network(None), self._pool
        with self._timed("training_seconds"):
            self._network.pretrain(pool.images, pool.labels, pool.labelled, pretrained)
        return self._finish_step(None, None)

    def _begin(self, root: int) -> None:
        """Draws the episode's classes and images; only the initial images are labelled."""
        config = self.config
        self._root, self._step, self.timings = root, 0, {}
        self._running, self.query = False, None
        self.episode = draw_episode(
            config,
            self._train,
            self._test,
            root,
            known_ids=self._model_classes,
            as_they_are=self.initial_model is not None,
        )
        self._known_classes = list(self.episode.classes[: config.known_classes])
        self._pool = Pool(self.episode.images)
        initial = np.arange(self.episode.num_initial)
        self._pool.label(initial, self._columns(self.episode.true_labels[initial]))
        given = self._given_oracle
        self._oracle = LabelOracle(self.episode.true_labels) if given is None else given
        self._sampler = self._given_sampler
        if self._sampler is None:
            self._sampler = candidates.named(config.sampler, self.episode.true_labels)

    def _new_network(self, num_outputs: int | None) -> EpisodeModel:
        return EpisodeModel(
            self.config, self.initial_model, self._pool.images, self._root, num_outputs
        )

    def advance(self, choice: int, *, learn_set: bool = True) -> StepOutcome:
        """Labels one candidate set, learns it, evaluates, and draws the next candidate sets.

        Args:
            choice: Index of a set whose `state.candidate_mask` is True; after `restore`, that of
                `query` if it has been answered, since an answer is never thrown away.
            learn_set: Whether the set is learnt; if not, mini-batches hold images labelled before
                only, for a control that draws the same ones where no image of the set was.

        Raises:
            RuntimeError: There is no episode, or its last step did not come to its end.
            ValueError: The set does not exist, is not the one that was answered, or the oracle's
                answer is none; nothing has changed then, and `query` is None after such an answer.
                What the oracle itself raises is passed on, with the set still in `query`.
            FloatingPointError: Training diverged.
        """
        if not self._running:
            raise RuntimeError(
                "advance: expected a call of reset first, since there is no episode or its last "
                "step was broken off"
            )
        mask = self.state.candidate_mask
        if not (0 <= choice < len(mask) and mask[choice]):
            raise ValueError(
                f"choice: expected the index of one of the {mask.sum()} candidate sets, "
                f"got {choice!r}"
            )
        indices = self.state.candidates[choice]
        indices = indices[indices >= 0]  # a set of your own sampler may have fewer than K images
        classes = self._ask(choice, indices)
        # What breaks off from here on leaves pool, model and state at odds.
        self._running = False
        self._step, self.timings = self._step + 1, {}
        with self._timed("training_seconds"):
            self._discover(classes)
            old = self._pool.labelled
            self._pool.label(indices, self._columns(classes))
            novel = indices if learn_set else None
            self._network.update(self._step, self._pool.labels, old, novel)
        return self._finish_step(choice, int(np.bincount(classes).argmax()))

    def _ask(self, choice: int, indices: np.ndarray) -> np.ndarray:
        """Returns the class ids of the chosen images, from the answer there is or the oracle."""
        if self.query is not None and self.query.classes is not None:
            if self.query.choice != choice:
                raise ValueError(
                    f"choice: expected {self.query.choice}, the set that has been answered, got "
                    f"{choice}"
                )
            return self.query.classes
        self._set_query(Query(choice))
        raw_images = self.episode.raw_images[indices]
        try:
            classes = ask(self._oracle, indices, raw_images, self.episode.classes)
        except AnswerError:
            self._set_query(None)
            raise
        self._set_query(Query(choice, classes))
        return classes

    def _set_query(self, query: Query | None) -> None:
        self.query = query
        if self.on_query is not None:
            self.on_query()

    def save(self) -> dict[str, np.ndarray]:
        """Returns everything that `restore` goes on from: the end of the last step, and `query`.

        Raises:
            RuntimeError: There is no episode, or the model is being trained.
        """
        if not self._running:
            raise RuntimeError(
                "save: expected an episode between two steps, got none or one whose last step was "
                "broken off"
            )
        arrays = saved.to_arrays(self._root, self.episode, self.state, self.query)
        return arrays | self._network.get_arrays()

    def restore(
        self, arrays: Mapping[str, np.ndarray], choice: int | None, queried_class: int | None
    ) -> StepOutcome:
        """Goes on where `save` was called, as if there had been no break.

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
        self._begin(int(arrays["root"]))
        self._known_classes = saved.known_classes(arrays, self.episode)
        self._step = int(arrays["step"])
        answered = self._pool.unlabelled[arrays["labels"][self._pool.unlabelled] != UNLABELLED]
        self._pool.label(answered, arrays["labels"][answered])
        self._network = self._new_network(len(self._known_classes))
        self._network.set_arrays(arrays)
        outcome = self._finish_step(choice, queried_class)
        self.query, self.state = saved.take_up_query(arrays, self.state)
        return outcome

    @property
    def running(self) -> bool:
        """Whether there is an episode and its last step came to its end."""
        return self._running

    @property
    def finished(self) -> bool:
        """Whether no candidate set can be formed any more."""
        return not self.state.candidate_mask.any()

    def _columns(self, classes: np.ndarray) -> np.ndarray:
        """Returns the column of the model's output for each class id."""
        return np.array([self._known_classes.index(int(c)) for c in classes], np.int64)

    def _discover(self, classes: np.ndarray) -> None:
        """Grows the head by an output for each class not seen before, in order of appearance."""
        unknown = [int(c) for c in dict.fromkeys(classes) if int(c) not in self._known_classes]
        if unknown:
            self._network.grow(self._step, len(unknown))
            self._known_classes.extend(unknown)

    def _finish_step(self, choice: int | None, queried_class: int | None) -> StepOutcome:
        with self._timed("evaluation_seconds"):
            outcome = evaluate(
                self.episode,
                self._network.predict(self.episode.test_images)[1],
                self._known_classes,
                step=self._step,
                labelled=len(self._pool.labelled),
                chosen_set=choice,
                queried_class=queried_class,
            )
        with self._timed("prediction_seconds"):
            features, logits = self._network.predict(self._pool.images)
            self._network.check_finite(self._step, features, logits)
            probabilities = read_only(tf.nn.softmax(logits).numpy())
            features, pool = read_only(features), self._pool.snapshot()
        with self._timed("candidate_seconds"):
            sets, mask = candidates.draw(
                self._sampler, self.config, self._root, self._step, self._pool.unlabelled,
                probabilities=probabilities, features=features, pool=pool,
            )  # fmt: skip
        self.state = ExplorationState(
            model=self._network.model,
            pool=pool,
            candidates=read_only(sets),
            candidate_mask=read_only(mask),
            probabilities=probabilities,
            features=features,
            known_classes=tuple(self._known_classes),
            step=self._step,
        )
        self._running, self.query = True, None
        return outcome

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - start
