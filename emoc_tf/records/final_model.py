"""The model that a run ends with, in a file, or of the checkpoint while it goes on."""

from pathlib import Path
from typing import Any

import keras

from emoc_tf.config import ExplorationConfig
from emoc_tf.data import ImageFolder
from emoc_tf.exploration.loop import Exploration
from emoc_tf.exploration.task import Task
from emoc_tf.models.files import load_model, names_file, save_model
from emoc_tf.models.raw_images import for_raw_images
from emoc_tf.records import image_kind
from emoc_tf.records.labels import RunLabels
from emoc_tf.records.record_folder import RecordFolder

MODEL = "model.keras"


def save_final_model(exploration: Exploration, folder: Path) -> None:
    """Writes the model of an episode and the names of its classes; it takes images as they came.

    Which images those are is told in `config.json`, if the folder has one.

    Where no class is known there is nothing to be written.
    """
    model, names = model_of(exploration)
    if not names:
        return
    save_model(model, folder / MODEL, names)
    record = RecordFolder(folder)
    config = record.read_config()
    if config is not None and image_kind.IMAGES not in config:
        kind = image_kind.kind_of(exploration.episode.raw_images)
        record.write_config(config | {image_kind.IMAGES: kind})


def model_of(exploration: Exploration) -> tuple[keras.Model, list[str]]:
    """Returns the model of an episode, for images as they came, and the names of its classes."""
    episode, state = exploration.episode, exploration.state
    names = [exploration.class_names[class_id] for class_id in state.known_classes]
    return for_raw_images(state.model, episode.mean, episode.factor), names


def final_model(
    labels: RunLabels, images: Any = None, data_dir: str | None = None
) -> tuple[keras.Model, list[str]]:
    """Returns the model of a run, for images as they came, and the names of its classes.

    Args:
        labels: Of the run.
        images: Of its task, or a folder of them; for a run that has not ended. None: as recorded.
        data_dir: Where its data set lies; for a run that has not ended.

    Raises:
        ValueError: There is no such model, or it cannot be read.
    """
    file = labels.run / MODEL
    if file.exists():
        model, names = load_model(file)
        if names is None:
            raise ValueError(
                f"run: expected the names of the model's classes in {names_file(file)}, got no "
                f"such file; its run wrote it beside {MODEL}"
            )
        return model, names
    saved = RecordFolder(labels.run).read_checkpoint()
    if saved is None:
        raise ValueError(
            f"run: expected a model, got none in {labels.run}: it was not asked for. Run it again "
            f"with --save_model, in another output_dir"
        )
    try:
        last = saved.header["outcomes"][-1]
        exploration = _exploration(labels, images, data_dir)
        exploration.restore(saved.arrays, last["chosen_set"], last["queried_class"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(
            f"run: expected a checkpoint in {labels.run} that the settings and the images are "
            f"enough for, got one that fails ({error}); for a run with a model of your own let it "
            f"end with --save_model"
        ) from error
    return model_of(exploration)


def _exploration(labels: RunLabels, images: Any, data_dir: str | None) -> Exploration:
    config = ExplorationConfig().replace(**labels.config["configuration"], data_dir=data_dir)
    told = labels.config.get("task")
    if told is None:
        return Exploration(config)
    if images is None or isinstance(images, str | Path):
        folder = labels.folder if images is None else Path(images)
        if folder is None:
            raise ValueError("images: expected those of the task, got none")
        images = ImageFolder(folder, tuple(told["shape"][1:3]), told.get("fit", "letterbox"))
    return Exploration(config, task=Task(images))
