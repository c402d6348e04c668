"""What the page's buttons write: labels for other tools, predictions, the model."""

from pathlib import Path

import numpy as np

from emoc_tf.annotation.exploring import Annotated
from emoc_tf.exploration.answers import SKIP
from emoc_tf.models.files import save_model
from emoc_tf.records import export_lists
from emoc_tf.records.exports import FORMATS, export
from emoc_tf.records.final_model import model_of
from emoc_tf.records.predictions import COLUMNS, predictions
from emoc_tf.records.recording import Recording


def write(
    exploration: Annotated, recording: Recording, format: str, folder: Path
) -> tuple[Path, int]:
    """Writes one export under a new name.

    Args:
        exploration: What is known.
        recording: Its records.
        format: One of `settings.EXPORTS`.
        folder: Where to.

    Returns:
        The file or folder, and how many images it tells of; classes, for a model.

    Raises:
        ValueError: There is nothing to write yet.
    """
    recording.write()
    if format in FORMATS:
        return export(recording.path, format, _new(folder, FORMATS[format]))
    model, names = model_of(exploration)
    if not names:
        raise ValueError("nothing to write: the model knows no class yet")
    if format == "model":
        file = _new(folder, "model.keras")
        save_model(model, file, names)
        return file, len(names)
    images = exploration.task.images
    there = np.setdiff1d(np.flatnonzero(exploration.all_labels == SKIP), images.gone)
    rows = [
        {**row, "path": (images.root / images.paths[row["image"]]).as_posix(), "data_index": None}
        for row in predictions(model, images, names, there.astype(np.int64))
    ]
    file = _new(folder, "predictions.csv")
    for target in (file, file.with_suffix(".jsonl")):
        export_lists.write_rows(rows, COLUMNS, target, target.suffix[1:])
    return file, len(rows)


def _new(folder: Path, name: str) -> Path:
    """Returns a path that nothing lies at, such as `labels-2.csv`."""
    stem, suffix = Path(name).stem, Path(name).suffix
    number = 1
    while list(folder.glob(f"{stem}-{number}*")):
        number += 1
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{stem}-{number}{suffix}"
