"""Explorations that are recorded, and how such a recording ends without warning."""

from emoc_tf.exploration.loop import Exploration
from emoc_tf.records.queried import QUERIED_COLUMNS, read_texts
from tests.records import tasks


def new(task, **changes):
    model = tasks.model(2, task.images.shape[1:])
    return Exploration(tasks.CONFIG.replace(**changes), task=task, model=model)


def asked(folder):
    rows = read_texts(folder / "queried.csv", QUERIED_COLUMNS)
    return [(int(r["image"]), r["kind"], r["class_name"], r["taken_back"]) for r in rows]


def die(recording):
    """Ends a recording as the end of its process would: nothing more is written."""
    recording._held.close()
