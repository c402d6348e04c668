"""The labels that a run has brought, read from its folder."""

import functools
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from emoc_tf.data import named
from emoc_tf.records.queried import (
    IMAGE_COLUMNS,
    IMAGES,
    JOURNAL,
    QUERIED,
    QUERIED_COLUMNS,
    read_texts,
)
from emoc_tf.records.record_folder import CONFIG
from emoc_tf.records.run_record import read_config, run_folders


@dataclass(frozen=True)
class LabelledImage:
    """An image with a class.

    Attributes:
        image: Its pool index.
        label: The name of its class, as it is called now.
        path: Of its file, relative to the folder of images; None where it comes from no file.
        sha256: Of its file; None where it is not recorded.
        data_index: Its index into the training images of a data set; None in runs of a task.
        kind: `start`: it came with its label, in a task; `query`, `audit` or `correction`: what
            gave it last.
        answer: `class` or `new class`.
        step: Update steps there had been; None at the start.
        chosen_set: Index of the candidate set that it was asked about in; None if in none.
        guess: The class that the model had predicted when it was asked about; None if none.
        time: When, as ISO 8601 text; None where it is not recorded.
    """

    image: int
    label: str
    path: str | None = None
    sha256: str | None = None
    data_index: int | None = None
    kind: str = "start"
    answer: str = "class"
    step: int | None = None
    chosen_set: int | None = None
    guess: str | None = None
    time: str | None = None

    @property
    def index(self) -> int:
        """Its index in what the run took its images from."""
        return self.image if self.data_index is None else self.data_index


@dataclass(frozen=True, eq=False)
class RunLabels:
    """What is known of a run's images.

    Attributes:
        run: Its folder.
        config: What `config.json` says.
        labelled: Images with a class, by pool index; of simulations those that were asked about,
            since the ones labelled at the start are not recorded.
        rejected: Pool indices of images in which there is nothing to be named.
        files: `(path, sha256)` by pool index, where files are recorded.
        folder: Where those files lay; None where they are none or it is not recorded.
        data_indices: Index into the training images of a data set by pool index, of images that
            were asked about; empty in runs of a task.
    """

    run: Path
    config: dict[str, Any]
    labelled: list[LabelledImage]
    rejected: frozenset[int]
    files: dict[int, tuple[str, str]]
    folder: Path | None
    data_indices: dict[int, int]

    @property
    def answered(self) -> set[int]:
        """Pool indices of the images of which something is known."""
        return {each.image for each in self.labelled} | self.rejected

    @functools.cached_property
    def class_names(self) -> list[str]:
        """Names of the classes that images have, sorted."""
        return sorted({each.label for each in self.labelled})


def run_folder(path: str | Path) -> Path:
    """Returns the run folder that is meant: this one, or the only one in an output folder.

    Raises:
        ValueError: There is none, or there are several.
    """
    path = Path(path)
    if (path / CONFIG).exists():
        return path
    found = run_folders(path) if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    several = f"{len(found)} run folders, such as {found[0]}" if found else "no run there"
    raise ValueError(
        f"run: expected the folder of one run, such as OUT/emoc/0, got {path} ({several})"
    )


def read_labels(run: str | Path) -> RunLabels:
    """Reads what a run was told about its images; it need not be finished.

    What was taken back does not count; of several answers about an image the last one does. Images
    that were gone when the run was last resumed are left out.

    Raises:
        ValueError: There is no such run, it has no record of its answers, or the record is broken.
    """
    run = run_folder(run)
    config = read_config(run)
    if not (run / QUERIED).exists():
        raise ValueError(
            f"run: expected {QUERIED} in {run}, got none: it was written by a version that did not "
            f"record which images were asked about, or had not begun"
        )
    files, labelled, rejected, data_indices = {}, {}, set(), {}
    for row in read_texts(run / IMAGES, IMAGE_COLUMNS) if (run / IMAGES).exists() else ():
        if not row["image"]:
            continue
        image = int(row["image"])
        if row["path"]:
            files[image] = row["path"], row["sha256"]
        if row["answer"] == "reject":
            rejected.add(image)
        elif row["answer"]:
            labelled[image] = LabelledImage(image, row["label"])
    times = _times(run / JOURNAL)
    for row in read_texts(run / QUERIED, QUERIED_COLUMNS):
        if row["taken_back"] == "1" or not row["image"]:
            continue
        image = int(row["image"])
        if row["data_index"]:
            data_indices[image] = int(row["data_index"])
        before = labelled.pop(image, None)
        rejected.discard(image)
        if row["answer"] == "reject":
            rejected.add(image)
        elif row["answer"] != "skip":
            labelled[image] = _labelled(row, before, times)
    task = config.get("task") or {}
    folder = Path(task["folder"]) if task.get("folder") else None
    if not task:
        folder = named.folder_of(config["configuration"]["dataset"])
    images = [
        replace(each, path=files.get(i, (each.path, None))[0], sha256=files.get(i, ("", None))[1])
        for i, each in sorted(labelled.items())
    ]
    return RunLabels(run, config, images, frozenset(rejected), files, folder, data_indices)


def _labelled(
    row: dict[str, str], before: LabelledImage | None, times: dict[int, str]
) -> LabelledImage:
    found = LabelledImage(
        image=int(row["image"]),
        label=row["class_name"],
        path=row["path"] or None,
        data_index=_number(row["data_index"]),
        kind=row["kind"],
        answer=row["answer"],
        step=int(row["step"]),
        chosen_set=_number(row["chosen_set"]),
        guess=row["guess_name"] or None,
        time=times.get(int(row["entry"])),
    )
    if row["kind"] == "correction" and before is not None:  # it was asked about there
        kind = before.kind if before.kind == "audit" else found.kind  # which is never learnt
        return replace(found, kind=kind, chosen_set=before.chosen_set, guess=before.guess)
    return found


def _number(text: str) -> int | None:
    return int(text) if text else None


def _times(file: Path) -> dict[int, str]:
    """Returns when entries of the journal were made, by their number."""
    if not file.exists():
        return {}
    times = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").split("\n")):
        try:
            time = json.loads(line).get("time")
        except (ValueError, AttributeError):  # the end of a line that was cut short
            continue
        if time:
            times[number] = time
    return times
