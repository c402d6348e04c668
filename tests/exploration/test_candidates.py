import numpy as np
import pytest

from emoc_tf.exploration.candidates import SAMPLERS, GroupingInputs, sample


def inputs(sampler_rng=0, true_labels=None, set_size=3):
    unlabelled = np.arange(10, 50)
    rng = np.random.default_rng(5)
    centres = np.repeat(np.arange(4) * 10.0, 10)
    features = np.zeros((60, 2))
    features[unlabelled, 0] = centres + 0.1 * rng.normal(size=40)
    if true_labels is None:
        true_labels = np.arange(60) % 3
    return GroupingInputs(
        unlabelled, true_labels, features, set_size, np.random.default_rng(sampler_rng)
    )


def draw(groups, num_sets=50, set_size=3, seed=0):
    return sample(np.random.default_rng(seed), np.arange(10, 50), groups, num_sets, set_size)


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_sets_are_distinct_unlabelled_images_of_one_group(sampler):
    groups = SAMPLERS[sampler](inputs())
    sets, mask = draw(groups)
    assert sets.shape == (50, 3)
    assert sets.dtype == np.int64
    assert mask.all()
    assert sets.min() >= 10
    assert sets.max() < 50
    group_of = dict(zip(range(10, 50), groups, strict=True))
    for row in sets:
        assert len(set(row)) == 3
        assert len({group_of[index] for index in row}) == 1


def test_single_class_groups_by_true_label():
    data = inputs()
    np.testing.assert_array_equal(SAMPLERS["single_class"](data), data.unlabelled % 3)


@pytest.mark.parametrize("sampler", ["uniform", "cluster"])
def test_the_other_samplers_need_no_ground_truth(sampler):
    hidden = np.full(60, np.nan)
    np.testing.assert_array_equal(
        SAMPLERS[sampler](inputs(true_labels=hidden)), SAMPLERS[sampler](inputs())
    )


def test_clusters_follow_the_features():
    groups = SAMPLERS["cluster"](inputs(set_size=5))  # 40 images in 40 // 10 clusters
    assert [len(set(groups[start : start + 10])) for start in range(0, 40, 10)] == [1, 1, 1, 1]
    assert len(set(groups)) == 4


def test_classes_are_drawn_uniformly_whatever_their_size():
    groups = np.array([0] * 30 + [1] * 10)
    sets, _ = sample(np.random.default_rng(0), np.arange(40), groups, 2000, 4)
    assert 0.45 < (sets[:, 0] >= 30).mean() < 0.55


def test_groups_with_fewer_than_k_images_form_no_set():
    groups = np.array([0] * 2 + [1] * 38)
    sets, mask = draw(groups)
    assert mask.all()
    assert sets.min() >= 12


def test_where_no_group_is_large_enough_all_is_masked():
    rng = np.random.default_rng(0)
    for indices, groups in ((np.arange(6), np.arange(6)), (np.arange(0), np.empty(0))):
        sets, mask = sample(rng, indices, groups, 6, 3)
        assert sets.shape == (6, 3)
        assert not mask.any()
        assert (sets == -1).all()


def test_the_place_of_a_set_tells_nothing_about_its_class():
    """Also where few sets exist: class ids must not be read off the order of the sets."""
    groups = np.repeat(np.arange(8), 3)
    orders = set()
    for seed in range(20):
        sets, mask = sample(np.random.default_rng(seed), np.arange(24), groups, 60, 3)
        assert list(mask) == [True] * 8 + [False] * 52
        orders.add(tuple(sets[mask, 0] // 3))
        assert list(sets[mask, 0]) != sorted(sets[mask, 0])
    assert len(orders) == 20


@pytest.mark.parametrize("num_sets", [6, 8, 100])
def test_each_set_is_given_once_where_fewer_than_m_exist(num_sets):
    groups = np.array([0] * 4 + [1] * 3 + [2] * 2)  # 4 + 1 + 0 sets of three
    for seed in range(10):
        sets, mask = sample(np.random.default_rng(seed), np.arange(9), groups, num_sets, 3)
        assert list(mask) == [True] * 5 + [False] * (num_sets - 5)
        assert (sets[~mask] == -1).all()
        assert {tuple(row) for row in sets[mask]} == {
            (0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (4, 5, 6),
        }  # fmt: skip


def test_repeats_stay_where_m_sets_exist():
    """Dropping them would keep a random policy away from classes that are nearly used up."""
    groups = np.array([0] * 4 + [1] * 3)
    sets, mask = sample(np.random.default_rng(0), np.arange(7), groups, 5, 3)
    assert mask.all()
    assert len({tuple(row) for row in sets}) < 5


@pytest.mark.parametrize("sampler", sorted(SAMPLERS))
def test_equal_streams_give_equal_sets(sampler):
    first, second = (draw(SAMPLERS[sampler](inputs(sampler_rng=3)), seed=4) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    assert not np.array_equal(first[0], draw(SAMPLERS[sampler](inputs()), seed=5)[0])
