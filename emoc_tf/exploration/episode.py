"""One episode: a task with its images as the model takes them, drawn or handed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from emoc_tf.config import ExplorationConfig
from emoc_tf.data import pixels, views
from emoc_tf.data.images import read_only
from emoc_tf.exploration.answers import SKIP
from emoc_tf.exploration.task import SAMPLE, Task, spread

# Bytes of float32 images up to which a pool in memory is brought to the model's pixels at once.
EAGER = 2**30


@dataclass(frozen=True, eq=False)
class Episode:
    """A task, and its images as the model takes them.

    Attributes:
        task: The images as they came, labels at the start, class names, test data.
        classes: Class ids, those known at the start first; in a simulation, the others are novel.
        num_known: How many are known at the start.
        images: (n_pool, H, W, channels) float32, or a view that gives such.
        test_images: Of the test data, as the model takes them; None without test data.
        test_labels: (n_test,) indices into `test_names`; None without test data.
        test_names: Names of the classes of the test data.
        true_labels: (n_pool,) class ids; None where nobody knows them.
        mean: The mean image that was subtracted; None if none was.
        digest: A hash that tells other images and labels.
        factor: What images were multiplied by after that; None if they are as they came.
        source: What the images were taken from, to ask for `paths`: the images of the task, or of a
            data set's training part.
        source_indices: (n_pool,) indices into `source`; None where they are the pool's own.
    """

    task: Task
    classes: tuple[int, ...]
    num_known: int
    images: Any
    test_images: np.ndarray | None
    test_labels: np.ndarray | None
    test_names: tuple[str, ...]
    true_labels: np.ndarray | None
    mean: np.ndarray | None
    digest: str
    factor: float | None = None
    source: Any = None
    source_indices: np.ndarray | None = None

    def path(self, index: int) -> str | None:
        """Returns the file of a pool image, as its folder has it; None if it comes from none."""
        paths = getattr(self.source, "paths", None)
        if paths is None:
            return None
        return paths[index if self.source_indices is None else self.source_indices[index]]

    @property
    def raw_images(self) -> Any:
        """(n_pool, H, W, channels) as they came; in a simulation initial images first."""
        return self.task.images

    @property
    def num_initial(self) -> int:
        """How many images are labelled at the start."""
        return int((self.task.labels >= 0).sum())

    def num_steps(self, config: ExplorationConfig) -> int:
        """Returns how many update steps there are at most: `max_steps`, or until nothing waits."""
        size = config.set_size
        possible = -(-int((self.task.labels == SKIP).sum()) // size)
        if self.true_labels is not None and config.sampler != "top":  # which has a short last set
            counts = np.bincount(self.true_labels[self.task.labels == SKIP])
            possible = counts.sum() // size
            if config.sampler == "single_class":  # a class of fewer than K images gives one set
                possible = np.maximum(counts // size, counts > 0).sum()
        return max(1, int(min(possible, config.max_steps or possible)))


def take_task(
    task: Task,
    known: Sequence[int],
    *,
    as_they_are: bool,
    mean: np.ndarray | None = None,
    plain_pixels: bool = False,
) -> Episode:
    """Returns the episode of a task as it is.

    Args:
        task: The task.
        known: Class ids that the model has outputs for at the start, in their order.
        as_they_are: Whether the model takes images as they are, as float32.
        mean: The mean image to subtract; None for that of the labelled images, or of a sample
            where there are none.
        plain_pixels: Whether the model takes pixels 0–255 without the mean image subtracted.

    Raises:
        ValueError: The range of the pixels is not plain.
    """
    others = [c for c in range(len(task.class_names)) if c not in known]
    factor = None
    if not as_they_are:
        factor = pixels.factor_to_pixels(sample_of(task.images), task.test and task.test.images)
        if plain_pixels:
            mean = pixels.black(factor, task.images.shape[1:])
            factor = None if mean is None else factor
        elif mean is None:
            labelled = np.flatnonzero(task.labels >= 0)
            mean = mean_of(
                task.images, labelled if len(labelled) else spread(len(task.images), 1000)
            )
    test = task.test
    return Episode(
        task=task,
        classes=(*known, *others),
        num_known=len(known),
        images=prepare(task.images, mean, factor),
        test_images=None if test is None else prepare(test.images, mean, factor),
        test_labels=None if test is None else test.labels,
        test_names=() if test is None else test.class_names,
        true_labels=None,
        mean=mean,
        digest=task.digest(),
        factor=factor,
        source=task.images,
    )


def mean_of(images: Any, indices: np.ndarray) -> np.ndarray:
    """Returns the mean image, (H, W, channels) float64, of some images."""
    parts = [indices[i : i + SAMPLE] for i in range(0, len(indices), SAMPLE)]
    return sum(images[part].sum(axis=0, dtype=np.float64) for part in parts) / len(indices)


def prepare(images: Any, mean: np.ndarray | None, factor: float | None) -> Any:
    """Returns images as the model takes them: as they are if `factor` is None."""
    if not views.in_memory(images) or 4 * images.size > EAGER:
        return views.ImageView(images, mean=mean, factor=factor or 1.0)
    if factor is None:
        return read_only(images.astype(np.float32, copy=False))
    return read_only(pixels.centred(images, mean, factor))


def sample_of(images: Any) -> np.ndarray:
    """Returns all images of an array in memory, and some of others, to tell their range by."""
    if views.in_memory(images) and 4 * images.size <= EAGER:
        return images
    return images[spread(len(images), SAMPLE)]
