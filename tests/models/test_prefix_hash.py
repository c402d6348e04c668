"""What tells frozen prefixes apart that have the same layers and weights."""

import keras
import numpy as np
import tensorflow as tf

from emoc_tf.models import layer_state, prefix, trained_part
from emoc_tf.models.trained_part import TrainedPart

layers = keras.layers


def two_outputs():
    """Two models on a frozen backbone, of one of its two outputs each."""
    inside = keras.Input((4,))
    first = layers.Dense(4, "tanh")(inside)
    backbone = keras.Model(inside, [first, layers.Dense(4, "tanh")(first)])
    backbone.trainable = False
    image = keras.Input((4,))
    return [keras.Model(image, layers.Dense(3)(each)) for each in backbone(image)]


def test_another_output_of_the_frozen_layers_is_not_the_one_that_is_kept():
    images = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    first, second = two_outputs()
    part = TrainedPart(first, images)
    before = part.inputs
    part.replace_model(second)
    np.testing.assert_allclose(part.model(part.inputs), second(images), rtol=1e-5, atol=1e-6)
    part.replace_model(first)
    np.testing.assert_array_equal(part.inputs, before)


def frozen_with(what):
    """A model whose frozen beginning ends in `what`, a function of a tensor with 8 numbers."""
    image = keras.Input((4,))
    x = layers.Dense(8, "tanh", kernel_initializer="ones", trainable=False)(image)
    return keras.Model(image, layers.Dense(3)(layers.Dense(4)(what(x))))


def nested(turned):
    def call(x):
        inside = keras.Input((8,))
        outputs = keras.ops.split(inside, 2, axis=-1)
        return keras.Model(inside, outputs[::-1] if turned else outputs)(x)[0]

    return call


ENDS = {
    "first part": lambda x: keras.ops.split(x, 2, axis=-1)[0],
    "second part": lambda x: keras.ops.split(x, 2, axis=-1)[1],
    "first half": lambda x: x[:, :4],
    "second half": lambda x: x[:, 4:],
    "ones": lambda x: x + np.ones(8, np.float32),
    "twos": lambda x: x + np.full(8, 2, np.float32),
    "a tensor": lambda x: x + tf.fill((8,), 3.0),
    "nested": nested(False),
    "nested, turned": nested(True),
}


def test_the_hash_tells_apart_what_comes_of_the_same_layers():
    splits = {name: prefix.split(frozen_with(end)) for name, end in ENDS.items()}
    hashes = {name: trained_part._digest(found) for name, found in splits.items()}
    assert len(set(hashes.values())) == len(ENDS)
    for name, end in ENDS.items():
        assert trained_part._digest(prefix.split(frozen_with(end))) == hashes[name]


class Shift(layers.Layer):
    def __init__(self, by):
        super().__init__()
        self.by = np.full(8, by, np.float32)

    def call(self, inputs):
        return inputs + self.by


def test_a_layer_of_a_script_is_the_same_in_processes_that_it_starts():
    hashes = []
    for module in ("__main__", "__mp_main__", "another"):

        class Own(layers.Layer):
            def call(self, x):
                return 2 * x

        Own.__module__ = module
        found = prefix.split(frozen_with(Own()))
        hashes.append(trained_part._digest(found))
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_hash_tells_large_arrays_apart(monkeypatch):
    monkeypatch.setattr(layer_state, "ARRAY_BYTES", 4)
    hashes = [trained_part._digest(prefix.split(frozen_with(Shift(by)))) for by in (1, 2, 1)]
    assert hashes[0] == hashes[2] != hashes[1]
