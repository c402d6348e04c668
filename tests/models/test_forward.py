"""What is asked of a model before it is used."""

import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import forward, traces
from tests.scoring import own_models
from tests.scoring.own_models import classifier


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    """Of such a network, by other tests."""
    monkeypatch.setattr(traces, "_kept", type(traces._kept)())


@pytest.mark.parametrize(
    "error", [tf.errors.ResourceExhaustedError(None, None, "OOM when allocating"), MemoryError()]
)
def test_a_lack_of_memory_is_called_so(monkeypatch, error):
    """It tells nothing about the model."""

    def fail(*arguments):
        raise error

    monkeypatch.setattr(forward, "in_batches", fail)
    with pytest.raises(type(error)) as raised:
        forward.check_repeatable(classifier(), own_models.make_images(2))
    assert raised.value is error


def test_a_model_that_refuses_images_is_named(monkeypatch):
    def fail(*arguments):
        raise tf.errors.InvalidArgumentError(None, None, "Incompatible shapes")

    monkeypatch.setattr(forward, "in_batches", fail)
    with pytest.raises(ValueError, match=r"model: .* got an error for 2 of them: Incompatible"):
        forward.check_repeatable(classifier(), np.zeros((2, *own_models.SHAPE)))


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((9, 28, 28, 1), 256),
        ((9, 96, 96, 3), 256),
        ((9, 1280), 256),
        ((9, 128, 128, 3), 128),
        ((9, 224, 224, 3), 32),
        ((9, 512, 512, 3), 8),
        ((9, 4000, 6000, 3), 1),
        ((9,), 256),
    ],
)
def test_fewer_large_images_go_through_a_network_at_once(shape, size):
    assert forward.batch_of(shape) == forward.batch_of(tuple(np.array(shape))) == size
    assert size == 1 or size * np.prod(shape[1:]) <= forward.MOST_NUMBERS


def test_batches_are_as_large_as_that_and_lose_no_image(monkeypatch):
    monkeypatch.setattr(forward, "MOST_NUMBERS", 48)
    images, seen = np.arange(7 * 12, dtype=np.float32).reshape(7, 12), []

    def sums(batch):
        seen.append(len(batch))
        return tf.reduce_sum(batch, axis=1)

    np.testing.assert_array_equal(forward.in_batches(sums, images), images.sum(axis=1))
    assert seen == [4, 3]
