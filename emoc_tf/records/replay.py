"""Which images a recorded run queried: as it recorded them, or drawn again from its seed."""

import itertools

import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data.images import ImageData
from emoc_tf.exploration import candidates
from emoc_tf.exploration.answers import SKIP
from emoc_tf.exploration.drawing import draw_episode
from emoc_tf.exploration.episode import Episode
from emoc_tf.records.labels import RunLabels
from emoc_tf.records.queried import QUERIED, QUERIED_COLUMNS, read_texts
from emoc_tf.records.run_record import RunRecord, read_run

# Samplers whose sets depend on no model.
_BLIND = ("single_class", "uniform")


def draw_again(run: RunRecord, data: tuple[ImageData, ImageData]) -> Episode:
    """Returns the episode of a run, the same for all runs of its seed.

    Args:
        run: Of an environment that drew its episode from `seed`, with a network of its own.
        data: Training and test part, as the run had them: other images of the same classes, in
            the same numbers, cannot be told from them.

    Raises:
        ValueError: The data's classes are not the run's.
    """
    config = ExplorationConfig().replace(**run.configuration)
    episode = draw_episode(config, *data, streams.root_of(run.seed))
    _check_classes(run, episode)
    return episode


def drawn_of(labels: RunLabels, data: tuple[ImageData, ImageData]) -> Episode:
    """Returns the episode of a simulation, drawn again; raises `ValueError` if it had others."""
    record = read_run(labels.run)
    config = ExplorationConfig().replace(**record.configuration)
    root = streams.root_of(record.seed)
    episode = draw_episode(config, *data, root, as_they_are=True)
    if episode.classes != record.classes:  # it began with a model that knew some of them
        known = record.classes[: config.known_classes]
        episode = draw_episode(config, *data, root, known or None, as_they_are=True)
    said, indices = labels.data_indices, episode.source_indices
    if any(i >= len(indices) or indices[i] != said[i] for i in said):
        raise ValueError(
            f"run: expected one on {record.configuration['dataset']!r}, got one on data of your "
            f"own; emoc_tf.records.predictions.predictions takes a model and any images"
        )
    return episode


def _check_classes(run: RunRecord, episode: Episode) -> None:
    if run.classes and episode.classes != run.classes:
        raise ValueError(
            f"data: expected those of {run.agent}/{run.seed} with classes {list(run.classes)}, got "
            f"others, which give {list(episode.classes)}"
        )


def queried_sets(
    run: RunRecord, episode: Episode, num_steps: int | None = None
) -> list[np.ndarray]:
    """Returns, step by step, the (K,) pool indices of the sets that a run queried.

    `queried.csv` tells them. A run from before there was one has them drawn again where no model is
    needed: candidate sets are then a function of seed, step and what was labelled before.

    Args:
        run: The run.
        episode: Its own, see `draw_again`.
        num_steps: How many of its first steps; if not given, all.

    Raises:
        ValueError: There is no `queried.csv` and the sets may depend on a network (samplers
            `cluster` and `top`, or one of your own), or the episode is not the run's.
    """
    _check_classes(run, episode)
    if run.folder is not None and (run.folder / QUERIED).exists():
        last = max(0, len(run.steps["step"]) - 1)  # an answer may be there that is not learnt yet
        return _recorded(run, episode)[:last][:num_steps]
    return _drawn(run, episode, num_steps)


def _recorded(run: RunRecord, episode: Episode) -> list[np.ndarray]:
    sets: dict[str, list[int]] = {}
    for row in read_texts(run.folder / QUERIED, QUERIED_COLUMNS):
        if row["kind"] != "query" or row["taken_back"] == "1":
            continue
        image = int(row["image"])
        known = episode.source_indices
        if image >= len(known) or str(known[image]) != row["data_index"]:
            raise ValueError(
                f"data: expected those of {run.agent}/{run.seed}, got others: image {image} of its "
                f"pool was image {row['data_index']} of them"
            )
        sets.setdefault(row["step"], []).append(image)
    return [np.array(images) for images in sets.values()]


def _drawn(run: RunRecord, episode: Episode, num_steps: int | None) -> list[np.ndarray]:
    config = ExplorationConfig().replace(**run.configuration)
    if config.sampler not in _BLIND:
        raise ValueError(
            f"sampler: expected one that looks at no features, got {config.sampler!r}, whose sets "
            f"may depend on the network, in a run without {QUERIED}"
        )
    root = streams.root_of(run.seed)
    unlabelled = np.arange(episode.num_initial, len(episode.true_labels))
    sampler = candidates.named(config.sampler, episode.true_labels, episode.task.labels == SKIP)
    sets = []
    choices = zip(run.steps["chosen_set"][1:], run.steps["queried_class"][1:], strict=True)
    for step, (choice, queried_class) in enumerate(itertools.islice(choices, num_steps)):
        drawn, _ = candidates.draw(sampler, config, root, step, unlabelled)
        indices = drawn[int(choice)]
        indices = indices[indices >= 0]
        if np.bincount(episode.true_labels[indices]).argmax() != queried_class:
            raise ValueError(
                f"data: expected those of {run.agent}/{run.seed}, got others: its set of step "
                f"{step + 1} had class {queried_class:.0f}"
            )
        sets.append(indices)
        unlabelled = np.setdiff1d(unlabelled, indices)
    return sets
