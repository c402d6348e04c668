"""Which images a recorded run queried, drawn again from its seed."""

import gymnasium as gym
import numpy as np

from emoc_tf import candidates, streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.data import ImageData
from emoc_tf.episode import Episode, draw_episode
from emoc_tf.results import RunRecord


def queried_sets(
    run: RunRecord, data: tuple[ImageData, ImageData]
) -> tuple[Episode, list[np.ndarray]]:
    """Returns a run's episode and, step by step, the (K,) pool indices of the set it queried.

    Candidate sets are a function of seed, step and what was labelled before, so that the choices
    recorded tell the images; no model is needed.

    Args:
        run: Of an environment that drew its episode from `seed`, with a network of its own.
        data: Training and test part, as the run had them: other images of the same classes, in
            the same numbers, cannot be told from them.

    Raises:
        ValueError: The sets depend on a network's features (sampler `cluster`), or the data's
            classes are not the run's.
    """
    config = ExplorationConfig().replace(**run.configuration)
    if config.sampler == "cluster":
        raise ValueError(
            "sampler: expected one that looks at no features, got 'cluster', whose sets depend on "
            "the network"
        )
    root = streams.draw_root(gym.utils.seeding.np_random(run.seed)[0])
    episode = draw_episode(config, *data, root)
    if run.classes and episode.classes != run.classes:
        raise ValueError(
            f"data: expected those of {run.agent}/{run.seed} with classes {list(run.classes)}, got "
            f"others, which give {list(episode.classes)}"
        )
    unlabelled = np.arange(episode.num_initial, len(episode.true_labels))
    no_features = np.empty((len(episode.true_labels), 0))
    sets = []
    choices = zip(run.steps["chosen_set"][1:], run.steps["queried_class"][1:], strict=True)
    for step, (choice, queried_class) in enumerate(choices):
        drawn, _ = candidates.draw(config, root, step, unlabelled, episode.true_labels, no_features)
        indices = drawn[int(choice)]
        if np.bincount(episode.true_labels[indices]).argmax() != queried_class:
            raise ValueError(
                f"data: expected those of {run.agent}/{run.seed}, got others: its set of step "
                f"{step + 1} had class {queried_class:.0f}"
            )
        sets.append(indices)
        unlabelled = np.setdiff1d(unlabelled, indices)
    return episode, sets
