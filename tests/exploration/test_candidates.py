import dataclasses

import numpy as np
import pytest
from sklearn.cluster import KMeans

from emoc_tf import ExplorationConfig, streams
from emoc_tf.exploration import Exploration, candidates, clusters
from emoc_tf.exploration.candidates import SamplerInputs, sample
from emoc_tf.registries import SAMPLERS

NAMES = ["cluster", "single_class", "uniform"]
TRUTH = np.arange(60) % 3


def inputs(seed=0, set_size=3, num_sets=50):
    waiting = np.arange(10, 50)
    rng = np.random.default_rng(5)
    features = np.zeros((60, 2))
    features[waiting, 0] = np.repeat(np.arange(4) * 10.0, 10) + 0.1 * rng.normal(size=40)
    generator = np.random.default_rng(seed)
    return SamplerInputs(waiting, None, features, None, set_size, num_sets, generator, seed)


def groups_of(name):
    """The group of each image that a sampler of the library's own keeps apart, by index."""
    groups = np.zeros(60, int)
    if name == "single_class":
        groups = TRUTH
    if name == "cluster":
        found = inputs()
        groups[found.waiting] = KMeans(6, n_init=1, random_state=0).fit_predict(
            found.features[found.waiting]
        )
    return groups


def draw(groups, num_sets=50, set_size=3, seed=0):
    return sample(np.random.default_rng(seed), np.arange(10, 50), groups, num_sets, set_size)


@pytest.mark.parametrize("name", NAMES)
def test_sets_are_distinct_waiting_images_of_one_group(name):
    sets, mask = candidates.named(name, TRUTH)(inputs())
    assert sets.shape == (50, 3)
    assert sets.dtype == np.int64
    assert mask.all()
    assert sets.min() >= 10
    assert sets.max() < 50
    groups = groups_of(name)
    for row in sets:
        assert len(set(row)) == 3
        assert len(set(groups[row])) == 1


def test_there_are_no_others():
    assert sorted(SAMPLERS) == sorted([*NAMES, "minibatch-cluster", "top"])


@pytest.mark.parametrize("name", NAMES)
def test_streams_of_a_step_are_keyed_by_purpose(name):
    """The sets of a seed are what they always were: other streams would be other runs."""
    config = ExplorationConfig(num_candidate_sets=20, set_size=3)
    found = inputs()
    sets, _ = candidates.draw(
        candidates.named(name, TRUTH), config, 7, 2, found.waiting, features=found.features
    )
    seed = int(streams.generator(7, 2, "groups").integers(2**31 - 1))
    groups = {
        "cluster": lambda: KMeans(6, n_init=1, random_state=seed).fit_predict(
            found.features[found.waiting]
        ),
        "single_class": lambda: TRUTH[found.waiting],
        "uniform": lambda: np.zeros(40),
    }[name]()
    expected, _ = sample(streams.generator(7, 2, "candidates"), found.waiting, groups, 20, 3)
    np.testing.assert_array_equal(sets, expected)


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


@pytest.mark.parametrize("name", NAMES)
def test_equal_streams_give_equal_sets(name):
    first, second, other = (
        candidates.named(name, TRUTH)(inputs(seed=seed))[0] for seed in (4, 4, 5)
    )
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)


def returning(found, num_sets=4, set_size=3):
    """What comes of a sampler that returns something, where images 2 to 9 wait."""
    config = ExplorationConfig(num_candidate_sets=num_sets, set_size=set_size)
    return candidates.draw(lambda inputs: found, config, 0, 0, np.arange(2, 10))


@pytest.mark.parametrize(
    "found",
    [
        (np.array([[4, 2, -1], [5, 6, 7]]), np.array([True, True])),
        ([[4, 2], [5, 6, 7]], [True, True]),
        ((np.array([4, 2], np.uint8), (5, 6, 7)), np.ones(2, np.int8)),
        [[[-1, 4, 2], [5, 6, 7], [99, 99, 99], []], [True, True, False, 0]],
    ],
)
def test_what_a_sampler_plainly_means_is_taken(found):
    sets, mask = returning(found)
    assert sets.dtype == np.int64
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, [True, True, False, False])
    np.testing.assert_array_equal(sets, [[4, 2, -1], [5, 6, 7], [-1, -1, -1], [-1, -1, -1]])


def test_a_sampler_may_find_no_set():
    for found in (([], []), (np.empty((0, 3), int), np.empty(0, bool)), ([[2]], [False])):
        sets, mask = returning(found)
        assert not mask.any()
        assert (sets == -1).all()


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, r"expected it to return \(sets, mask\), got None"),
        (np.zeros((4, 3), int), r"expected it to return \(sets, mask\)"),
        ((None, None), r"expected it to return \(sets, mask\), got sets None"),
        (([[2, 3]], [True, False]), "expected a mask of 1 booleans, one a set"),
        (([[2, 3]], True), "expected a mask of 1 booleans"),
        (([[2, 3]], [0.5]), "expected a mask of 1 booleans"),
        (([[2]] * 5, [True] * 5), r"expected at most 4 sets \(num_candidate_sets\), got 5"),
        (([[2, 3, 4, 5]], [True]), r"1 to 3 different images \(set_size\), got \[2, 3, 4, 5\]"),
        (([[2, 2]], [True]), r"different images \(set_size\), got \[2, 2\] as set 0"),
        (([[2], [-1, -1]], [True, True]), r"got \[\] as set 1; mask the sets"),
        (([[2.0, 3.0]], [True]), r"expected sets of pool indices, got float64 of shape \(2,\)"),
        (([[[2]]], [True]), r"expected sets of pool indices, got int64 of shape \(1, 1\)"),
        (([2, 3], [True, True]), r"expected sets of pool indices, got int64 of shape \(\)"),
        (([[2, 1]], [True]), r"expected images that wait \(inputs.waiting\), got \[1\]"),
        (([[2, 10]], [True]), r"expected images that wait \(inputs.waiting\), got \[10\]"),
        (([[2, -2]], [True]), r"expected images that wait \(inputs.waiting\), got \[-2\]"),
    ],
)
def test_other_sets_are_refused_in_one_sentence(found, message):
    with pytest.raises(ValueError, match=f"^sampler: .*{message}"):
        returning(found)


def test_where_nothing_waits_no_sampler_is_asked():
    config = ExplorationConfig(num_candidate_sets=4, set_size=3)
    sets, mask = candidates.draw(None, config, 0, 0, np.empty(0, np.int64))
    assert sets.shape == (4, 3)
    assert not mask.any()


def test_a_sampler_can_change_nothing():
    names = {field.name for field in dataclasses.fields(SamplerInputs)}
    assert not {name for name in names if "true" in name or "test" in name}

    def greedy(inputs):
        with pytest.raises(ValueError, match="read-only"):
            inputs.waiting[0] = 5
        return [[2]], [True]

    candidates.draw(greedy, ExplorationConfig(), 0, 0, np.arange(2, 10))


def test_many_images_are_clustered_from_mini_batches(monkeypatch):
    """The same kind of sets, and equal ones for equal seeds."""
    config = ExplorationConfig(
        known_classes=2, novel_classes=1, sampler="cluster", num_candidate_sets=6, set_size=3,
        initial_per_class=4, pool_per_class=20, pretrain_iterations=2, update_iterations=2,
    )  # fmt: skip
    monkeypatch.setattr(clusters, "MANY", 10)
    first, second = Exploration(config), Exploration(config)
    for exploration in (first, second):
        exploration.reset(3)
    np.testing.assert_array_equal(first.state.candidates, second.state.candidates)
    assert first.state.candidate_mask.any()
    real = first.state.candidates[first.state.candidate_mask]
    assert all(len(set(row)) == 3 for row in real.tolist())


@pytest.mark.parametrize("sampler", ["single_class", "uniform", "cluster"])
@pytest.mark.parametrize("waiting", [40, 41, 120])
def test_single_images_are_each_given_once_if_there_is_room(sampler, waiting):
    config = ExplorationConfig(num_candidate_sets=waiting, set_size=1, pool_per_class=None)
    labels = np.arange(waiting) % 7
    features = np.random.default_rng(0).normal(size=(waiting, 3)).astype(np.float32)
    sets, mask = candidates.draw(
        candidates.named(sampler, labels), config, 3, 1, np.arange(waiting), features=features
    )
    assert mask.all()
    np.testing.assert_array_equal(np.sort(sets[:, 0]), np.arange(waiting))
