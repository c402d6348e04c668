"""Where episodes come from: drawn from labelled data, or a task as it is."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data import pixels, views
from emoc_tf.data.images import ImageData
from emoc_tf.data.named import load
from emoc_tf.data.whole import Whole
from emoc_tf.exploration import drawing, stopping, whereabouts
from emoc_tf.exploration.answers import SKIP
from emoc_tf.exploration.episode import Episode, sample_of, take_task
from emoc_tf.exploration.task import Task
from emoc_tf.models import compiled, episode_model, networks, prefix


class Source(Protocol):
    """Makes episodes.

    Attributes:
        class_names: Of all classes there are before any episode, by class id.
        initial_model: The copy of a model of your own that episodes start from, or None.
        task: The task as it is today; None where episodes are drawn and their answers known.
    """

    class_names: tuple[str, ...]
    initial_model: keras.Model | None
    task: Task | None

    def episode(self, root: int, arrays: Mapping[str, np.ndarray] | None = None) -> Episode:
        """Returns the episode of a root, or the one that was saved as arrays."""


class Drawn:
    """Episodes drawn from labelled data, whose labels are hidden.

    Args:
        config: How many classes and images.
        data: Training and test part; None loads `config.dataset`.
        model: See `Exploration`, as for the following.
        model_classes: See `Exploration`.
        own_learner: Whether a learner of your own trains the model, so that nothing is said of
            what it was compiled with.

    Raises:
        ValueError: They do not fit each other.
        FileNotFoundError: The data set is not there.
    """

    task = None

    def __init__(
        self,
        config: ExplorationConfig,
        data: tuple[ImageData, ImageData] | None,
        model: keras.Model | None,
        model_classes: Sequence[int] | None,
        own_learner: bool = False,
    ) -> None:
        config.check_drawn()
        self._plain = model is None and networks.takes_plain_pixels(config.network)
        if model is None:
            networks.check_ready(config.network)
        pool = config.pool_per_class
        most = pool and pool * (config.known_classes + config.novel_classes) - config.audit
        stopping.check_rules(config, most, "the pool has no more images")
        self._config = config
        self._train, self._test = drawing.check_data(
            load(config.dataset, config.data_dir) if data is None else data
        )
        every = drawing.eligible_classes(config, self._train, self._test)
        drawing.warn_of_small_classes(config, self._train, every)
        self.class_names = drawing.distinct(self._train.class_names)
        self.initial_model = self._factor = None
        if model is None:
            self._factor = pixels.factor_to_pixels(self._train.images, self._test.images)
        else:
            parts = self._train.images, self._test.images
            self.initial_model = copied(model, config.known_classes, *parts)
            if not own_learner:
                compiled.warn_of_other_training(model, config)
        self._wholes = self._kept_wholes()
        self._known_ids = drawing.check_known_ids(model_classes, model is not None, config, every)

    def _kept_wholes(self) -> tuple[Whole, Whole] | None:
        """Returns both parts, if there is a folder for what frozen layers compute of them."""
        parts, folder = (self._train.images, self._test.images), self._config.cache_dir
        if folder is None or not all(map(views.in_memory, parts)):
            return None
        own, black = self.initial_model, None
        if not (self._plain if own is None else prefix.split(own)):
            return None
        if own is None:
            black = pixels.black(self._factor, parts[0].shape[1:])
        train, test = (Whole(each, black, self._factor or 1.0, folder) for each in parts)
        return train, test

    def episode(self, root: int, arrays: Mapping[str, np.ndarray] | None = None) -> Episode:
        """Returns the episode of a root; see `drawing.draw_episode`."""
        as_they_are = self.initial_model is not None
        return drawing.draw_episode(
            self._config, self._train, self._test, root, self._known_ids, as_they_are,
            self._factor, self._wholes, self._plain,
        )  # fmt: skip


class Given:
    """A task as it is, at each reset.

    Args:
        config: The settings; those that draw classes and images do not count.
        task: The task.
        data: Has to be None.
        model: See `Exploration`, as for the following.
        model_classes: See `Exploration`.
        own_learner: See `Drawn`.

    Raises:
        ValueError: They do not fit each other.
    """

    def __init__(
        self,
        config: ExplorationConfig,
        task: Task,
        data: object,
        model: keras.Model | None,
        model_classes: Sequence[int] | None,
        own_learner: bool = False,
    ) -> None:
        if not isinstance(task, Task):
            raise ValueError(
                f"task: expected an emoc_tf.Task, got {type(task).__name__}; one is made as "
                f"Task(images, labels, class_names)"
            )
        if data is not None:
            raise ValueError("data: expected None beside a task, which has its own images")
        most = None
        if task.image_ids() is None:  # a folder's labels and images may be others on another day
            most = len(check_audit(config, task)) - config.audit
        stopping.check_rules(config, most, "no more images wait for an answer")
        self.task, self.class_names = task, tuple(task.class_names)
        self.initial_model = None
        units = None if model is None else model.output_shape[-1]
        self._units, self._model_classes = units, model_classes
        self._plain = model is None and networks.takes_plain_pixels(config.network)
        if model is None:
            networks.check_ready(config.network)
        if units is None or len(task.start_classes) <= units:
            # Else it may be that classes came into a folder since the episode was begun.
            known_at_start(task, units, model_classes)
        if model is None:
            pixels.factor_to_pixels(sample_of(task.images), task.test and task.test.images)
        else:
            parts = [task.images] if task.test is None else [task.images, task.test.images]
            self.initial_model = copied(model, units, *parts)
            if not own_learner:
                compiled.warn_of_other_training(model, config)

    def episode(self, root: int, arrays: Mapping[str, np.ndarray] | None = None) -> Episode:
        """Returns the task's episode; its labels are those of its beginning if it was saved."""
        task, mean = self.task, None
        if arrays is None:
            known = known_at_start(task, self._units, self._model_classes)
        else:
            task, known = whereabouts.task_at_start(arrays, task)
            mean = arrays.get("mean")
            _check_shape(arrays, mean, tuple(task.images.shape[1:]))
        as_they_are = self.initial_model is not None
        return take_task(task, known, as_they_are=as_they_are, mean=mean, plain_pixels=self._plain)


def _check_shape(
    arrays: Mapping[str, np.ndarray], mean: np.ndarray | None, shape: tuple[int, ...]
) -> None:
    """Raises `ValueError` if the images of an episode had another size; older ones may not tell."""
    then = arrays.get("image_shape", None if mean is None else mean.shape)
    if then is not None and tuple(map(int, then)) != shape:
        raise ValueError(
            f"images: expected images of shape {tuple(map(int, then))}, as when the episode was "
            f"begun, got {shape}; bring them to that size (image_size), or begin in another folder"
        )


def copied(model: keras.Model, units: int, images: Any, *others: Any) -> keras.Model:
    """Returns a copy of a model of your own; see `episode_model.copy_own`."""
    copy = episode_model.copy_own(compiled.uncompiled(model), images, units, *others)
    prefix.warn_of_repeated_work(copy)
    return copy


def known_at_start(
    task: Task, units: int | None, model_classes: Sequence[int] | None
) -> tuple[int, ...]:
    """Returns the class ids that the model has outputs for at the start, in their order.

    Args:
        task: With the labels so far.
        units: Outputs of a model handed in; None without one.
        model_classes: Class id of each of them, or None.

    Raises:
        ValueError: The outputs are none of the task's classes.
    """
    labelled, names = task.start_classes, task.class_names
    if model_classes is not None:
        classes = tuple(int(c) for c in model_classes)
        inside = all(0 <= c < len(names) for c in classes)
        if units is None or len(classes) != units or len(set(classes)) != units or not inside:
            raise ValueError(
                f"model_classes: expected {units or 'no'} different class ids in [0, {len(names)}),"
                f" one for each output of a model handed in, got {classes}"
            )
        missing = sorted(set(labelled) - set(classes))
        if missing:
            raise ValueError(
                f"model_classes: expected all classes with labelled images, {list(labelled)}, got "
                f"{classes}; give the images of {missing} the label -1, and answer with it later"
            )
        return classes
    if units is None or units == len(labelled) or not names:
        return labelled
    if units == len(names):
        return tuple(range(units))
    raise ValueError(
        f"model: expected an output for each of the {len(labelled)} classes with labelled images, "
        f"or for each of the {len(names)} class_names, got {units} outputs; model_classes tells "
        f"which classes they are"
    )


def audit_images(
    config: ExplorationConfig,
    episode: Episode,
    root: int,
    arrays: Mapping[str, np.ndarray] | None,
) -> np.ndarray:
    """Returns the pool indices of the audit, ascending, drawn uniformly from what is unlabelled.

    Args:
        config: How many.
        episode: Of which.
        root: Of the episode.
        arrays: Of an episode that was saved; a task's tell the images that were drawn.

    Raises:
        ValueError: There are not as many images without a label.
    """
    if arrays is not None and "audit" in arrays:
        return arrays["audit"]
    waiting = check_audit(config, episode.task)
    rng = streams.generator(root, 0, "audit")
    return np.sort(rng.choice(waiting, config.audit, replace=False))


def check_audit(config: ExplorationConfig, task: Task) -> np.ndarray:
    """Returns the indices of images without a label; raises `ValueError` if an audit takes all."""
    waiting = np.flatnonzero(task.labels == SKIP)
    if config.audit >= max(len(waiting), 1):
        raise ValueError(
            f"audit: expected fewer than the {len(waiting)} images without a label, got "
            f"{config.audit}"
        )
    return waiting
