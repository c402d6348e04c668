"""The exploration that the worker owns: it knows how far the journal of the page was followed."""

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from emoc_tf import agents
from emoc_tf.agents.agent import Agent
from emoc_tf.annotation.said import Label
from emoc_tf.annotation.settings import Settings
from emoc_tf.data import ImageFolder
from emoc_tf.data.decoding import IMAGE_SIZE
from emoc_tf.data.listings import comparable
from emoc_tf.exploration.answers import REJECT, SKIP
from emoc_tf.exploration.loop import Exploration
from emoc_tf.exploration.oracle import Query
from emoc_tf.exploration.outcome import StepOutcome
from emoc_tf.exploration.task import Task
from emoc_tf.models.files import load_model
from emoc_tf.scoring import scoring_on

# How many digits of the SHA-256 of a file are the key of its image.
KEY = 32


class Annotated(Exploration):
    """An exploration whose checkpoint also tells which lines of the page's journal it holds.

    Both are written at once, so that a line is never applied twice and never lost.

    Attributes:
        applied: How many lines were applied.
        ids: The page's id of each open query, by the query's number.
        next_id: The id of the query that is opened next; None for a new one.
    """

    applied = 0
    next_id: str | None = None

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.ids: dict[int, str] = {}

    def save(self) -> dict[str, np.ndarray]:
        """Returns what `restore` resumes from; open queries have their ids from here on."""
        open_numbers = [query.number for query in self.queries]
        for number in open_numbers:
            if number not in self.ids:
                self.ids[number] = self.next_id or secrets.token_hex(8)
                self.next_id = None
        self.ids = {number: self.ids[number] for number in open_numbers}
        told = json.dumps({"applied": self.applied, "ids": list(self.ids.items())})
        return super().save() | {"annotation": np.array(told)}

    def restore(
        self, arrays: Mapping[str, np.ndarray], choice: int | None, queried_class: int | None
    ) -> StepOutcome:
        """Resumes where `save` was called; see `Exploration.restore`."""
        told = json.loads(str(arrays["annotation"])) if "annotation" in arrays else {}
        self.applied, self.ids = told.get("applied", 0), dict(map(tuple, told.get("ids", [])))
        return super().restore(arrays, choice, queried_class)

    def label_of(self, class_id: int) -> Label:
        """Returns what the page calls a class id, `SKIP` or `REJECT`."""
        if class_id >= 0:
            return {"class": self.class_names[class_id]}
        return "reject" if class_id == REJECT else "none"

    @property
    def all_labels(self) -> np.ndarray:
        """(n_pool,) `labels`, with those of the audit."""
        labels = self.labels
        for index, class_id in self._book.audited.items():
            if index < len(labels):
                labels[index] = class_id
        return labels

    @property
    def keys(self) -> list[str]:
        """The key of each image."""
        return [text[:KEY] for text in self.task.images.sha256]

    def keys_at(self, index: int) -> str:
        """Returns the key of an image."""
        return self.task.images.sha256[index][:KEY]

    def guesses(self, query: Query) -> list[tuple[str, float]]:
        """Returns what the model takes the images of a query for, and how likely that is."""
        known = self.state.known_classes
        if not known or query.choice is None:  # guesses might sway the answers of an audit
            return []
        posteriors = self.state.probabilities[query.indices]
        best = posteriors.argmax(axis=1)
        return [
            (self.class_names[known[column]], round(float(row[column]), 3))
            for column, row in zip(best.tolist(), posteriors, strict=True)
        ]

    def told_labels(self) -> list[tuple[int, Label]]:
        """Returns the images that have a class or were rejected, by index."""
        labels = self.all_labels
        return [(int(i), self.label_of(int(labels[i]))) for i in np.flatnonzero(labels != SKIP)]


def make(
    settings: Settings, progress: Callable[[str, int, int], None]
) -> tuple[Annotated, Agent, Callable[[], None]]:
    """Reads the images and returns an exploration without an episode.

    Args:
        settings: What is annotated.
        progress: Called as `ImageFolder` calls it.

    Returns:
        The exploration; the policy; and what is to be called once the episode is there: labels of
        classes that a model handed in does not know are given then.

    Raises:
        ValueError: The settings, images and model do not fit each other.
    """
    config, model, names = settings.exploration, None, []
    size: int | tuple[int, int] = settings.image_size or IMAGE_SIZE
    if settings.model is not None:
        model, found = load_model(settings.model)
        if found is None:
            raise ValueError(
                f"model: expected the names of its classes beside {settings.model}, got no such "
                f"file; emoc_tf.models.save_model writes both"
            )
        names, shape = found, model.input_shape[1:3]
        size = settings.image_size or (IMAGE_SIZE if None in shape else tuple(shape))
    agent = agents.make(settings.policy, seed=settings.seed)
    images = ImageFolder(settings.images, size, settings.fit, settings.store_folder, progress)
    forms = [*map(comparable, names)]
    classes = [*names, *(n for n in images.class_names if comparable(n) not in forms)]
    forms = [*map(comparable, classes)]
    order = np.array([forms.index(comparable(name)) for name in images.class_names], np.int64)
    labels = np.full(len(images), SKIP)
    labelled = np.flatnonzero(images.labels >= 0)
    labels[labelled] = order[images.labels[labelled]]
    if model is None:
        exploration = Annotated(config, task=Task(images, labels, classes))
    else:
        labels[labels >= len(names)] = SKIP
        exploration = Annotated(
            config, task=Task(images, labels, classes), model=model,
            model_classes=range(len(names)),
        )  # fmt: skip
    exploration.image_scores = agent.score_images
    exploration.scoring = scoring_on(settings.scoring_ray)

    def tell_the_rest() -> None:
        said = {index for entry in exploration.journal for index in entry.indices}
        said |= set(
            exploration.queries and np.concatenate([q.indices for q in exploration.queries])
        )
        rest = [i for i in labelled.tolist() if exploration.labels[i] == SKIP and i not in said]
        if rest:
            exploration.correct(rest, [images.class_names[images.labels[i]] for i in rest])

    return exploration, agent, tell_the_rest
