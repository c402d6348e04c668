"""States for agents, without an environment."""

import numpy as np

from emoc_tf.data.images import read_only
from emoc_tf.exploration.pool import Pool
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.models import structure
from tests.scoring import models


def make_state(classes=4, num_images=20, num_sets=6, set_size=3, masked=(), seed=0, step=2):
    """A state with a random model, a half-labelled pool and random sets; `masked` are padding."""
    rng = np.random.default_rng(seed)
    model = models.randomised(models.convolutional(classes), seed=seed, scale=2.0)
    pool = Pool(models.images(num_images, model.input_shape[1:], seed=seed))
    labelled = np.arange(num_images // 2)
    pool.label(labelled, rng.integers(classes, size=len(labelled)))
    sets = np.stack([rng.choice(pool.unlabelled, set_size, replace=False) for _ in range(num_sets)])
    sets[list(masked)] = -1
    return state_of(model, pool, sets, step)


def state_of(model, pool, sets, step=2):
    logits = model(pool.images).numpy().astype(np.float64)
    posterior = np.exp(logits - logits.max(axis=1, keepdims=True))
    posterior /= posterior.sum(axis=1, keepdims=True)
    return ExplorationState(
        model=model,
        pool=pool.snapshot(),
        candidates=read_only(sets.astype(np.int64)),
        candidate_mask=read_only((sets >= 0).any(axis=1)),
        probabilities=read_only(posterior.astype(np.float32)),
        features=read_only(structure.feature_extractor(model)(pool.images).numpy()),
        known_classes=tuple(range(10, 10 + logits.shape[1])),
        step=step,
    )


def state_with_posterior(posterior, sets):
    """A state whose posteriors are given; model and images do not belong to them."""
    state = make_state(classes=np.shape(posterior)[1], num_images=len(posterior), set_size=1)
    changed = {
        **vars(state),
        "probabilities": np.asarray(posterior, np.float32),
        "candidates": np.asarray(sets),
        "candidate_mask": (np.asarray(sets) >= 0).any(axis=1),
    }
    return ExplorationState(**changed)
