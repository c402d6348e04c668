"""Explorations of small tasks: arrays and folders, with a model that learns at once."""

import keras
import numpy as np

from emoc_tf import ExplorationConfig
from emoc_tf.data import ImageFolder
from emoc_tf.exploration.loop import Exploration
from emoc_tf.exploration.task import Task
from emoc_tf.records.queried import AnswerFiles
from emoc_tf.records.run_folder import RunFolder
from tests.data import pictures

CONFIG = ExplorationConfig(
    num_candidate_sets=6, set_size=2, pretrain_iterations=1, update_iterations=1, batch_size=4,
    max_steps=30, sampler="uniform", reward="discovery",
)  # fmt: skip


def model(units, shape=(8, 8, 3)):
    return keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(units, kernel_initializer=keras.initializers.GlorotUniform(seed=0)),
        ]
    )


def array_task(count=16, test=None):
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(count, 8, 8, 3), dtype=np.uint8)
    labels = np.full(count, -1)
    labels[:4] = [0, 0, 1, 1]
    return Task(images, labels, ("cat", "dog"), test)


def folder_task(root, extra=10):
    """A folder task: `pictures.make_folder` and some images without a label."""
    pictures.make_folder(root)
    for i in range(extra):
        pictures.write(root / "unlabelled" / f"more {i}, old.png", 100 + i)
    return again(root)


def again(root):
    """The task of a folder as it is now."""
    folder = ImageFolder(root, 8)
    return Task(folder, folder.labels, folder.class_names)


def exploration(task, root=7, **changes):
    found = Exploration(CONFIG.replace(**changes), task=task, model=model(2))
    found.reset(root)
    return found


def answer(found, labels):
    """Answers the first candidate set there is; returns the images."""
    choice = int(np.flatnonzero(found.state.candidate_mask)[0])
    query = found.ask(choice)
    found.answer(query, labels)
    return query.indices.tolist()


def leave(folder, found, config=CONFIG):
    """Leaves a run folder of an exploration, as it is after its answers."""
    run = RunFolder(folder, "random", 0, config)
    run.claim(task=found.task)
    AnswerFiles(run.path, found)
    return run.path
