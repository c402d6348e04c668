"""What people said in a run, brought to other tools."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from emoc_tf.data import named
from emoc_tf.exploration.drawing import distinct
from emoc_tf.records import export_labelstudio, export_lists, export_trees
from emoc_tf.records.labels import RunLabels, read_labels
from emoc_tf.records.placing import WAYS, Pictures

# Format to what it is called in the folder of exports.
FORMATS = {
    "csv": "labels.csv",
    "jsonl": "labels.jsonl",
    "folders": "folders",
    "labelstudio": "labelstudio",
    "fiftyone": "fiftyone",
    "imagefolder": "imagefolder",
}
EXPORTS = "exports"
_LISTS: dict[str, Callable[[RunLabels, Pictures, Path], None]] = {
    "csv": export_lists.write_csv,
    "jsonl": export_lists.write_jsonl,
}
_TREES: dict[str, Callable[[RunLabels, Pictures, Path, str], None]] = {
    "folders": export_trees.write_class_folders,
    "labelstudio": export_labelstudio.write_labelstudio,
    "fiftyone": export_trees.write_fiftyone,
    "imagefolder": export_trees.write_imagefolder,
}


def export(
    run: str | Path,
    format: str,
    output: str | Path | None = None,
    *,
    images: Any = None,
    way: str = "hardlink",
    data_dir: str | None = None,
) -> tuple[Path, int]:
    """Writes the labelled images of a run.

    Those that got a label and, of a task, those that came with one; simulations do not record which
    images were labelled at the start. Rejected images are left out, answers that were taken back do
    not count, and classes have the names that they have now.

    Args:
        run: Its folder, or an output folder with one run.
        format: `csv` or `jsonl`, lists that `ImageFolder` reads; `folders`, one for each class;
            `labelstudio`, tasks with annotations; `fiftyone`, a labelled data set; `imagefolder`,
            Hugging Face's.
        output: A new file or, for all but lists, folder; None: in `exports/` of the run folder.
            Nothing is ever overwritten.
        images: Where the images are: a folder, or an array or array-like, see `Pictures`; None: the
            folder that the run was made with.
        way: How files come into a folder, `hardlink` (a copy where that is impossible), `symlink`
            or `copy`.
        data_dir: Where the data set lies that a simulated run took its images from.

    Returns:
        Where the export is, and how many images it has.

    Raises:
        ValueError: An argument is none of these, there is something at `output`, or images are
            needed that are not there.
    """
    for name, value, known in (("format", format, FORMATS), ("way", way, WAYS)):
        if value not in known:
            raise ValueError(f"{name}: expected one of {list(known)}, got {value!r}")
    labels = read_labels(run)
    if not labels.labelled:
        raise ValueError(f"run: expected one with a labelled image, got {labels.run} without any")
    of_files = all(each.path is not None for each in labels.labelled)
    drawn = labels.config.get("task") is None
    if images is None and format in _TREES and drawn and not of_files:
        images = _training_images(labels, data_dir)
    pictures = Pictures(labels, images)
    target = labels.run / EXPORTS / FORMATS[format] if output is None else Path(output)
    target = target.expanduser().absolute()
    if format in _LISTS:
        _LISTS[format](labels, pictures, target)
    else:
        _TREES[format](labels, pictures, target, way)
    return target, len(labels.labelled)


def _training_images(labels: RunLabels, data_dir: str | None) -> Any:
    """Returns the images of a simulated run's data set; raises `ValueError` if it had others."""
    dataset = labels.config["configuration"]["dataset"]
    train, _ = named.load(dataset, data_dir)
    names = distinct(train.class_names)
    for each in labels.labelled:
        i = each.index
        if i >= len(train.labels) or names[train.labels[i]] != each.label:
            raise ValueError(
                f"images: expected the run's own images (images=...), since its labels are not "
                f"those of {dataset!r}, got none"
            )
    return train.images
