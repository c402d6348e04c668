"""The observation: a few numbers per candidate set, and the progress of the episode."""

import gymnasium as gym
import numpy as np

from emoc_tf import uncertainty
from emoc_tf.config import ExplorationConfig
from emoc_tf.envs.nearest import NearestLabelled
from emoc_tf.exploration.state import ExplorationState

_MEASURES = {
    "max_score": uncertainty.max_score,
    "margin": uncertainty.margin,
    "min_score": uncertainty.min_score,
    "entropy": uncertainty.entropy,
}
# Columns of `set_features`; `observe` tells what each is.
FEATURES = (
    *_MEASURES,
    *(f"{name}_spread" for name in _MEASURES),
    "label_agreement",
    "labelled_share",
    "distance",
)
# Entries of `progress`.
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


def observe(
    state: ExplorationState,
    config: ExplorationConfig,
    num_steps: int | None = None,
    num_classes: int | None = None,
    nearest: NearestLabelled | None = None,
) -> dict[str, np.ndarray]:
    """Describes a state in a fixed shape.

    Args:
        state: The state.
        config: The settings.
        num_steps: Update steps of the episode, at most; None: `config.num_steps`.
        num_classes: Classes there are; None: the known and novel ones of the settings.
        nearest: Of the steps before, for the same numbers sooner where layers are frozen; None for
            one of this step alone.

    Axis letters: M candidate sets, C outputs. All numbers are finite and in [0, 1]; those of a
    masked set are 0.

    Returns:
        `set_features` (M, 11) float32, per set in the order of `FEATURES`:

        - `max_score`, in [1/C, 1]; `margin` of the two highest scores, in [0, 1]; `min_score`, in
          [0, 1/C]; and `entropy` over log C, in [0, 1]: means over the set's images;
        - the same with `_spread`: standard deviations over the set's images, in [0, 0.5];
        - `label_agreement`: the share of its images that have the set's most frequent predicted
          label, in [1/K, 1];
        - `labelled_share`: how many labelled images the predicted classes have, over those of the
          class that has most, in [0, 1]: mean over the set's images;
        - `distance`: from an image to the nearest labelled one in the space of the head's inputs,
          d / (d + mean of d over the images of all sets), in [0, 1): mean over the set's images;
          0.5 for one as far away as they are on average.

        `action_mask` (M,) int8. `progress` (3,) float32: step over all steps, labelled images
        over all images, known classes over all classes.
    """
    posterior, sets = state.probabilities, state.candidates
    if not posterior.shape[1]:  # what is known of no class tells as little as what is known of one
        posterior = np.ones((len(posterior), 1), np.float32)
    measured = [measure(posterior) for measure in _MEASURES.values()]
    columns = [
        *(uncertainty.set_means(values, sets) for values in measured),
        *(uncertainty.set_spreads(values, sets) for values in measured),
        _label_agreement(posterior, sets),
        uncertainty.set_means(_labelled_share(state.pool.labels, posterior), sets),
        uncertainty.set_means(_distance(state, nearest or NearestLabelled()), sets),
    ]
    steps = num_steps or config.num_steps or 1
    classes = num_classes or config.known_classes + config.novel_classes
    progress = [
        state.step / steps,
        (state.pool.labels >= 0).mean(),
        len(state.known_classes) / classes,
    ]
    return {
        "set_features": np.clip(np.stack(columns, axis=1), 0, 1).astype(np.float32),
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


def _labelled_share(labels: np.ndarray, posterior: np.ndarray) -> np.ndarray:
    """Returns how well labelled the predicted class of each pool image is, (n_pool,)."""
    counts = np.bincount(labels[labels >= 0], minlength=posterior.shape[1])
    return (counts / max(counts.max(), 1))[posterior.argmax(axis=1)]


def _distance(state: ExplorationState, nearest: NearestLabelled) -> np.ndarray:
    """Returns the distance of each pool image to the labelled ones, (n_pool,); 0 outside sets."""
    distances = np.zeros(len(state.features))
    labelled = np.flatnonzero(state.pool.labels >= 0)
    waiting = np.unique(state.candidates[state.candidates >= 0])
    if not len(waiting) or not len(labelled):
        return distances
    found = nearest.distances(state.features, waiting, labelled)
    if found.any():
        distances[waiting] = found / (found + found.mean())
    return distances
