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
