"""Models on their way to actors: what comes out is what went in, or is refused."""

import pickle
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.scoring import ray_models
from emoc_tf.scoring.ray_models import pack, sent_graph, unpack
from tests.scoring import built_models, models
from tests.scoring.own_models import scorer_of

layers = keras.layers


class Times(layers.Layer):
    """What its configuration does not tell is a fault of its own."""

    factor = 1.0

    def call(self, inputs):
        return keras.ops.tanh(self.factor * inputs)


def twice(inputs):
    return keras.ops.tanh(2 * inputs)


class Squares(keras.regularizers.Regularizer):
    def __call__(self, weights):
        return 0.3 * keras.ops.sum(weights**2)

    def get_config(self):
        return {}


def own(*more):
    image = x = keras.Input((4,))
    for layer in more:
        x = layer(x)
    x = layers.Dense(5, activation=twice, kernel_regularizer=Squares())(x)
    return models.randomised(keras.Model(image, layers.Dense(3)(x)))


def compiled():
    model = own(Times())
    model.compile("adam", lambda wanted, found: keras.ops.mean(found))
    return model


def penalised_by_hand():
    model = own()
    model.layers[1].kernel.regularizer = None
    model.layers[2].kernel.regularizer = keras.regularizers.L2(0.9)
    return model


MODELS = {
    "own": lambda: own(Times(), layers.Lambda(twice)),
    "compiled": compiled,
    "penalised by hand": penalised_by_hand,
    **{
        name: lambda name=name: built_models.make(name)
        for name in (
            "adapters_alone", "variable_unfrozen_alone", "unfrozen_within_a_block", "OnGraph",
            "functional_in_sequential",
        )
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def ray(monkeypatch):
    cloudpickle = pytest.importorskip("cloudpickle")
    monkeypatch.setattr(ray_models, "ray", lambda: SimpleNamespace(cloudpickle=cloudpickle))


def received(model):
    """A model as it comes out elsewhere; its weights are sent beside it."""
    graph = sent_graph(model)
    there = unpack(pickle.loads(pickle.dumps(pack(graph))))
    there.set_weights(graph.get_weights())
    return there


@pytest.mark.parametrize("name", MODELS)
def test_what_is_received_has_the_scores_of_what_was_sent(name):
    model = MODELS[name]()
    images = built_models.make_images(model, 9)
    wanted = scorer_of(model).scores(images[:4], images[4:])
    there = received(model)
    assert scorer_of(there).scores(images[:4], images[4:]).tobytes() == wanted.tobytes()
    trained = [variable.trainable for variable in sent_graph(model).weights]
    assert [variable.trainable for variable in there.weights] == trained


def test_what_a_configuration_does_not_tell_is_refused():
    model = own(Times())
    model.layers[1].factor = 3.0
    told = "^model: expected layers that get_config and their weights tell whole, .* other outputs"
    with pytest.raises(ValueError, match=told):
        received(model)


class Root(layers.Layer):
    offset = 0.0

    def call(self, inputs):
        return keras.ops.sqrt(self.offset - keras.ops.abs(inputs))


def test_what_is_no_number_there_is_refused():
    model = own(Root())
    model.layers[1].offset = 9.0
    with pytest.raises(ValueError, match="got other outputs from the model that was made there"):
        received(model)


def test_a_gpu_compares_in_the_precision_of_a_processor(monkeypatch):
    used, plain = [], ray_models.functional

    def noting(model):
        used.append(tf.config.experimental.tensor_float_32_execution_enabled())
        return plain(model)

    monkeypatch.setattr(ray_models, "functional", noting)
    before = tf.config.experimental.tensor_float_32_execution_enabled()
    received(own())
    assert used == [False, False]
    assert tf.config.experimental.tensor_float_32_execution_enabled() == before


def test_a_layer_that_is_copied_where_it_was_shared_is_refused():
    told = r"^model: expected .* got ValueError: .* could not be loaded.* Layer 'dense"
    with pytest.raises(ValueError, match=told) as raised:
        received(built_models.make("shared_between_models"))
    assert len(str(raised.value)) < 500


def test_what_no_machine_finds_is_told(monkeypatch):
    packed = pack(own(Times()))
    monkeypatch.delitem(packed.own, "Times")
    told = "^model: expected one .* layers of your own in a module .* not locate class 'Times'"
    with pytest.raises(ValueError, match=told):
        unpack(packed)


def test_what_cannot_be_saved_is_told():
    class Bare(layers.Layer):
        def __init__(self, width):
            super().__init__()

        def call(self, inputs):
            return inputs

        def get_config(self):
            raise NotImplementedError("no configuration")

    told = "^model: expected one that Keras can save, .* got .*: no configuration$"
    with pytest.raises(ValueError, match=told):
        pack(own(Bare(3)))


def test_numbers_are_those_of_the_moment():
    model = own(Times())
    packed = pack(sent_graph(model))
    models.randomised(model, seed=7)  # what is sent once is not sent again
    there = unpack(packed)
    there.set_weights(model.get_weights())
    images = built_models.make_images(model, 5)
    assert np.array_equal(there(images), model(images))
