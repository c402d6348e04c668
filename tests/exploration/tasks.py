"""Small tasks, and models that are made and trained in no time."""

import keras
import numpy as np

from emoc_tf import ExplorationConfig, Task
from emoc_tf.exploration import Exploration

NAMES = ("cat", "dog", "fox", "owl")


def config(**changes):
    settings = {
        "set_size": 2, "num_candidate_sets": 4, "sampler": "uniform", "pretrain_iterations": 2,
        "update_iterations": 2, "batch_size": 4, "learning_rate": 0.1, "max_steps": None,
    }  # fmt: skip
    return ExplorationConfig(**{**settings, **changes})


def images(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 1, 1, 2)).astype(np.float32)


def task(labels, num_names=2, **arguments):
    labels = np.full(labels, -1) if isinstance(labels, int) else labels
    return Task(images(len(labels)), labels, NAMES[:num_names], **arguments)


def model(units, shape=(1, 1, 2)):
    initializer = keras.initializers.GlorotNormal(1)
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Flatten(),
            keras.layers.Dense(max(1, units), kernel_initializer=initializer),
        ]
    )


class Still:
    """A learner that learns nothing, and notes what it was to learn."""

    calls: list[dict]

    def __init__(self, model, images):
        self.model = model
        type(self).calls = []

    def train(self, iterations, seed, labels, old, novel):
        novel = None if novel is None else novel.tolist()
        call = {"iterations": iterations, "old": old.tolist(), "novel": novel}
        type(self).calls.append({**call, "labels": labels.tolist()})

    def replace_model(self, model):
        self.model = model

    def get_arrays(self):
        return {}

    def set_arrays(self, arrays):
        pass


class Told:
    """Gives the answers that it was made with, one after the other."""

    def __init__(self, *answers):
        self.answers, self.classes, self.asked = list(answers), [], []

    def set_classes(self, class_names):
        self.classes.append(class_names)

    def label(self, indices, images):
        self.asked.append(indices.tolist())
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


def explore(labels, *answers, num_names=2, learner=Still, root=0, task_=None, **changes):
    """An exploration of a small task, whose first outcome is `first`."""
    given = task(labels, num_names) if task_ is None else task_
    known = len(given.start_classes) or len(given.class_names)
    exploration = Exploration(
        config(**changes), task=given, model=model(known), learner=learner,
        oracle=Told(*answers) if answers else None,
    )  # fmt: skip
    exploration.first = exploration.reset(root)
    return exploration


def first_set(exploration):
    return int(np.flatnonzero(exploration.state.candidate_mask)[0])


def say(exploration, answer):
    """Asks about the first set and answers; returns its images and the outcome."""
    query = exploration.ask(first_set(exploration))
    return query.indices.tolist(), exploration.answer(query, answer)


def restored(exploration, **arguments):
    """Another exploration that resumes where this one is."""
    other = Exploration(
        exploration.config, model=exploration.initial_model,
        **{"task": exploration._source.task, "learner": Still, **arguments},
    )  # fmt: skip
    other.first = other.restore(exploration.save(), None, None)
    return other
