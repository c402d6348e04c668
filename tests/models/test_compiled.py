"""What a model was compiled with is not used: that is said."""

import re
import warnings

import keras
import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration import Exploration

CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=2, initial_per_class=2, pool_per_class=3, set_size=2,
    num_candidate_sets=2, pretrain_iterations=0, update_iterations=1,
)  # fmt: skip
SGD, SPARSE = keras.optimizers.SGD, keras.losses.SparseCategoricalCrossentropy
CATEGORICAL = keras.losses.CategoricalCrossentropy


def make_model(*arguments, **keywords):
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    if arguments or keywords:
        model.compile(*arguments, **keywords)
    return model


def warned(model, **settings):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        exploration = Exploration(CONFIG.replace(**settings), model=model)
        exploration.reset(0)
        exploration.reset(1)
    return [str(w.message) for w in found if "compile" in str(w.message)]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (SGD(0.02, 0.9), SPARSE(from_logits=True)),
        (SGD(0.02, 0.9), CATEGORICAL(from_logits=True)),
        (SGD(0.02, 0.9), [SPARSE(from_logits=True, name="mine")]),
    ],
)
def test_nothing_is_said_where_it_is_what_is_done(arguments):
    assert warned(make_model(*arguments)) == []


@pytest.mark.parametrize(
    ("arguments", "weights", "named"),
    [
        (("adam", SPARSE(from_logits=True)), None, "optimizer Adam"),
        ((keras.optimizers.AdamW(1e-3), SPARSE(from_logits=True)), None, "optimizer AdamW"),
        ((SGD(0.02, 0.9, nesterov=True), SPARSE(from_logits=True)), None, "optimizer SGD"),
        ((SGD(0.5, 0.9), SPARSE(from_logits=True)), None, "optimizer SGD"),
        ((SGD(0.02, 0.9, clipnorm=1.0), SPARSE(from_logits=True)), None, "optimizer SGD"),
        ((SGD(0.02, 0.9), "mse"), None, "loss mse"),
        ((SGD(0.02, 0.9), "sparse_categorical_crossentropy"), None, "loss sparse_cat"),
        ((SGD(0.02, 0.9), CATEGORICAL(True, 0.1)), None, "loss categorical_crossentropy"),
        ((SGD(0.02, 0.9), SPARSE(True, ignore_class=0)), None, "loss sparse_categorical"),
        ((SGD(0.02, 0.9), keras.losses.CategoricalFocalCrossentropy()), None, "loss categorical_f"),
        ((SGD(0.02, 0.9), lambda y, logits: logits), None, "loss <lambda>"),
        ((SGD(0.02, 0.9), SPARSE(from_logits=True)), [2.0], r"loss_weights \[2.0\]"),
    ],
)
def test_another_optimizer_or_loss_is_named_once(arguments, weights, named):
    with pytest.warns(UserWarning, match=f"model: .*{named}"):
        Exploration(CONFIG, model=make_model(*arguments, loss_weights=weights))
    (said,) = warned(make_model(*arguments, loss_weights=weights))
    for part in ("SGD", "learning_rate=0.02", "momentum=0.9", "cross-entropy"):
        assert part in said


ADAM, ADAMW = keras.optimizers.Adam, keras.optimizers.AdamW
OURS = {
    "adam": {"optimizer": "adam", "learning_rate": 0.001},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.001, "weight_decay": 0.004},
}


@pytest.mark.parametrize(
    ("settings", "optimizer"),
    [
        (OURS["adam"], "adam"),
        (OURS["adam"], ADAM(0.001, name="mine")),
        (OURS["adamw"], "adamw"),
        (OURS["adamw"] | {"learning_rate": 0.3}, ADAMW(0.3, weight_decay=0.004)),
        (OURS["adam"] | {"momentum": 0.1, "weight_decay": 0.1}, ADAM()),
    ],
)
def test_nothing_is_said_of_the_same_optimizer(settings, optimizer):
    assert warned(make_model(optimizer, SPARSE(from_logits=True)), **settings) == []


@pytest.mark.parametrize(
    ("settings", "optimizer", "used"),
    [
        (OURS["adam"], ADAM(0.01), r"Adam \(learning_rate=0.001, of"),
        (OURS["adam"], ADAM(beta_1=0.8), r"Adam \(learning_rate=0.001, of"),
        (OURS["adam"], ADAM(weight_decay=0.1), r"Adam \(learning_rate=0.001, of"),
        (OURS["adam"], SGD(0.001), r"Adam \(learning_rate=0.001, of"),
        (OURS["adamw"], ADAMW(weight_decay=0.1), r"AdamW \(learning_rate=0.001, weight_decay=0.00"),
        (OURS["adamw"], ADAM(0.001), r"AdamW \(learning_rate=0.001, weight_decay=0.004, of"),
        ({}, ADAM(0.001), r"SGD \(learning_rate=0.02, momentum=0.9, of"),
    ],
)
def test_another_optimizer_is_told_with_the_way_to_it(settings, optimizer, used):
    (said,) = warned(make_model(optimizer, SPARSE(from_logits=True)), **settings)
    assert re.search(f"{type(optimizer).__name__}, which is not used: .*with {used}", said)
    assert "optimizer= and learning_rate= choose another" in said
    assert "FitLearner.maker(model.optimizer, loss=...) trains by the model's own" in said
    assert "\n" not in said


def test_of_the_same_optimizer_nothing_is_said_where_the_loss_is_another():
    (said,) = warned(make_model("adam", "mse"), **OURS["adam"])
    assert "compiled with loss mse, which" in said
    assert "optimizer=" not in said


def test_the_environment_says_it_too_and_a_schedule_is_no_number():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.02, 10, 0.5)
    model = make_model(SGD(schedule, 0.9), SPARSE(from_logits=True))
    with pytest.warns(UserWarning, match="optimizer SGD"):
        ActiveExplorationEnv(CONFIG, model=model)


class Doubled(keras.losses.Loss):
    def call(self, y, logits):
        return 2 * keras.losses.sparse_categorical_crossentropy(y, logits, from_logits=True)


@pytest.mark.parametrize("loss", [Doubled(), lambda y, logits: logits], ids=["class", "lambda"])
def test_losses_that_keras_cannot_read_back_are_no_obstacle(loss):
    model = make_model("adam", loss)
    with pytest.warns(UserWarning, match="model: it was compiled with optimizer Adam and loss"):
        exploration = Exploration(CONFIG, model=model)
    exploration.reset(0)
    assert exploration.advance(0).step == 1
    assert model.compiled
    assert not exploration.state.model.compiled
