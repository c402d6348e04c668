import dataclasses

import numpy as np
import pytest

from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import FEATURES, PROGRESS
from emoc_tf.envs.observation import observation_space, observe
from tests.exploration import fakes

CONFIG = ExplorationConfig(num_candidate_sets=6, set_size=3, max_steps=10)


def column(observation, name):
    return observation["set_features"][:, FEATURES.index(name)]


def test_features_by_hand():
    state = fakes.make_state(masked=(1,))
    observation = observe(state, CONFIG)
    assert observation in observation_space(CONFIG)
    counts = np.bincount(state.pool.labels[state.pool.labels >= 0], minlength=4)
    labelled = state.features[state.pool.labels >= 0].astype(np.float64)

    def distance(i):
        return min(np.linalg.norm(state.features[i].astype(np.float64) - one) for one in labelled)

    mean = np.mean([distance(i) for i in np.unique(state.candidates[state.candidate_mask])])
    for m in (0, 2, 3, 4, 5):
        members = state.candidates[m]
        posterior = state.probabilities[members].astype(np.float64)
        top, predicted = np.sort(posterior, axis=1), posterior.argmax(axis=1)
        per_image = {
            "max_score": top[:, -1],
            "margin": top[:, -1] - top[:, -2],
            "min_score": top[:, 0],
            "entropy": -(posterior * np.log(posterior)).sum(axis=1) / np.log(4),
        }
        for name, values in per_image.items():
            assert column(observation, name)[m] == pytest.approx(values.mean(), rel=1e-4, abs=1e-7)
            spread = column(observation, f"{name}_spread")[m]
            assert spread == pytest.approx(values.std(), rel=1e-3, abs=1e-6)
        assert column(observation, "label_agreement")[m] == pytest.approx(
            np.bincount(predicted).max() / 3
        )
        assert column(observation, "labelled_share")[m] == pytest.approx(
            (counts[predicted] / counts.max()).mean()
        )
        distances = np.array([distance(i) for i in members])
        assert column(observation, "distance")[m] == pytest.approx(
            (distances / (distances + mean)).mean(), rel=1e-5
        )
    assert (observation["set_features"][1] == 0).all()
    np.testing.assert_array_equal(observation["action_mask"], [1, 0, 1, 1, 1, 1])
    np.testing.assert_allclose(
        observation["progress"], [2 / 10, 10 / 20, 4 / 10], rtol=1e-6, err_msg=str(PROGRESS)
    )


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1.0, 1e30])
@pytest.mark.parametrize("shape", [{"classes": 1}, {"set_size": 1}, {"masked": range(6)}, {}])
def test_numbers_are_finite_and_within_their_ranges(shape, scale):
    state = fakes.make_state(**shape)
    state = dataclasses.replace(state, features=state.features * np.float32(scale))
    config = CONFIG.replace(set_size=shape.get("set_size", 3))
    observation = observe(state, config)
    assert observation in observation_space(config)
    assert np.isfinite(observation["set_features"]).all()
    spreads = [i for i, name in enumerate(FEATURES) if name.endswith("_spread")]
    assert (observation["set_features"][:, spreads] <= 0.5).all()
    if not state.candidate_mask.any():
        assert (observation["set_features"] == 0).all()


def test_sure_posteriors_are_finite():
    state = fakes.state_with_posterior([[1, 0, 0], [1, 0, 0], [0, 1, 0], [1 / 3] * 3], [[0], [3]])
    features = observe(state, CONFIG.replace(num_candidate_sets=2, set_size=1))["set_features"]
    assert np.isfinite(features).all()
    np.testing.assert_allclose(features[:, FEATURES.index("entropy")], [0, 1], atol=1e-6)


def test_the_order_of_the_sets_changes_nothing_but_the_order():
    state = fakes.make_state()
    order = np.array([3, 0, 5, 1, 4, 2])
    turned = dataclasses.replace(
        state,
        candidates=state.candidates[order],
        candidate_mask=state.candidate_mask[order],
    )
    np.testing.assert_array_equal(
        observe(turned, CONFIG)["set_features"], observe(state, CONFIG)["set_features"][order]
    )


@pytest.mark.parametrize("alike", ["all", "labelled ones"])
def test_no_distance_is_made_of_rounding(alike):
    """A collapsed network, or waiting images that repeat labelled ones: 0, exactly."""
    state = fakes.make_state(num_images=40)
    features = np.random.default_rng(0).normal(3, 1, (40, 64)).astype(np.float32)
    features = features[[0] * 40] if alike == "all" else features[np.arange(40) % 20]
    observation = observe(dataclasses.replace(state, features=features), CONFIG)
    assert (column(observation, "distance") == 0).all()
