"""Preprocessing and augmentation layers under the learner: random in training, and only there."""

import keras
import numpy as np
import pytest

from emoc_tf.models import structure
from emoc_tf.models.learner import Learner
from tests.scoring import own_models
from tests.scoring.own_models import classifier

layers = keras.layers
IMAGES, LABELS = own_models.make_images(12), np.arange(12) % 3
FIXED = {
    "size": own_models.augmentations()["size"],
    "values": own_models.augmentations()["values"],
    "adapted": None,
}
RANDOM = {
    f"{kind} {i}": layer
    for kind, members in own_models.augmentations().items()
    for i, layer in enumerate(members)
    if kind in ("geometry", "colour", "policies", "noise", "a block")
}


def learnt(model, *layer_seeds):
    """The outputs that are learnt from the same start, with random layers in several states."""
    learner = Learner(
        model, IMAGES, learning_rate=0.1, momentum=0.9, batch_size=6, old_fraction=0.9
    )
    start, found = learner.get_arrays(), []
    before = model(IMAGES, training=False).numpy()
    for seed in layer_seeds:
        learner.set_arrays(start)
        structure.seed_layers(model, np.random.default_rng(seed))
        learner.train(3, np.array([1, 2], np.int32), LABELS, np.arange(12))
        after = [model(IMAGES, training=False).numpy() for _ in range(2)]
        np.testing.assert_array_equal(*after)
        assert not np.array_equal(after[0], before)
        found.append(after[0].tobytes())
    return found


def fresh(*members):
    """A classifier behind copies of layers, with the same weights each time."""
    return classifier(*(structure.from_config(m, structure.config_of(m)) for m in members))


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_random_layers_change_what_is_learnt_and_nothing_else(name):
    first, again, other = learnt(fresh(RANDOM[name]), 0, 0, 1)
    assert first == again != other


def adapted():
    normalization = layers.Normalization()
    normalization.adapt(3 * IMAGES - 1)
    return classifier(normalization)


@pytest.mark.parametrize("kind", sorted(FIXED))
def test_layers_that_draw_nothing_are_the_same_in_training(kind):
    first, other = learnt(adapted() if FIXED[kind] is None else fresh(*FIXED[kind]), 0, 1)
    assert first == other
