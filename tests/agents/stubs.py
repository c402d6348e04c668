"""States of random features under a head of random weights, for policies that look at these."""

import dataclasses
import functools

import keras
import numpy as np
from scipy.special import softmax

from emoc_tf.data.images import read_only
from emoc_tf.exploration.pool import Pool
from emoc_tf.exploration.state import ExplorationState


@functools.cache
def head(size, classes, use_bias=True):
    """A model that is a head alone: features are its images.

    Its weights are the same whichever test asks first.
    """
    image, drawn = keras.Input((size,)), keras.initializers.GlorotUniform(seed=0)
    layer = keras.layers.Dense(max(classes, 1), use_bias=use_bias, kernel_initializer=drawn)
    return keras.Model(image, layer(image))


def make_state(
    num_images=30, size=5, classes=3, labelled=10, rejected=2, num_sets=6, set_size=4, seed=0,
    padded=True, use_bias=True, scale=1.0, sharpness=1.0, features=None, sets=None, step=1,
):  # fmt: skip
    """The first images are labelled, the next ones rejected; sets are of those that wait.

    With `padded` the second set has an image fewer, and the third none.
    """
    rng = np.random.default_rng(seed)
    if features is None:
        features = rng.normal(size=(num_images, size)) * scale
    features = np.asarray(features, np.float32)
    weights = rng.normal(size=(features.shape[1], classes))
    logits = sharpness * (features.astype(np.float64) / scale) @ weights
    posterior = softmax(logits, axis=1) if classes else logits
    labels = np.full(len(features), -1)
    labels[:labelled] = np.arange(labelled) % max(classes, 1)
    labels[labelled : labelled + rejected] = -2
    pool = Pool(features)
    pool.set_labels(labels)
    if sets is None:
        waiting = np.flatnonzero(labels == -1)
        sets = [rng.choice(waiting, set_size, replace=False) for _ in range(num_sets)]
        sets = np.stack(sets)
        if padded and num_sets > 2:
            sets[1, -1] = -1
            sets[2] = -1
    sets = np.asarray(sets, np.int64)
    return ExplorationState(
        model=head(features.shape[1], classes, use_bias),
        pool=pool.snapshot(),
        candidates=read_only(sets),
        candidate_mask=read_only((sets >= 0).any(axis=1)),
        probabilities=read_only(posterior.astype(np.float32)),
        features=read_only(features),
        known_classes=tuple(range(classes)),
        step=step,
    )


replace = dataclasses.replace


def paper_size(classes=10, size=64, num_images=3000, labelled=1000, num_sets=1000, set_size=25):
    """A state of the size that the paper has, for measuring."""
    return make_state(num_images, size, classes, labelled, 0, num_sets, set_size, padded=False)


def edge_states():
    """States that have little to tell apart, by name."""
    nothing = np.zeros((30, 5))
    return {
        "no class": make_state(classes=0, labelled=0),
        "one class": make_state(classes=1),
        "one image a set": make_state(set_size=1),
        "nothing labelled": make_state(labelled=0),
        "all features zero": make_state(features=nothing),
        "all features alike": make_state(features=nothing + 3),
        "certain": make_state(sharpness=1e6),
        "few labelled": make_state(labelled=2, size=40),
        "without bias": make_state(use_bias=False),
        "padding alone": make_state(sets=np.full((3, 2), -1)),
    }


def check_edge_states(agent):
    """Scores are numbers, 0 for padding, and the same when asked again."""
    for case, state in edge_states().items():
        found, again = agent.score(state), agent.score(state)
        assert found.shape == state.candidate_mask.shape, case
        assert np.isfinite(found).all(), case
        assert (found[~state.candidate_mask] == 0).all(), case
        np.testing.assert_array_equal(found, again, case)
        assert np.isfinite(agent.score_images(state, state.pool.unlabelled[:3])).all(), case
        assert agent.score_images(state, np.arange(0)).shape == (0,), case
