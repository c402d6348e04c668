"""Images that are no array in memory are read a portion at a time, and give the same bits."""

import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.data import views
from emoc_tf.models import forward, reading, structure
from emoc_tf.models.episode_model import EpisodeModel, copy_own
from emoc_tf.models.learner import Learner
from tests.scoring import models

layers = keras.layers
SHAPE = (4, 3, 2)
SEED = np.array([3, 4], np.int32)
LABELS = np.arange(30) % 3


class Stored:
    """Images that can be read by arrays of integers only, as floats, and are counted."""

    def __init__(self, images):
        self._images, self.reads = images, []
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self):
        return len(self._images)

    def __getitem__(self, indices):
        assert isinstance(indices, np.ndarray)
        assert indices.dtype.kind == "i"
        self.reads.append(len(indices))
        return self._images[indices].astype(np.float32)

    def __array__(self, *args, **kwargs):
        raise AssertionError("read whole")


def mapped(images, tmp_path, dtype=np.float32):
    file = np.memmap(tmp_path / "images", dtype, "w+", shape=images.shape)
    file[:] = images
    return file


def model_of(outputs=3):
    image = keras.Input(SHAPE)
    x = layers.Dropout(0.2)(layers.Dense(5, activation="tanh")(layers.Flatten()(image)))
    model = models.randomised(keras.Model(image, layers.Dense(outputs)(x)))
    structure.seed_layers(model, np.random.default_rng(0))
    return model


def learnt(images):
    learner = Learner(
        model_of(), images, learning_rate=0.1, momentum=0.9, batch_size=4, old_fraction=0.6
    )
    learner.train(60, SEED, LABELS, np.arange(20), np.arange(20, 25))
    learner.train(3, SEED, LABELS, np.arange(0), np.array([29]))
    return learner.get_arrays()


IMAGES = models.images(30, SHAPE)


@pytest.mark.parametrize("portion", [2**25, 8 * 4 * 24, 1])
def test_the_bits_are_those_of_images_in_memory(monkeypatch, tmp_path, portion):
    """All used images at once, two mini-batches at once, or one that is larger than allowed."""
    monkeypatch.setattr(reading, "PORTION_BYTES", portion)
    expected = learnt(IMAGES)
    stored = Stored(IMAGES)
    for images in (stored, mapped(IMAGES, tmp_path)):
        found = learnt(images)
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            assert found[name].tobytes() == array.tobytes(), name
    assert max(stored.reads) * 4 * 24 <= max(portion, 4 * 4 * 24)
    if portion == 2**25:
        assert stored.reads == [25, 1]


def test_nothing_is_kept_after_training():
    learner = Learner(
        model_of(), Stored(IMAGES), learning_rate=0.1, momentum=0.9, batch_size=4, old_fraction=0.6
    )
    learner.train(3, SEED, LABELS, np.arange(20))
    assert learner._source.images.numpy().shape == (0, *SHAPE)


def test_what_lies_in_memory(tmp_path):
    file = mapped(IMAGES, tmp_path)
    assert views.in_memory(IMAGES)
    assert views.in_memory(IMAGES[3:])
    assert views.in_memory(file[np.arange(3)])
    for other in (file, file[2:], np.asarray(file), np.asarray(file)[1:], Stored(IMAGES)):
        assert not views.in_memory(other)


def test_images_of_another_shape_than_told_are_refused():
    stored = Stored(IMAGES)
    stored.shape = (30, 4, 3, 1)
    with pytest.raises(ValueError, match=r"images: expected .* of shape \(2, 4, 3, 1\) from index"):
        views.read(stored, np.arange(2))


def test_forward_passes_read_at_most_256_images():
    images = models.images(600, SHAPE)
    stored, function = Stored(images), forward.compile_features(model_of())
    for ours, right in zip(
        forward.in_batches(function, stored), forward.in_batches(function, images), strict=True
    ):
        assert ours.tobytes() == right.tobytes()
    assert stored.reads == [256, 256, 88]


class Kept(dict):
    def put(self, key, arrays):
        self[key] = arrays


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_episodes_are_the_same(tmp_path, dtype):
    """Pretrained weights are shared too. Models that take integers get them."""
    images = np.random.default_rng(0).integers(0, 256, (300, *SHAPE)).astype(np.float32)
    image = keras.Input(SHAPE, dtype=dtype)
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    own = copy_own(models.randomised(keras.Model(image, layers.Dense(3)(x))), Stored(images), 3)
    config = ExplorationConfig(known_classes=3, batch_size=4, learning_rate=0.01)
    labels, shared, kept = np.arange(300) % 3, Kept(), []
    for given in (images, Stored(images), mapped(images, tmp_path, np.uint8)):
        episode = EpisodeModel(config, own, given, root=3)
        episode.pretrain(given, labels, np.arange(280), shared)
        episode.update(1, labels, np.arange(280), np.arange(280, 290))
        kept.append([*episode.predict(given), *episode.get_arrays().values()])
    assert len(shared) == 1
    for others in zip(*kept, strict=True):
        assert len({array.tobytes() for array in others}) == 1


def test_fractions_are_found_wherever_they_are():
    image = keras.Input(SHAPE, dtype="uint8")
    own = keras.Model(image, layers.Dense(3)(layers.Flatten()(layers.Rescaling(1 / 255)(image))))
    images = np.ones((300, *SHAPE), np.float32)
    images[-1, 0, 0, 0] = 0.5
    config = ExplorationConfig(known_classes=3)
    with pytest.raises(ValueError, match=r"images: expected integers for this model, got 0\.5"):
        EpisodeModel(config, own, Stored(images), root=3)
