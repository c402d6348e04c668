"""What an episode asks of a learner of your own, and does with it."""

import numpy as np
import pytest

from emoc_tf.config import ExplorationConfig
from emoc_tf.models import own_learner
from emoc_tf.models.episode_model import EpisodeModel
from tests.scoring import own_models
from tests.scoring.own_models import classifier

IMAGES = own_models.make_images(12)
LABELS = np.arange(12) % 3
CONFIG = ExplorationConfig(known_classes=3, batch_size=4, learning_rate=0.01)


class Adding:
    """Adds to the head's bias what it has kept; it knows nothing beyond the contract."""

    def __init__(self, model, images):
        self.own, self.images, self.kept, self.calls = model, images, 1.0, []

    def train(self, iterations, seed, labels, old, novel):
        self.calls.append((iterations, seed, labels, old, novel))
        self.own.weights[-1].assign_add(np.full(self.own.output_shape[-1], self.kept))
        self.kept += 1

    def replace_model(self, model):
        self.own = model

    def get_arrays(self):
        return {"labels": np.array(self.kept)}  # a name that an exploration uses too

    def set_arrays(self, arrays):
        self.kept = float(arrays["labels"])


def episode(make=Adding, num_outputs=None, images=IMAGES):
    return EpisodeModel(CONFIG, classifier(), images, 3, num_outputs, make_learner=make)


def bias(one):
    return one.model.weights[-1].numpy()


def test_an_episode_needs_four_methods_alone():
    one = episode()
    start = bias(one)
    one.pretrain(IMAGES, LABELS, np.arange(6), None)
    one.update(1, LABELS, np.arange(6), np.arange(6, 9))
    np.testing.assert_allclose(bias(one), start + 3, rtol=1e-6)
    one.change_outputs(2, [0, 1, 2], 1, "new units")
    one.update(2, LABELS, np.arange(9), None)
    np.testing.assert_allclose(bias(one), [*(start + 6), 3], rtol=1e-6)
    one.change_outputs(3, [3], 0, "new units")
    assert one.model.output_shape == (None, 1)
    assert one.predict(IMAGES)[1].shape == (12, 1)
    one.check_finite(2, *one.predict(IMAGES))


def test_what_it_is_given():
    one = episode()
    one.pretrain(IMAGES, LABELS, np.arange(6), None)
    one.update(4, LABELS, np.arange(6), np.arange(6, 9))
    one.update(5, LABELS, np.arange(6), np.arange(0))
    one.update(6, LABELS, np.arange(0), np.arange(3))
    made = one._learner._made
    assert [call[0] for call in made.calls] == [300, 100, 100, 100]
    assert [call[4] is None for call in made.calls] == [True, False, True, False]
    assert len({tuple(call[1]) for call in made.calls}) == 4
    for array in (made.images, *made.calls[1][2:]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    assert IMAGES.flags.writeable
    one.update(7, LABELS, np.arange(0), None)  # no image at all: nothing to learn
    assert len(made.calls) == 4


def test_it_resumes_with_weights_that_it_does_not_keep_itself():
    one = episode()
    one.update(1, LABELS, np.arange(6), None)
    one.change_outputs(2, [0, 1, 2], 1, "new units")
    one.update(2, LABELS, np.arange(6), None)
    arrays = one.get_arrays()
    assert "labels" not in arrays
    other = episode(num_outputs=4)
    other.set_arrays(arrays)
    for each in (one, other):
        each.update(3, LABELS, np.arange(6), None)
    for ours, theirs in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    for name in ("variable_0", "learner_labels"):
        lacking = {key: array for key, array in arrays.items() if key != name}
        with pytest.raises(ValueError, match="expected"):
            other.set_arrays(lacking)


class Shared:
    def get(self, key):
        raise AssertionError

    put = get


def test_its_pretrained_weights_are_not_shared():
    """Two learners would share one folder, and nothing tells them apart."""
    one = episode()
    one.pretrain(IMAGES, LABELS, np.arange(6), Shared())
    assert len(one._learner._made.calls) == 1


class Diverging(Adding):
    def train(self, *args):
        self.own.weights[0].assign(np.full(self.own.weights[0].shape, np.nan))


def test_weights_that_are_not_finite_are_reported():
    with pytest.raises(FloatingPointError, match=r"update step 5: training diverged: .*conv2d"):
        episode(Diverging).update(5, LABELS, np.arange(6), None)
    with pytest.raises(FloatingPointError, match=r"^update step 3: training diverged: outputs th"):
        episode().check_finite(3, np.array([np.nan]))


def lacking(*names):
    return type("Lacking", (Adding,), dict.fromkeys(names))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lacking("train"), "got Lacking without train"),
        (lacking("get_arrays", "set_arrays"), "got Lacking without get_arrays, set_arrays"),
        (lambda model, images: None, "got NoneType without train, replace_model, get_arrays"),
        (lambda model, images: model, "got Functional without train, replace_model, get"),
        ("adam", r"learner: expected a function of \(model, images\).*got 'adam'"),
        (
            type("Other", (Adding,), {"train": lambda self, images, labels: None}),
            r"expected train\(iterations, seed, labels, old, novel\), got Other.train\(images, la",
        ),
    ],
)
def test_what_is_no_learner_gets_one_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        episode(make)


@pytest.mark.parametrize("returned", [None, [1], {1: 2}, {"a": object()}, {"a": [None]}])
def test_what_are_no_arrays_gets_one_sentence(returned):
    make = type("Other", (Adding,), {"get_arrays": lambda self: returned})
    with pytest.raises(ValueError, match=r"learner: expected .* from get_arrays, got"):
        episode(make).get_arrays()


def test_makers_are_checked_before_long_work():
    own_learner.check_maker(None)
    own_learner.check_maker(Adding)
    with pytest.raises(ValueError, match="learner: expected a function"):
        own_learner.check_maker(3)


class Counting(Adding):
    """Keeps how often each image was trained on, and moves that with the images."""

    def __init__(self, model, images):
        super().__init__(model, images)
        self.counts = np.zeros(len(images), np.int64)

    def train(self, iterations, seed, labels, old, novel):
        super().train(iterations, seed, labels, old, novel)
        self.counts[old] += 1

    def get_arrays(self):
        return {"counts": self.counts, "kept": np.array(self.kept)}

    def set_arrays(self, arrays):
        self.counts, self.kept = arrays["counts"], float(arrays["kept"])

    def moved(self, arrays, place, count):
        counts = np.zeros(count, np.int64)
        counts[list(place.values())] = arrays["counts"][list(place)]
        return {**arrays, "counts": counts}


def test_what_a_learner_keeps_of_images_moves_with_them_if_it_can():
    one = episode(Counting)
    one.pretrain(IMAGES, LABELS, np.arange(6), None)
    place = {0: 3, 5: 1, 7: 0}
    arrays = {**one.get_arrays(), "labels": LABELS}  # with what an exploration keeps beside them
    moved = one.moved(arrays, place, 4)
    assert moved.keys() == arrays.keys()
    assert moved["learner_counts"].tolist() == [0, 1, 0, 1]
    assert moved["labels"] is LABELS
    assert arrays["learner_counts"].tolist() == [1] * 6 + [0] * 6
    for make in (Adding, None):  # nothing of theirs goes by image
        other = episode(make)
        arrays = other.get_arrays()
        same = other.moved(arrays, place, 4)
        assert same.keys() == arrays.keys()
        assert all(same[name] is arrays[name] for name in arrays)


def test_a_learner_that_moves_arrays_into_something_else_gets_one_sentence():
    class Broken(Counting):
        def moved(self, arrays, place, count):
            return None

    with pytest.raises(ValueError, match=r"learner: expected a dictionary .* from moved, got None"):
        one = episode(Broken)
        one.moved(one.get_arrays(), {}, 3)
