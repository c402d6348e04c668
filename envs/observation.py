"""The observation: a few numbers per candidate set, and the progress of the episode."""

import gymnasium as gym
import numpy as np

from emoc_tf import uncertainty
from emoc_tf.config import ExplorationConfig
from emoc_tf.state import ExplorationState

# Columns of `set_features`, each in [0, 1]; all but the last are means over the set's images.
FEATURES = ("max_score", "margin", "min_score", "entropy", "label_agreement")
# Entries of `progress`, each in [0, 1].
PROGRESS = ("step", "labelled", "known_classes")


def observation_space(config: ExplorationConfig) -> gym.spaces.Dict:
    """Returns the space of what `observe` returns."""
    sets = config.num_candidate_sets
    return gym.spaces.Dict(
        {
            "set_features": gym.spaces.Box(0, 1, (sets, len(FEATURES)), np.float32),
            "action_mask": gym.spaces.MultiBinary(sets),
            "progress": gym.spaces.Box(0, 1, (len(PROGRESS),), np.float32),
        }
    )


def observe(state: ExplorationState, config: ExplorationConfig) -> dict[str, np.ndarray]:
    """Describes a state in a fixed shape.

    Returns:
        `set_features` (M, 5) float32: per set the mean maximum score, mean margin of the two
        highest scores, mean minimum score, mean entropy over log C, and the share of its images
        that have the set's most frequent predicted label; 0 for padding. `action_mask` (M,)
        int8. `progress` (3,) float32: step over all steps, labelled images over all images,
        known classes over all classes.
    """
    posterior, sets = state.probabilities, state.candidates
    means = [
        uncertainty.set_means(measure(posterior), sets)
        for measure in (
            uncertainty.max_score,
            uncertainty.margin,
            uncertainty.min_score,
            uncertainty.entropy,
        )
    ]
    features = np.stack([*means, _label_agreement(posterior, sets)], axis=1)
    progress = [
        state.step / config.num_steps,
        (state.pool.labels >= 0).mean(),
        len(state.known_classes) / (config.known_classes + config.novel_classes),
    ]
    return {
        "set_features": np.clip(features, 0, 1).astype(np.float32),
        "action_mask": state.candidate_mask.astype(np.int8),
        "progress": np.clip(progress, 0, 1).astype(np.float32),
    }


def _label_agreement(posterior: np.ndarray, sets: np.ndarray) -> np.ndarray:
    """Returns the share of each set's images with its most frequent predicted label, (M,)."""
    predicted, real = posterior.argmax(axis=1), sets >= 0
    counts = np.zeros((len(sets), posterior.shape[1]))
    rows = np.nonzero(real)[0]
    np.add.at(counts, (rows, predicted[sets[real]]), 1)
    return counts.max(axis=1) / np.maximum(real.sum(axis=1), 1)
