"""The images that policies queried first, where the data set is at hand."""

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from emoc_tf import drawing, replay
from emoc_tf.data import ImageData, load
from emoc_tf.experiments.findings import Findings
from emoc_tf.mosaic import mosaic
from emoc_tf.results import RunRecord

Data = tuple[ImageData, ImageData] | None
SHOWN = 4


@dataclass(frozen=True, eq=False)
class QueriedSet:
    """A set that a policy had labelled.

    Attributes:
        step: The update step, from 1 on.
        picture: (height, width, 3) uint8, its images side by side.
        caption: Its class, or the most frequent of them.
        new: Whether a class was discovered.
    """

    step: int
    picture: np.ndarray
    caption: str
    new: bool


@dataclass(frozen=True, eq=False)
class FirstSets:
    """What a policy had labelled first.

    Attributes:
        agent: The policy.
        sets: At most `SHOWN`; none if they cannot be told.
        why: Why they cannot, in a sentence.
    """

    agent: str
    sets: list[QueriedSet]
    why: str


def find_data(findings: Findings, data_dir: str | None) -> tuple[Data, str]:
    """Returns the data set if it is there, or why it is not."""
    try:
        return load(findings.finished[0].configuration["dataset"], data_dir), ""
    except (ValueError, FileNotFoundError) as error:
        return None, f"{error}."


def class_names(run: RunRecord, data: Data) -> list[str]:
    """Returns the names of a run's classes, or their ids without the data set."""
    if data is None or max(run.classes, default=0) >= len(data[0].class_names):
        return [str(class_id) for class_id in run.classes]
    return [data[0].class_names[class_id].replace("_", " ") for class_id in run.classes]


def first_sets(findings: Findings, data: Data) -> list[FirstSets]:
    """Returns what each policy had labelled first, in the fullest seed; empty without data."""
    policies = []
    for run in findings.finished:
        if data is not None and run.seed == findings.fullest_seed:
            try:
                policies.append(FirstSets(run.agent, _sets(run, data), ""))
            except ValueError as error:
                policies.append(FirstSets(run.agent, [], str(error)))
    return policies


def _sets(run: RunRecord, data: tuple[ImageData, ImageData]) -> list[QueriedSet]:
    episode, sets = replay.queried_sets(run, data)
    found = np.diff(run.steps["discovered_classes"]) > 0
    shown = []
    for step, indices in enumerate(sets[:SHOWN]):
        counts = np.bincount(episode.true_labels[indices])
        caption = data[0].class_names[int(counts.argmax())].replace("_", " ")
        if counts.max() < len(indices):
            caption += f" and {np.count_nonzero(counts) - 1} more"
        picture = mosaic(episode.raw_images[indices])
        shown.append(QueriedSet(step + 1, picture, caption, bool(found[step])))
    return shown


def draw(policies: list[FirstSets]) -> Figure:
    """Draws the first sets, a row a policy."""
    rows = [policy for policy in policies if policy.sets]
    columns = max(len(policy.sets) for policy in rows)
    height, width = rows[0].sets[0].picture.shape[:2]
    size = (0.6 + 2 * columns, (0.45 + 2 * height / width) * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for policy, axes_of in zip(rows, grid, strict=True):
        for axes, queried in zip(axes_of, policy.sets, strict=True):
            axes.imshow(queried.picture, interpolation="nearest")
            text = f"{queried.step}: {queried.caption}"
            colour = "#D55E00" if queried.new else "#000000"
            axes.set_xlabel(f"{text} (new)" if queried.new else text, color=colour)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_of[0].set_ylabel(drawing.name(policy.agent), fontsize="large")
    return figure
