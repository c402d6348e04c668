"""Labels as folders of images: classes as subfolders, Hugging Face's and FiftyOne's layouts."""

import json
import os
from pathlib import Path

from emoc_tf.data import listings
from emoc_tf.records.export_lists import LIST_COLUMNS
from emoc_tf.records.labels import LabelledImage, RunLabels
from emoc_tf.records.placing import Pictures, different, new_folder


def write_class_folders(labels: RunLabels, pictures: Pictures, output: Path, way: str) -> None:
    """Writes a subfolder for each class; `ImageFolder` and most tools read it.

    Raises:
        ValueError: The name of a class cannot be that of a folder.
    """
    for name in labels.class_names:
        _check_folder_name(name)
    pictures.check(labels.labelled)
    by_class: dict[str, list[LabelledImage]] = {name: [] for name in labels.class_names}
    for each in labels.labelled:
        by_class[each.label].append(each)
    with new_folder(output) as folder:
        for class_name, images in by_class.items():
            names = map(pictures.name, images)
            indices = [each.index for each in images]
            for each, name in zip(images, different(names, indices, str.casefold), strict=True):
                pictures.place(each, folder / class_name / name, way)


def _check_folder_name(name: str) -> None:
    hidden = listings.is_hidden(name) or name.casefold() in listings.UNLABELLED
    if hidden or "/" in name or "\0" in name or len(name.encode()) > 255:
        raise ValueError(
            f"format: expected class names that can be names of folders, got {name!r}; the other "
            f"formats take any name"
        )


def write_imagefolder(labels: RunLabels, pictures: Pictures, output: Path, way: str) -> None:
    """Writes the layout of Hugging Face's `imagefolder`.

    Images and `metadata.jsonl` lie in `train/`; each line has `file_name`, `label` and what else is
    known. `datasets.load_dataset("imagefolder", data_dir=output)` reads it.
    """
    pictures.check(labels.labelled)
    names = different(
        map(pictures.name, labels.labelled), [each.index for each in labels.labelled], str.casefold
    )
    with new_folder(output) as folder:
        part = folder / "train"
        part.mkdir()
        with open(part / "metadata.jsonl", "x", encoding="utf-8") as file:
            for each, name in zip(labels.labelled, names, strict=True):
                pictures.place(each, part / name, way)
                # Not `image`: so the images themselves are called there.
                line = {"file_name": name, "index": each.index}
                line |= {
                    c: getattr(each, c) for c in LIST_COLUMNS if c not in ("image", "data_index")
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


def write_fiftyone(labels: RunLabels, pictures: Pictures, output: Path, way: str) -> None:
    """Writes FiftyOne's `FiftyOneImageClassificationDataset`.

    Images lie in `data/`; `labels.json` has the classes, and the index of its class for each image
    by file name without ending.
    """
    pictures.check(labels.labelled)
    names = different(
        map(pictures.name, labels.labelled),
        [each.index for each in labels.labelled],
        lambda name: os.path.splitext(name)[0].casefold(),
    )
    classes = labels.class_names
    ids = {name: i for i, name in enumerate(classes)}
    with new_folder(output) as folder:
        (folder / "data").mkdir()
        targets = {}
        for each, name in zip(labels.labelled, names, strict=True):
            pictures.place(each, folder / "data" / name, way)
            targets[os.path.splitext(name)[0]] = ids[each.label]
        text = json.dumps({"classes": classes, "labels": targets}, ensure_ascii=False, indent=2)
        (folder / "labels.json").write_text(text + "\n", encoding="utf-8")
