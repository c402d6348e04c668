"""What the model of a run says about images that nobody has labelled."""

import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.data import ImageData, ImageFolder, decoding, named, views
from emoc_tf.exploration.answers import SKIP
from emoc_tf.models import checks, forward, graphs
from emoc_tf.records import export_lists, image_kind
from emoc_tf.records.exports import EXPORTS
from emoc_tf.records.final_model import final_model
from emoc_tf.records.labels import RunLabels, read_labels
from emoc_tf.records.placing import check_new
from emoc_tf.records.replay import drawn_of

COLUMNS = (
    "path", "image", "data_index", "class", "posterior", "second_class", "second_posterior",
)  # fmt: skip
_DIGITS = 6


@dataclass(frozen=True, eq=False)
class Predictions:
    """The two most likely classes of each image.

    Attributes:
        class_names: In the order of the model's outputs.
        indices: (k,) which images, ascending.
        classes: (k, 2) int64 indices into `class_names`, or (k, 1) if there is one class only.
        posteriors: (k, 2) float32, or (k, 1).
    """

    class_names: tuple[str, ...]
    indices: np.ndarray
    classes: np.ndarray
    posteriors: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yields `image`, `class`, `posterior`, `second_class` and `second_posterior` of each."""
        for index, classes, posteriors in zip(
            self.indices.tolist(), self.classes.tolist(), self.posteriors.tolist(), strict=True
        ):
            names = [self.class_names[c] for c in classes] + [None]
            values = [round(p, _DIGITS) for p in posteriors] + [None]
            yield {
                "image": index,
                "class": names[0],
                "posterior": values[0],
                "second_class": names[1],
                "second_posterior": values[1],
            }


def predictions(
    model: keras.Model,
    images: Any,
    class_names: Sequence[str],
    indices: np.ndarray | Sequence[int] | None = None,
) -> Predictions:
    """Returns the most likely class and the second of images, with their posteriors.

    Images are read in batches, so that there may be more than memory holds.

    Args:
        model: Ends in a linear Dense layer or in a softmax, with an output for each class.
        images: (n, H, W, channels) as the model takes them: an array or an array-like.
        class_names: In the order of the outputs.
        indices: (k,) which images; None for all.

    Raises:
        ValueError: Model, images and names do not fit each other.
    """
    if not isinstance(model, keras.Model) or not graphs.is_graph(model):
        raise ValueError(
            f"model: expected a built keras.Model, functional or Sequential, got {model!r}"
        )
    model = graphs.functional(model)
    names, outputs = tuple(class_names), model.output_shape[-1]
    if isinstance(class_names, str) or len(names) != outputs:
        raise ValueError(
            f"class_names: expected {outputs} names, one for each output of the model, got {names}"
        )
    shape = tuple(images.shape[1:])
    wanted = model.input_shape[1:]
    if len(wanted) != len(shape) or any(
        a not in (None, b) for a, b in zip(wanted, shape, strict=True)
    ):
        raise ValueError(
            f"images: expected shape (n, {', '.join(map(str, wanted))}) as the model takes them, "
            f"got (n, {', '.join(map(str, shape))})"
        )
    chosen = np.arange(len(images)) if indices is None else np.asarray(indices, np.int64)
    chosen = np.unique(chosen)
    ends_in_softmax = _ends_in_softmax(model)
    logits_of = forward.compile_forward(model)
    most = min(2, outputs)

    def best(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        outputs = logits_of(batch)
        found = tf.math.top_k(outputs if ends_in_softmax else tf.nn.softmax(outputs), most)
        return found.values, found.indices

    if not len(chosen):
        empty = np.zeros((0, most))
        return Predictions(names, chosen, empty.astype(np.int64), empty.astype(np.float32))
    part = images if indices is None else views.ImageView(images, chosen)
    if "float" not in model.inputs[0].dtype:  # fractions would be cut off without a word
        for batch in views.batches(part, forward.batch_of(part.shape)):
            checks.check_integers(batch, "images", model)
    posteriors, classes = forward.in_batches(best, part, model.inputs[0].dtype)
    return Predictions(names, chosen, classes.astype(np.int64), posteriors)


def _ends_in_softmax(model: keras.Model) -> bool:
    """Returns whether a model gives posteriors; raises `ValueError` if it gives no logits."""
    last = graphs.last_operation(model)
    activation = getattr(last, "activation", None)
    if isinstance(last, keras.layers.Softmax) or activation is keras.activations.softmax:
        return True
    if isinstance(last, keras.layers.Dense) and graphs.is_linear(activation):
        return False
    raise ValueError(
        f"model: expected one that ends in a linear Dense layer or in a softmax, got "
        f"{getattr(last, 'name', last)!r} of type {type(last).__name__}"
    )


def run_predictions(
    run: str | Path, images: Any = None, data_dir: str | None = None
) -> list[dict[str, Any]]:
    """Returns predictions of the images that a run got no answer about, by column.

    Args:
        run: Its folder, or an output folder with one run.
        images: A folder or an array-like. A folder may be one that the run never saw; files that
            have an answer are known by their content. An array is that of the run's task, or, of a
            simulation, that of the training images that it drew from; those of data of your own as
            `ImageData`, since only labels tell which of them were labelled at the start: of an
            array of them these get predictions too. None: the folder of its task, or the pool that
            it drew from its data set.
        data_dir: Where its data set lies.

    Raises:
        ValueError: There is no model, or there are no images, or they have another size, number of
            channels or range than the run's. Those of a folder are brought to the run's size, and
            to its range where that is plain, such as [0, 1].
    """
    labels = read_labels(run)
    told = image_kind.of_run(labels.config)
    if isinstance(images, str | os.PathLike):
        _check_there(Path(images))
        image_kind.check_folder(told)
    elif images is not None:
        image_kind.check_array(told, images.images if isinstance(images, ImageData) else images)
    own = images is None or not isinstance(images, str | os.PathLike)
    model, names = final_model(labels, images if not _is_other(labels, images) else None, data_dir)
    if own and images is None and labels.config.get("task") is None:
        return _of_drawn(labels, model, names, data_dir)
    if images is None and labels.folder is None:
        raise ValueError(
            f"images: expected the images of the run's task, which come from no folder, got none; "
            f"run_predictions({str(labels.run)!r}, images=...) takes them, --images=FOLDER others"
        )
    if images is None or isinstance(images, str | os.PathLike):
        return _of_folder(labels, model, names, labels.folder if images is None else Path(images))
    return _of_array(labels, model, names, images, data_dir)


def _of_array(
    labels: RunLabels, model: keras.Model, names: list[str], images: Any, data_dir: str | None
) -> list[dict[str, Any]]:
    data, drawn = images, labels.config.get("task") is None
    images = data.images if isinstance(data, ImageData) else data
    # In a task an image's index in the pool is its index in the array.
    known = {labels.data_indices[i] if drawn else i for i in labels.answered}
    if max(known, default=-1) >= len(images):
        raise ValueError(
            f"images: expected those of the run, at least {max(known) + 1}, got {len(images)}"
        )
    if drawn:
        known |= _labelled_first(labels, data, data_dir)
    elif known and not image_kind.is_same(labels.config, images):
        warnings.warn(
            f"images: they are not those of the run's task in their order and dtype; the "
            f"{len(known)} whose index has an answer there get no prediction",
            stacklevel=3,
        )
    waiting = np.setdiff1d(np.arange(len(images)), np.array(sorted(known), np.int64))
    rows = predictions(model, images, names, waiting)
    if not drawn:
        return [_row(each) for each in rows]
    return [_row({**each, "image": None, "data_index": each["image"]}) for each in rows]


def _labelled_first(labels: RunLabels, data: Any, data_dir: str | None) -> set[int]:
    """Returns the data indices of images that a simulation knew at the start, where data tell."""
    try:
        if isinstance(data, ImageData):
            images, episode = data.images, drawn_of(labels, (data, data))
        else:
            dataset = labels.config["configuration"]["dataset"]
            images, episode = data, drawn_of(labels, named.load(dataset, data_dir))
        first = np.flatnonzero(episode.task.labels != SKIP)
        indices = episode.source_indices[first]
        if np.array_equal(views.read(images, indices), episode.task.images[first]):
            return set(indices.tolist())
    except (OSError, ValueError, IndexError):  # other data, or none
        pass
    return set()


def _is_other(labels: RunLabels, images: Any) -> bool:
    """Returns whether images are a folder that the run has not seen."""
    if labels.config.get("task") is None:
        return True
    if not isinstance(images, str | os.PathLike) or not labels.files:
        return False
    return not any((Path(images) / path).exists() for path, _ in labels.files.values())


def _check_there(path: Path) -> None:
    if not path.exists():
        raise ValueError(
            f"images: expected the folder of images, got {path}, which is not there; "
            f"--images=FOLDER tells where it is now"
        )


def _of_folder(
    labels: RunLabels, model: keras.Model, names: list[str], path: Path
) -> list[dict[str, Any]]:
    _check_there(path)
    told = image_kind.of_run(labels.config)
    size = tuple(model.input_shape[1:3])
    if None in size:
        size = tuple(told.get("shape", (decoding.IMAGE_SIZE,) * 2)[:2])
    fit = (labels.config.get("task") or {}).get("fit", "letterbox")
    folder = ImageFolder(path, size, fit)
    known = {sha256: index for index, (_, sha256) in labels.files.items()}
    answered = labels.answered
    waiting = [i for i, text in enumerate(folder.sha256) if known.get(text) not in answered]
    rows = []
    pixels = image_kind.as_told(told, folder)
    for each in predictions(model, pixels, names, np.array(waiting, np.int64)):
        i = each["image"]
        absolute = (folder.root / folder.paths[i]).as_posix()
        rows.append(_row({**each, "image": known.get(folder.sha256[i]), "path": absolute}))
    return rows


def _of_drawn(
    labels: RunLabels, model: keras.Model, names: list[str], data_dir: str | None
) -> list[dict[str, Any]]:
    dataset = labels.config["configuration"]["dataset"]
    episode = drawn_of(labels, named.load(dataset, data_dir))
    waiting = np.flatnonzero(episode.task.labels == SKIP)
    waiting = np.setdiff1d(waiting, np.array(sorted(labels.answered), np.int64))
    rows = []
    for each in predictions(model, episode.task.images, names, waiting):
        path = episode.path(each["image"])
        if path is not None and labels.folder is not None:
            path = (labels.folder / path).as_posix()
        data_index = int(episode.source_indices[each["image"]])
        rows.append(_row({**each, "path": path, "data_index": data_index}))
    return rows


def _row(told: dict[str, Any]) -> dict[str, Any]:
    row = {name: told.get(name) for name in COLUMNS}
    if row["path"] is None:
        index = row["image"] if row["data_index"] is None else row["data_index"]
        row["path"] = str(index)
    return row


def export_predictions(
    run: str | Path,
    output: str | Path | None = None,
    *,
    images: Any = None,
    data_dir: str | None = None,
) -> tuple[list[Path], int]:
    """Writes predictions as CSV and JSON Lines; see `run_predictions`.

    Args:
        run: See `run_predictions`, as for the following.
        output: A file name for both, whose ending does not count; None: `exports/predictions` in
            the run folder. Nothing is ever overwritten.
        images: See `run_predictions`.
        data_dir: See `run_predictions`.

    Returns:
        The files, and how many images they have.

    Raises:
        ValueError: See `run_predictions`; or there is such a file.
    """
    labels = read_labels(run)
    stem = labels.run / EXPORTS / "predictions" if output is None else Path(output).expanduser()
    if stem.suffix in (".csv", ".jsonl"):
        stem = stem.with_suffix("")
    files = [stem.with_name(f"{stem.name}.{ending}") for ending in ("csv", "jsonl")]
    for file in files:
        check_new(file)
    rows = run_predictions(run, images, data_dir)
    for file in files:
        export_lists.write_rows(rows, COLUMNS, file, file.suffix[1:])
    return files, len(rows)
