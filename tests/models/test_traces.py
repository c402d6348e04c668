import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import forward, networks, structure, traces
from emoc_tf.models.learner import Learner
from tests.scoring import own_models

layers = keras.layers
SEED = np.array([5, 6], np.int32)
RNG = np.random.default_rng


class Halved(layers.Dense):
    def call(self, inputs):
        return super().call(inputs) / 2


class OwnPenalty(keras.regularizers.L2):
    def __call__(self, x):
        return 2 * super().__call__(x)


def swish_of_mine(x):
    return x * keras.ops.sigmoid(x)


def by_hand(model, **attributes):
    for name, value in attributes.items():
        setattr(model.layers[1], name, value)
    return model


def penalised(model, penalty):
    for variable in model.trainable_variables:
        variable.regularizer = penalty
    return model


def model_of(*middle, units=3, l2=0.1, **dense):
    """Returns a model whose layers have other names at each call."""
    settings = {"kernel_regularizer": keras.regularizers.L2(l2), **dense}
    stack = [layers.Dense(4, **settings), *middle, layers.Dense(units)]
    image = keras.Input((2,))
    x = image
    for layer in stack:
        x = layer(x)
    return keras.Model(image, x)


def crossed(one, other):
    """Returns a model whose sum takes one of two layers and one of the two after them."""
    image = keras.Input((4,))
    first = [layers.Dense(4)(image) for _ in range(2)]
    second = [layers.Dense(4)(x) for x in first]
    return keras.Model(image, layers.Dense(3)(first[one] + second[other]))


def nested(shared):
    """Returns a model of models on layers of one name; those with one letter are one layer."""
    made = {letter: layers.Dense(2, name="inner") for letter in dict.fromkeys(shared)}
    x = image = keras.Input((2,))
    for letter in shared:
        inner = keras.Input((2,))
        x = keras.Model(inner, made[letter](inner))(x)
    return keras.Model(image, layers.Dense(3)(x))


def with_operand(of):
    """Returns a model that multiplies by what is made of a layer's kernel."""
    image, first = keras.Input((2,)), layers.Dense(2)
    return keras.Model(image, layers.Dense(3)(keras.ops.matmul(first(image), of(first.kernel))))


def test_models_that_differ_in_weights_alone_are_of_one_architecture():
    one, other = (networks.build("small_cnn", (8, 8, 1), 3, 0.1, RNG(seed)) for seed in range(2))
    assert traces.architecture(one) == traces.architecture(other) is not None
    assert traces.architecture(structure.copy(one)) == traces.architecture(one)
    grown = [structure.grow_head(model, 1, RNG(0)) for model in (one, other)]
    assert traces.architecture(grown[0]) == traces.architecture(grown[1])
    assert traces.architecture(grown[0]) != traces.architecture(one)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(units=4),
        lambda: model_of(l2=0.2),
        lambda: model_of(activation="relu"),
        lambda: model_of(use_bias=False),
        lambda: model_of(kernel_regularizer=None),
        lambda: model_of(layers.ReLU()),
        lambda: model_of(layers.ReLU(max_value=1.0)),
        lambda: crossed(0, 0),
        lambda: crossed(0, 1),
        lambda: keras.Sequential([keras.Input((2,)), model_of(), layers.Dense(3)]),
        lambda: model_of(dtype="mixed_bfloat16"),
        lambda: by_hand(model_of(), activation=keras.activations.tanh),
        lambda: by_hand(model_of(), kernel_regularizer=keras.regularizers.L2(0.3)),
        lambda: penalised(model_of(), keras.regularizers.L2(0.1)),
        lambda: by_hand(
            model_of(kernel_regularizer=None), kernel_regularizer=keras.regularizers.L2(0.1)
        ),
        lambda: model_of(autocast=False),
    ],
)
def test_what_changes_the_graph_changes_the_architecture(make):
    assert traces.architecture(make()) not in {None, traces.architecture(model_of())}
    assert traces.architecture(make()) == traces.architecture(make())


@pytest.mark.parametrize(
    "make",
    [
        lambda: model_of(layers.Dropout(0.5)),
        lambda: model_of(layers.BatchNormalization()),
        lambda: model_of(trainable=False),
        lambda: model_of(layers.Lambda(lambda x: x * 2)),
        lambda: model_of(Halved(4)),
        lambda: model_of(activation=swish_of_mine),
        lambda: model_of(activation=lambda x: x),
        lambda: model_of(kernel_regularizer=OwnPenalty(0.1)),
        lambda: by_hand(model_of(), activation=None),
        lambda: by_hand(model_of(), activation=swish_of_mine),
        lambda: by_hand(model_of(), kernel_regularizer=OwnPenalty(0.1)),
        lambda: by_hand(model_of(), kernel_constraint=lambda w: w),
        lambda: by_hand(model_of(), call=lambda x: x),
        lambda: keras.Sequential([keras.Input((2,)), with_operand(lambda kernel: kernel)]),
        lambda: with_operand(lambda kernel: kernel),
        lambda: with_operand(np.asarray),
        lambda: penalised(model_of(), OwnPenalty(0.1)),
        pytest.param(
            lambda: penalised(model_of(), lambda weights: keras.ops.sum(weights)),
            marks=own_models.needs_keras_3_15,
        ),
        lambda: model_of(layers.Normalization(mean=0.0, variance=1.0)),
        lambda: keras.Sequential([keras.Input((2,)), model_of(Halved(4))]),
    ],
)
def test_what_the_configuration_may_not_tell_is_not_shared(make):
    assert traces.architecture(make()) is None


def test_variables_of_several_devices_are_not_shared():
    with tf.distribute.MirroredStrategy(["/cpu:0"]).scope():
        assert traces.architecture(model_of()) is None
    assert traces.architecture(model_of()) is not None


def test_what_is_changed_by_hand_and_no_part_of_the_configuration_counts():
    models = [model_of(layers.ELU(alpha=0.3)) for _ in range(2)]
    models[1].layers[2].alpha = 0.7
    one, other = map(traces.architecture, models)
    assert None not in (one, other) and one != other


def test_which_layers_are_one_counts():
    told = [traces.architecture(nested(shared)) for shared in ("aab", "aba", "abb", "cdd")]
    assert None not in told and len(set(told)) == 3 and told[2] == told[3]


def trained(shared, monkeypatch, network, optimizer, seed):
    """Returns all arrays and outputs of a learner whose head grows in the middle."""
    with monkeypatch.context() as patch:
        if not shared:
            patch.setattr(traces, "architecture", lambda *_, **__: None)
        shape = (8, 8, 1)
        images = RNG(seed).integers(0, 255, (20, *shape)).astype(np.float32)
        model = networks.build(network, shape, 2, 5e-4, RNG(seed))
        settings = {"learning_rate": 1e-3, "momentum": 0.9, "batch_size": 4, "old_fraction": 0.9}
        learner = Learner(model, images, optimizer=optimizer, weight_decay=0.01, **settings)
        labels = np.arange(20) % 3
        learner.train(5, SEED, labels % 2, np.arange(10))
        learner.replace_model(structure.grow_head(model, 1, RNG(seed)))
        learner.train(60, SEED, labels, np.arange(10), np.arange(10, 20))
        outputs = forward.compile_features(learner.model)(images)
        return [*learner.get_arrays().values(), *(output.numpy() for output in outputs)]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("network", ["small_cnn", "cifar10_quick"])
def test_a_shared_function_gives_the_bits_of_ones_own(network, optimizer, monkeypatch):
    for seed in range(2):
        results = [trained(s, monkeypatch, network, optimizer, seed) for s in (True, False)]
        for ours, right in zip(*results, strict=True):
            np.testing.assert_array_equal(ours, right)


def test_a_function_is_traced_once_and_holds_no_model(monkeypatch):
    monkeypatch.setattr(traces, "_kept", type(traces._kept)())
    first = model_of()
    forward.compile_features(first)
    (traced,) = traces._kept.values()
    gone = weakref.ref(first)
    second = model_of()
    forward.compile_features(second)
    assert list(traces._kept.values()) == [traced]
    del first
    gc.collect()
    assert gone() is None
    images = RNG(0).random((3, 2), np.float32)
    np.testing.assert_array_equal(forward.compile_features(second)(images)[1], second(images))


def test_what_was_not_used_for_longest_is_traced_again(monkeypatch):
    monkeypatch.setattr(traces, "_kept", type(traces._kept)())
    made = []

    def trace(key):
        return traces.once(key, lambda: made.append(key) or made.copy)

    for key in (*range(traces.KEPT), 0, traces.KEPT, 0, 1):
        trace(key)
    assert made == [*range(traces.KEPT + 1), 1]
    assert len(traces._kept) == traces.KEPT
