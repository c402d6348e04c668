"""The images that policies queried first, where the data set is at hand."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from emoc_tf.analysis.findings import Findings
from emoc_tf.data.figures import literal
from emoc_tf.data.images import ImageData
from emoc_tf.data.mosaic import mosaic
from emoc_tf.data.named import load
from emoc_tf.exploration.episode import Episode
from emoc_tf.records import replay
from emoc_tf.records.run_record import RunRecord
from emoc_tf.report import drawing

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


@dataclass(frozen=True, eq=False)
class Shown:
    """What the data set adds to the records.

    Attributes:
        data: Its training and test part, if it is there.
        why: Why it is not, in a sentence.
        first_sets: Of each policy in the fullest seed; empty without data.
    """

    data: Data
    why: str
    first_sets: list[FirstSets]


def look_up(findings: Findings, data_dir: str | None) -> Shown:
    """Returns what the data set of the runs adds to them, if it is there."""
    try:
        data = load(findings.finished[0].configuration["dataset"], data_dir)
    except (ValueError, FileNotFoundError) as error:
        return Shown(None, f"{error}.", [])
    return Shown(data, "", _first_sets(findings, data))


def class_names(run: RunRecord, data: Data) -> list[str]:
    """Returns the names of a run's classes, or their ids without the data set."""
    if data is None or max(run.classes, default=0) >= len(data[0].class_names):
        return [str(class_id) for class_id in run.classes]
    return [data[0].class_names[class_id].replace("_", " ") for class_id in run.classes]


def _first_sets(findings: Findings, data: tuple[ImageData, ImageData]) -> list[FirstSets]:
    runs = [run for run in findings.finished if run.seed == findings.fullest_seed]
    try:
        episode = replay.draw_again(runs[0], data)
    except ValueError as error:
        return [FirstSets(run.agent, [], str(error)) for run in runs]
    policies = []
    for run in runs:
        try:
            policies.append(FirstSets(run.agent, _sets(run, episode, data[0].class_names), ""))
        except ValueError as error:
            policies.append(FirstSets(run.agent, [], str(error)))
    return policies


def _sets(run: RunRecord, episode: Episode, names: Sequence[str]) -> list[QueriedSet]:
    found = np.diff(run.steps["discovered_classes"]) > 0
    shown = []
    for step, indices in enumerate(replay.queried_sets(run, episode, SHOWN)):
        counts = np.bincount(episode.true_labels[indices])
        caption = names[int(counts.argmax())].replace("_", " ")
        if counts.max() < len(indices):
            caption += f" and {np.count_nonzero(counts) - 1} more"
        picture = mosaic(episode.raw_images[indices])
        shown.append(QueriedSet(step + 1, picture, caption, bool(found[step])))
    return shown


def draw(policies: list[FirstSets]) -> Figure:
    """Draws the first sets, a row a policy; of many policies two rows stand side by side."""
    shown = [policy for policy in policies if policy.sets]
    columns = max(len(policy.sets) for policy in shown)
    height, width = shown[0].sets[0].picture.shape[:2]
    across = 1 if len(shown) <= drawing.TOGETHER else 2
    down = math.ceil(len(shown) / across)
    size = (0.6 + 2 * columns) * across, (0.45 + 2 * height / width) * down
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(down, across * columns, squeeze=False)
    for place, policy in enumerate(shown):
        row, block = divmod(place, across)
        axes_of = grid[row, block * columns : (block + 1) * columns]
        for axes, queried in zip(axes_of, policy.sets, strict=False):
            axes.imshow(queried.picture, interpolation="nearest")
            text = literal(f"{queried.step}: {queried.caption}")
            colour = "#D55E00" if queried.new else "#000000"
            axes.set_xlabel(f"{text} (new)" if queried.new else text, color=colour)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        axes_of[0].set_ylabel(drawing.named(policy.agent), fontsize="large")
    for axes in grid.flat:
        if not axes.images:
            axes.set_axis_off()
    return figure
