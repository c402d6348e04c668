"""What goes wrong in practice: uneven pools, copies, wrong answers, images that nobody can name."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData
from emoc_tf.exploration import Exploration
from emoc_tf.exploration.answers import REJECT

CLASSES = 5


def made(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(count, 8, 8, 1)).astype(np.uint8)
    return ImageData(images, np.arange(count) % CLASSES, list("abcde"))


DATA = made(1200, 0), made(10, 1)
CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=3, initial_per_class=10, pool_per_class=200,
    num_candidate_sets=4, set_size=40, sampler="uniform", pretrain_iterations=1,
    update_iterations=1,
)  # fmt: skip


def explored(root=3, steps=0, **settings):
    one = Exploration(CONFIG.replace(**settings), data=DATA)
    one.reset(root)
    for _ in range(steps):
        one.advance(0)
    return one


def waiting_counts(one):
    waits = one.episode.task.labels == -1
    return np.bincount(one.episode.true_labels[waits], minlength=CLASSES)


def answers(one):
    return {i: c for entry in one.journal for i, c in zip(entry.indices, entry.labels, strict=True)}


def test_without_trouble_nothing_is_drawn_otherwise():
    one = explored(steps=3)
    other = explored(steps=3, imbalance=1.0, duplicates=0.0, wrong_answers=0.0, rejected=0.0)
    np.testing.assert_array_equal(one.episode.source_indices, other.episode.source_indices)
    assert all(one.episode.true_labels[i] == c for i, c in answers(one).items())
    assert len(answers(one)) == 120


def test_a_pool_has_a_long_tail():
    one = explored(imbalance=100.0)
    assert sorted(waiting_counts(one)) == [2, 6, 20, 63, 200]
    orders = {
        tuple(np.argsort(waiting_counts(explored(root, imbalance=100.0)))) for root in range(4)
    }
    assert len(orders) > 1  # which classes are rare is drawn
    assert one.episode.num_initial == 20
    assert min(waiting_counts(explored(imbalance=1e6))) == 1


@pytest.mark.parametrize("sampler", ["uniform", "cluster", "minibatch-cluster"])
def test_a_pool_without_a_single_set_is_refused(sampler):
    few = {"pool_per_class": 60, "imbalance": 1e6, "sampler": sampler}
    one = explored(**few)
    left = int(waiting_counts(one).sum())
    assert 60 < left < 70
    explored(**few, set_size=left - 3, audit=3)
    message = rf"set_size: expected at most {left - 3}, the images .* with imbalance=1e\+06"
    with pytest.raises(ValueError, match=message):
        explored(**few, set_size=left - 2, audit=3)
    assert explored(**few | {"sampler": "top"}, set_size=left + 1).state.candidate_mask.any()


def test_a_pool_has_copies():
    one = explored(duplicates=0.3)
    assert waiting_counts(one).tolist() == [200] * CLASSES
    waits = one.episode.task.labels == -1
    chosen = one.episode.source_indices
    assert len(np.unique(chosen[waits])) == 0.7 * waits.sum()
    assert not np.isin(chosen[waits], chosen[~waits]).any()
    np.testing.assert_array_equal(one.episode.raw_images[:], DATA[0].images[chosen])


@pytest.mark.parametrize("sampler", ["uniform", "single_class", "minibatch-cluster"])
def test_answers_are_wrong(sampler):
    one = explored(steps=8, wrong_answers=0.2, sampler=sampler)
    told, truth = answers(one), one.episode.true_labels
    wrong = [i for i, c in told.items() if c != truth[i]]
    assert 0.12 < len(wrong) / len(told) < 0.28
    for class_id in range(CLASSES):  # each class is taken for each of the others
        named = {told[i] for i in wrong if truth[i] == class_id}
        assert class_id not in named and named <= set(range(CLASSES))
    assert len({(truth[i], told[i]) for i in wrong}) > CLASSES
    again = answers(explored(steps=8, wrong_answers=0.2, sampler=sampler))
    assert again == told


def test_some_images_nobody_can_name():
    one = explored(steps=8, rejected=0.2, set_size=20)
    told = answers(one)
    gone = [i for i, c in told.items() if c == REJECT]
    assert 0.1 < len(gone) / len(told) < 0.3
    assert (one.state.pool.labels[gone] == REJECT).all()
    assert not np.isin(one.state.candidates, gone).any()
    assert one.outcomes[-1].labelled == 20 + len(told) - len(gone)
    alone = explored(steps=30, rejected=0.9, set_size=1)  # whole sets are rejected
    assert alone.outcomes[-1].labelled < 50


def test_copies_of_an_image_get_one_answer():
    one = explored(steps=20, duplicates=0.9, wrong_answers=0.4, rejected=0.3)
    said: dict[int, set[int]] = {}
    for index, label in answers(one).items():
        said.setdefault(one.episode.source_indices[index], set()).add(label)
    assert len(said) < len(answers(one)) / 2
    assert {len(labels) for labels in said.values()} == {1}


def test_troubles_come_together_and_are_saved():
    trouble = {"imbalance": 4.0, "duplicates": 0.5, "wrong_answers": 0.5, "rejected": 0.25}
    one = explored(steps=3, **trouble)
    arrays, last = one.save(), one.outcomes[-1]
    other = Exploration(CONFIG.replace(**trouble), data=DATA)
    found = other.restore(arrays, last.chosen_set, last.queried_class)
    assert found.to_dict() == last.to_dict()
    assert one.advance(1).to_dict() == other.advance(1).to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"imbalance": 0.5}, "imbalance: expected a number of at least 1, got 0.5"),
        ({"duplicates": 1.0}, r"duplicates: expected a share in \[0, 1\), got 1.0"),
        ({"wrong_answers": -0.1}, r"wrong_answers: expected a share in \[0, 1\), got -0.1"),
        ({"rejected": 20}, r"rejected: expected a share in \[0, 1\), got 20"),
    ],
)
def test_shares_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        ExplorationConfig(**settings)
