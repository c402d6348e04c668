"""What goes wrong in practice, for simulations: pools that are uneven, and answers that are wrong.

Settings of the configuration choose it, one or several, and none by default. All of it is a
function of the episode's root, and equal for all policies.
"""

from collections.abc import Sequence

import numpy as np

from emoc_tf import streams
from emoc_tf.config import ExplorationConfig
from emoc_tf.exploration.answers import REJECT
from emoc_tf.exploration.episode import Episode
from emoc_tf.exploration.oracle import LabelOracle, Oracle


def uneven(config: ExplorationConfig, root: int, waiting: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the images that wait, class by class: fewer of some, and some of them copies.

    With imbalance r, classes in random order give shares r^(−i/(classes − 1)) of their images, from
    1 to 1/r, and at least one. With a share of duplicates, so many images of each class are
    replaced by copies of others of it.

    Args:
        config: `imbalance` and `duplicates`.
        root: Of the episode.
        waiting: Indices of each class's images, in random order.
    """
    found = list(waiting)
    if config.imbalance > 1 and len(found) > 1:
        ranks = streams.generator(root, 0, "imbalance").permutation(len(found)) / (len(found) - 1)
        counts = [
            len(each) * config.imbalance**-rank for each, rank in zip(found, ranks, strict=True)
        ]
        found = [each[: max(1, round(n))] for each, n in zip(found, counts, strict=True)]
    if config.duplicates:
        rng = streams.generator(root, 0, "duplicates")
        for position, each in enumerate(found):
            distinct = max(1, round(len(each) * (1 - config.duplicates)))
            copies = rng.integers(distinct, size=len(each) - distinct)
            found[position] = np.concatenate([each[:distinct], each[copies]])
    return found


def answering(config: ExplorationConfig, root: int, episode: Episode) -> Oracle:
    """Returns who answers from the true labels: always, or with errors.

    A share of the images is rejected, and a share of the rest named as another class of the
    episode, each of the others equally likely. An image that is asked about twice gets the same
    answer, a copy of it too.

    Args:
        config: `rejected` and `wrong_answers`: how likely an image is to be rejected, and one that
            is not to be named wrongly.
        root: Of the episode.
        episode: With true labels.
    """
    labels = episode.true_labels.copy()
    if config.wrong_answers and len(episode.classes) > 1:
        rng = streams.generator(root, 0, "wrong answers")
        wrong = np.flatnonzero(rng.random(len(labels)) < config.wrong_answers)
        classes = np.array(episode.classes)
        place = {class_id: i for i, class_id in enumerate(episode.classes)}
        own = np.array([place[class_id] for class_id in labels[wrong].tolist()], np.int64)
        further = rng.integers(1, len(classes), size=len(wrong))
        labels[wrong] = classes[(own + further) % len(classes)]
    if config.rejected:
        rng = streams.generator(root, 0, "rejected")
        labels[rng.random(len(labels)) < config.rejected] = REJECT
    _, first, copy_of = np.unique(episode.source_indices, return_index=True, return_inverse=True)
    return LabelOracle(labels[first[copy_of]])
