"""What is no model to score or train is refused in a sentence that tells the way on."""

import keras
import numpy as np
import pytest

from emoc_tf.models import checks, episode_model, structure
from emoc_tf.models.learner import Learner
from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import built_models, forward_mode, own_models

layers = keras.layers


def of_keras_2(module):
    """An object of the other library, which need not be installed."""
    return type("Sequential", (), {"__module__": module, "inputs": [None]})()


@pytest.mark.parametrize(
    "module", ["tf_keras.src.engine.sequential", "tensorflow.python.keras.engine.sequential"]
)
def test_models_of_keras_2_are_told_how_to_become_others(module):
    own_class = type("Mine", (type(of_keras_2(module)),), {})
    for model in (of_keras_2(module), own_class()):
        with pytest.raises(ValueError, match=r"one of Keras 2; save it by model\.save") as caught:
            EMOCScorer(model)
        assert "keras.models.load_model('model.h5')" in str(caught.value)


def conv_end(image):
    return layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(image))


def temperature_end(image):
    return layers.Dense(3)(layers.Flatten()(image)) / 2


def leaky_end(image):
    return layers.LeakyReLU()(layers.Dense(3)(layers.Flatten()(image)))


def attention_end(image):
    return layers.Dense(3)(layers.Reshape((64, 3))(image))


@pytest.mark.parametrize("end", [conv_end, temperature_end, leaky_end, attention_end])
def test_other_ends_are_told_what_is_missing(end):
    image = keras.Input(own_models.SHAPE)
    model = keras.Model(image, end(image))
    told = own_models.assert_refused(model, "expected one that ends in a linear Dense layer")
    assert "; end it with keras.layers.Dense(C)" in told


def within(*inner):
    """A classifier behind a nested model of some layers."""
    return own_models.classifier(keras.Sequential([keras.Input(own_models.SHAPE), *inner]))


@own_models.needs_keras_3_15
@pytest.mark.parametrize("nested", [False, True])
def test_a_lambda_is_scored_but_neither_copied_nor_rebuilt(nested):
    double = layers.Lambda(lambda x: 2 * x, name="double")
    model = within(double) if nested else own_models.classifier(double)
    images = own_models.make_images()
    expected = forward_mode.scores(model, images[:3], images[3:])
    found = own_models.scorer_of(model).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    message = "got 'double' of type Lambda, which cannot; put a keras.layers.Layer with get_config"
    with pytest.raises(ValueError, match=message):
        reference.scores(model, images, images)
    with pytest.raises(ValueError, match=message):
        episode_model.copy_own(model, images, 3)


class Untold(layers.Layer):
    """One whose configuration Keras cannot make up."""

    def __init__(self, table):
        super().__init__()
        self.table = table

    def call(self, inputs):
        return inputs * self.table


@pytest.mark.parametrize("nested", [False, True])
def test_a_layer_without_configuration_is_named(nested):
    untold = Untold(np.ones(3, np.float32))
    model = within(untold) if nested else own_models.classifier(untold)
    images = own_models.make_images()
    message = "made again from get_config, got 'untold.*' of type Untold"
    for refusing in (
        lambda: episode_model.copy_own(model, images, 3),
        lambda: reference.scores(model, images, images),
    ):
        with pytest.raises(ValueError, match=message):
            refusing()


COPIED = (
    "blocks", "frozen_block", "unfrozen_within_a_block", "variable_unfrozen_alone", "adapters",
    "shared_between_models", "shared_backbone", "subclassed_within", "more_within", "OnGraph",
    "spectral", "partly_unfrozen",
)  # fmt: skip


@pytest.mark.parametrize("name", COPIED)
def test_copies_compute_and_train_the_same_and_grow(name):
    model = built_models.make(name)
    images = built_models.make_images(model)
    own = episode_model.copy_own(model, images, 3)
    grown = structure.grow_head(own, 1, np.random.default_rng(0))
    checks.check_model(grown, grows=True)
    logits = model(images, training=False)
    np.testing.assert_allclose(own(images, training=False), logits, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grown(images, training=False)[:, :3], logits, rtol=1e-4, atol=1e-5)
    trained = [variable.shape[:-1] for variable in model.trainable_variables]
    for other in (own, grown):
        assert [variable.shape[:-1] for variable in other.trainable_variables] == trained
    assert len(own.weights) == len(model.weights)
    theirs = {id(variable) for variable in model.variables}
    assert not theirs & {id(variable) for variable in own.variables}


@pytest.mark.parametrize("both_ways", [False, True])
def test_states_that_outlast_a_batch_are_named(both_ways):
    signals = keras.Input(batch_shape=(2, 3, 2))
    layer = layers.GRU(2, stateful=True)
    x = (layers.Bidirectional(layer) if both_ways else layer)(signals)
    model = keras.Model(signals, layers.Dense(3)(x))
    told = own_models.assert_refused(model, "gru.* with stateful=True")
    assert told.endswith("make it with stateful=False")


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_only_float32_is_trained(policy):
    image = keras.Input((3,))
    model = keras.Model(image, layers.Dense(2, dtype=policy)(image))
    settings = {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 2, "old_fraction": 0.5}
    with pytest.raises(ValueError, match=f"layers in float32, got {policy} in .*in_float32"):
        Learner(model, np.zeros((4, 3), np.float32), **settings)
