import numpy as np
import pytest

from emoc_tf.exploration import Exploration, candidates, clusters
from emoc_tf.exploration.candidates import SamplerInputs
from emoc_tf.exploration.clusters import MiniBatchCluster, cluster, nearest

SAMPLERS = {"cluster": lambda: cluster, "minibatch-cluster": MiniBatchCluster}


def inputs(features, *, set_size=5, step=0, seed=0, waiting=None, num_sets=50):
    waiting = np.arange(len(features)) if waiting is None else waiting
    rng = np.random.default_rng(seed)
    return SamplerInputs(waiting, None, features, None, set_size, num_sets, rng, seed, None, step)


def heaps(count=8, each=10, spread=0.1, dtype=np.float32):
    """Features of images that lie in heaps far from each other, heap by heap."""
    rng = np.random.default_rng(5)
    centres = 100 * rng.normal(size=(count, 3))
    features = np.repeat(centres, each, axis=0) + spread * rng.normal(size=(count * each, 3))
    return features.astype(dtype)


@pytest.mark.parametrize("name", SAMPLERS)
def test_clusters_follow_the_features(name):
    features = heaps(4)
    sampler = candidates.named(name, None)
    for step in range(6):  # random beginnings may miss a heap, which is mended step by step
        sets, mask = sampler(inputs(features, step=step, seed=step))
    assert mask.all()
    assert len(set(sets[:, 0] // 10)) > 1
    # A centre between two heaps has sets of both: most have images of one.
    assert (np.ptp(sets // 10, axis=1) == 0).mean() > 0.5


def test_centres_are_moved_and_not_found_anew():
    features = np.random.default_rng(3).normal(size=(2000, 3)).astype(np.float32)
    sampler, other = MiniBatchCluster(), MiniBatchCluster()

    def moved(sampler):
        """How far a centre of the first step is from the nearest of this one."""
        sampler(inputs(features, set_size=10, step=1, seed=1))
        second = sampler.get_arrays()["centres"]
        return np.median(np.linalg.norm(first[:, None] - second, axis=2).min(axis=1))

    sampler(inputs(features, set_size=10))
    first = sampler.get_arrays()["centres"]
    assert 0 < 2 * moved(sampler) < moved(other)


def test_in_a_step_centres_move_once():
    features, sampler = heaps(), MiniBatchCluster()
    sampler(inputs(features))
    before = sampler.get_arrays()
    sets, mask = sampler(inputs(features, seed=7, waiting=np.arange(40)))
    assert mask.any()
    assert sets.max() < 40
    after = sampler.get_arrays()
    for name in ("centres", "sizes", "step"):
        np.testing.assert_array_equal(before[name], after[name])


def test_in_a_step_few_images_of_each_cluster_are_sets_too():
    """Most of each may be in open queries: nobody could be asked about the rest otherwise."""
    features, sampler = heaps(), MiniBatchCluster()
    sampler(inputs(features))
    before = sampler.get_arrays()
    groups = nearest(features, np.arange(len(features)), before["centres"])
    left = np.sort(np.concatenate([np.flatnonzero(groups == g)[:4] for g in range(8)]))
    assert len(left) >= 20  # of which two clusters and more could form sets of five
    sets, mask = sampler(inputs(features, waiting=left))
    assert mask.any()
    assert np.isin(sets[mask], left).all()
    for name, array in sampler.get_arrays().items():
        np.testing.assert_array_equal(before[name], array)


def test_what_is_kept_resumes_it():
    features = heaps()
    straight = MiniBatchCluster()
    for step in range(3):
        kept = straight.get_arrays()
        expected, _ = straight(inputs(features, step=step, seed=step))
    other = MiniBatchCluster()
    other.set_arrays(kept)  # of the step before
    sets, _ = other(inputs(features, step=2, seed=2))
    np.testing.assert_array_equal(sets, expected)
    again = MiniBatchCluster()
    again.set_arrays(straight.get_arrays())  # of the step itself, whose sets are drawn once more
    sets, _ = again(inputs(features, step=2, seed=2))
    np.testing.assert_array_equal(sets, expected)
    again.set_arrays({})
    assert again.get_arrays() == {}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fewer_images_have_fewer_clusters_and_none_that_is_empty(dtype):
    features, sampler = heaps(12, dtype=dtype), MiniBatchCluster()
    left = np.arange(120)
    rng = np.random.default_rng(0)
    for step in range(23):
        sets, mask = sampler(inputs(features, step=step, seed=step, waiting=left))
        assert mask.any()
        assert np.isin(sets[mask], left).all()
        kept = sampler.get_arrays()
        if kept and int(kept["step"]) == step:
            assert len(kept["centres"]) == len(left) // 10
            assert kept["sizes"].sum() == len(left)
        left = np.setdiff1d(left, sets[rng.choice(np.flatnonzero(mask))])
    assert len(left) == 5


def test_equal_features_and_features_of_another_length_are_taken():
    sampler = MiniBatchCluster()
    for step, features in enumerate((np.ones((60, 3)), np.ones((60, 3)), heaps(6)[:, :2])):
        _, mask = sampler(inputs(features.astype(np.float32), step=step))
        assert mask.any()
        assert sampler.get_arrays()["centres"].shape == (6, features.shape[1])


def test_nearest_is_the_nearest(monkeypatch):
    rng = np.random.default_rng(0)
    features, centres = rng.normal(size=(200, 7)), rng.normal(size=(30, 7))
    distances = np.linalg.norm(features[:, None] - centres, axis=2)
    some = rng.permutation(200)[:90]
    for block in (1 << 20, 240):  # in one part, and in several of which the last is smaller
        monkeypatch.setattr(clusters, "_BLOCK", block)
        found = nearest(features, some, centres)
        np.testing.assert_array_equal(found, distances.argmin(axis=1)[some])
    assert nearest(np.ones((1, 2)), np.array([0]), np.ones((3, 2))) == [0]


def test_an_episode_resumes_to_the_bit(tiny):
    config = tiny.replace(sampler="minibatch-cluster", set_size=2)
    straight, half = Exploration(config), Exploration(config)
    for exploration in (straight, half):
        exploration.reset(3)
        exploration.advance(int(np.flatnonzero(exploration.state.candidate_mask)[0]))
    arrays = half.save()
    assert len(arrays["sampler.centres"]) > 1
    resumed = Exploration(config)
    resumed.restore(arrays, None, None)
    for _ in range(2):
        for exploration in (straight, resumed):
            exploration.advance(int(np.flatnonzero(exploration.state.candidate_mask)[-1]))
        np.testing.assert_array_equal(resumed.state.candidates, straight.state.candidates)
    other = Exploration(config)
    other.restore({k: v for k, v in arrays.items() if not k.startswith("sampler.")}, None, None)
    assert not np.array_equal(
        other._sampler.get_arrays()["centres"], half._sampler.get_arrays()["centres"]
    )
    # Each episode begins without centres.
    straight.reset(3)
    first = straight.state.candidates
    half.reset(3)
    np.testing.assert_array_equal(half.state.candidates, first)
