"""Episodes of models with frozen layers at their beginning."""

import dataclasses

import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData, agents
from emoc_tf.exploration import Exploration
from emoc_tf.models import prefix, structure, trained_part
from tests.models.test_prefix import SHAPE, backbone, frozen, pooled

layers = keras.layers
POLICIES = ["emoc", "emoc-expected", "emoc-new", "min", "egl", "lookahead"]


def data(count=160, classes=6, seed=0):
    rng = np.random.default_rng(seed)
    means = np.random.default_rng(9).normal(size=(classes, *SHAPE))
    labels = np.arange(count) % classes
    images = (means[labels] + rng.normal(size=(count, *SHAPE))).astype(np.float32)
    return ImageData(images, labels, [str(c) for c in range(classes)])


DATA = data(), data(60, seed=1)


def exploration(model, **settings):
    given = {
        "known_classes": 3, "novel_classes": 3, "initial_per_class": 8, "pool_per_class": 12,
        "num_candidate_sets": 12, "set_size": 4, "sampler": "single_class",
        "pretrain_iterations": 20, "update_iterations": 10, "batch_size": 8,
        "learning_rate": 0.05, "audit": 5,
    }  # fmt: skip
    return Exploration(ExplorationConfig(**given | settings), data=DATA, model=model)


def run(model, policy="emoc", steps=3, **settings):
    one, agent = exploration(model, **settings), agents.make(policy, seed=0)
    outcomes = [one.reset(0)]
    outcomes += [one.advance(agent.act({}, one.state)) for _ in range(steps)]
    return one, [outcome.to_dict() for outcome in outcomes]


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    return pooled(frozen(), training=False)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_episode_goes_as_without_kept_outputs(policy, model, monkeypatch):
    one, found = run(model, policy)
    assert one.state.trained_model is not one.state.model
    assert one.state.trained_inputs.shape == (len(one.state.pool), 4)
    monkeypatch.setattr(trained_part, "split", lambda model: None)
    whole, expected = run(model, policy)
    assert whole.state.trained_model is whole.state.model
    assert found == expected
    np.testing.assert_allclose(
        one.state.probabilities, whole.state.probabilities, rtol=1e-4, atol=1e-5
    )


def test_an_episode_resumes_with_equal_bits(model):
    one, _ = run(model, steps=1)
    arrays = one.save()
    assert sum(array.nbytes for array in arrays.values()) < 100_000
    other, agent = exploration(model), agents.make("emoc", seed=0)
    other.restore(arrays, None, None)
    for each in (one, other):
        for _ in range(2):
            each.advance(agent.act({}, each.state))
    for name in ("probabilities", "features", "candidates"):
        np.testing.assert_array_equal(getattr(one.state, name), getattr(other.state, name))


def test_weights_that_are_changed_by_hand_between_steps_count(model):
    one, _ = run(model, steps=1)
    kernel = one.state.model.get_layer("base").get_layer("first").kernel
    before = one.state.trained_inputs
    kernel.assign(kernel * 2)
    assert not np.allclose(one.state.trained_inputs, before)
    one.advance(0)
    body = structure.feature_extractor(one.state.model)
    features = body(one.state.pool.images, training=False)
    np.testing.assert_allclose(one.state.features, features, rtol=1e-4, atol=1e-5)


def test_a_state_of_other_images_has_no_inputs_of_these(model):
    one, _ = run(model, steps=0)
    other, _ = run(model, steps=0, initial_per_class=5)
    mixed = dataclasses.replace(one.state, pool=other.state.pool)
    assert mixed.trained_model is mixed.model
    assert mixed.trained_inputs is mixed.pool.images


def test_it_is_told_once_that_a_random_layer_comes_first():
    model = pooled(frozen(), before=[layers.RandomFlip()])
    with pytest.warns(UserWarning, match="random_flip") as told:
        run(model, steps=1)
    assert len(told) == 1


def test_models_without_frozen_layers_are_taken_as_they_are():
    one, _ = run(pooled(backbone(normalised=False)), steps=1)
    assert one.state.trained_model is one.state.model
    assert one.state.trained_inputs is one.state.pool.images
    assert prefix.hindrance(one.state.model) is None
