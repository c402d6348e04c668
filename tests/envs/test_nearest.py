"""Distances to labelled images: those of every pair, whatever was kept of the steps before."""

import keras
import numpy as np
import pytest

from emoc_tf.envs import ActiveExplorationEnv, nearest
from emoc_tf.envs.nearest import NearestLabelled
from emoc_tf.envs.observation import observe
from tests.running.test_grid import CONFIG, images


def frozen_environment(config):
    image = keras.Input((6, 6, 1))
    body = keras.layers.Dense(5, kernel_initializer=keras.initializers.GlorotUniform(0))
    body.trainable = False
    head = keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(1))
    model = keras.Model(image, head(body(keras.layers.Flatten()(image))))
    return ActiveExplorationEnv(config, data=images(), model=model)


def of_pairs(features, images, labelled):
    exact = features.astype(np.float64)
    return np.linalg.norm(exact[images, None] - exact[labelled], axis=-1).min(axis=1)


@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6, 0.0])
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_distances_are_those_of_every_pair(spread, offset, monkeypatch):
    """However alike images are, and though the product that leaves most out is in float32."""
    monkeypatch.setattr(nearest, "_BLOCK", 700)  # of several blocks, the last one smaller
    rng = np.random.default_rng(0)
    features = (offset + spread * rng.normal(size=(60, 30))).astype(np.float32)
    images, others = np.arange(23), np.arange(23, 60)
    found = NearestLabelled().distances(features, images, others)
    largest = np.abs(features).max()
    scale = 2.0 ** (np.floor(np.log2(largest)) + 1) if largest else 1.0
    np.testing.assert_allclose(found * scale, of_pairs(features, images, others), rtol=1e-9, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 3e30])
def test_what_is_kept_changes_no_bit_and_saves_work(scale, monkeypatch):
    rng = np.random.default_rng(1)
    features = (scale * rng.normal(size=(400, 20))).astype(np.float32)
    kept, labelled, order = NearestLabelled(), np.arange(0), rng.permutation(400)
    pairs, plain = [], nearest._nearest

    def counting(features, images, others, scale):
        pairs.append(len(images) * len(others))
        return plain(features, images, others, scale)

    for step in range(30):
        labelled = order[: 60 + 4 * step]
        some = np.sort(rng.choice(order[60 + 4 * step :], 150, replace=False))
        with monkeypatch.context() as patch:
            patch.setattr(nearest, "_nearest", counting)
            found = kept.distances(features.copy(), some, rng.permutation(labelled))
        np.testing.assert_array_equal(found, NearestLabelled().distances(features, some, labelled))
    assert sum(pairs) < 0.25 * sum(150 * (60 + 4 * step) for step in range(30))


@pytest.mark.parametrize("copies", [1, 4])
def test_what_is_kept_changes_no_bit_of_images_that_are_nearly_alike(copies, monkeypatch):
    """Such as copies of a few images, whose features differ by rounding."""
    monkeypatch.setattr(nearest, "_BLOCK", 2000)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        features = rng.normal(size=(5, 20)).astype(np.float32)[rng.integers(0, 5, 300 // copies)]
        features *= 1 + 6e-8 * rng.integers(-2, 3, features.shape).astype(np.float32)
        features, kept = np.concatenate([features] * copies), NearestLabelled()
        order = rng.permutation(len(features))
        for labelled, some in ((order[:70], order[200:]), (order[:140], order[150:])):
            found = kept.distances(features, some, labelled)
            alone = NearestLabelled().distances(features, some, labelled)
            np.testing.assert_array_equal(found, alone)
            wanted = of_pairs(features, some, labelled)
            scale = 2.0 ** (np.floor(np.log2(np.abs(features).max())) + 1)
            np.testing.assert_allclose(found * scale, wanted, rtol=1e-9, atol=0)


@pytest.mark.parametrize("change", ["features", "fewer labels", "another pool"])
def test_what_no_longer_holds_is_not_kept(change):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(50, 8)).astype(np.float32)
    some, labelled, kept = np.arange(20, 50), np.arange(20), NearestLabelled()
    before = kept.distances(features, some, labelled)
    if change == "features":
        features = features.copy()
        features[3] *= 2
        features[45] += 1
    elif change == "fewer labels":
        labelled = np.arange(1, 20)
    else:
        features, some = np.concatenate([features, features[:5] + 1]), np.arange(25, 55)
    found = kept.distances(features, some, labelled)
    np.testing.assert_array_equal(found, NearestLabelled().distances(features, some, labelled))
    assert not np.array_equal(found, before)


def test_an_environment_sees_what_a_single_look_sees(monkeypatch):
    asked, plain = [], nearest._nearest

    def noting(features, images, others, scale):
        asked.append(len(others))
        return plain(features, images, others, scale)

    for make in (frozen_environment, lambda config: ActiveExplorationEnv(config, data=images())):
        env = make(CONFIG.replace(max_steps=3))
        with monkeypatch.context() as patch:
            patch.setattr(nearest, "_nearest", noting)
            asked.clear()
            seen, _ = env.reset(seed=0)
            while True:
                steps = env.exploration.episode.num_steps(env.config)
                classes = len(env.exploration.episode.classes)
                with monkeypatch.context() as again:
                    again.setattr(nearest, "_nearest", plain)
                    alone = observe(env.state, env.config, steps, classes)
                for name, values in alone.items():
                    np.testing.assert_array_equal(seen[name], values)
                if env.over:
                    break
                seen, *_ = env.step(int(seen["action_mask"].argmax()))
        first = asked[0]
        assert (min(asked) < first) == (make is frozen_environment)
