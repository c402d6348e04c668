"""Adam and AdamW against Keras' own, and their slots as the head grows and shrinks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.models import structure
from emoc_tf.models.episode_model import EpisodeModel
from emoc_tf.models.learner import Learner, draw_mini_batches
from tests.scoring import models

layers = keras.layers
SEED = np.array([3, 4], np.int32)
SHAPE = (3, 2, 1)
IMAGES = models.images(12, SHAPE)
LABELS = np.arange(12) % 3
EVERY = np.arange(12)


def dense(classes=3):
    l2 = keras.regularizers.L2(0.05)
    image = keras.Input(SHAPE)
    x = layers.Dense(5, activation="tanh", kernel_regularizer=l2)(layers.Flatten()(image))
    return models.randomised(keras.Model(image, layers.Dense(classes)(x)))


def words():
    """The gradient of an embedding has rows only, some of them twice."""
    text = keras.Input((2, 1, 1))
    x = layers.Embedding(4, 3)(layers.Flatten()(text))
    return models.randomised(keras.Model(text, layers.Dense(3)(layers.Flatten()(x))))


def learner_of(model, images=IMAGES, optimizer="adam", **settings):
    settings = {"learning_rate": 0.01, "momentum": 0.9, "weight_decay": 0.3, **settings}
    return Learner(
        model, images, optimizer=optimizer, batch_size=4, old_fraction=0.9, **settings
    )  # fmt: skip


@pytest.mark.parametrize("build", [dense, words])
@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("adam", keras.optimizers.Adam(0.01)),
        ("adamw", keras.optimizers.AdamW(0.01, weight_decay=0.3)),
    ],
)
def test_every_step_is_that_of_keras(build, name, theirs):
    theirs = theirs.from_config(theirs.get_config())
    images = IMAGES if build is dense else np.random.default_rng(0).integers(0, 4, (12, 2, 1, 1))
    images = images.astype(np.float32)
    ours, model = learner_of(build(), images, name), build()
    theirs.build(model.trainable_variables)
    for step in range(6):
        seed = SEED + np.int32(step)
        (batch,) = draw_mini_batches(seed, [1, 4], EVERY, EVERY, 1.0).numpy()
        with tf.GradientTape() as tape:
            logits = model(images[batch], training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(LABELS[batch], logits)
            loss = tf.add_n([tf.reduce_mean(losses), *model.losses])
        gradients = tape.gradient(loss, model.trainable_variables)
        # Summed: Keras squares the gradients of a row that comes twice apart.
        theirs.apply([tf.convert_to_tensor(g) for g in gradients], model.trainable_variables)
        ours.train(1, seed, LABELS, EVERY)
        for mine, right in zip(ours.model.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_allclose(mine, right, rtol=1e-4, atol=2e-6)


def test_decay_is_decoupled_and_leaves_nothing_out():
    """One class has no gradient: θ ← (1 − η·d)·θ is all that is left, of biases too."""
    image = keras.Input(SHAPE)
    x = layers.Dense(4)(layers.Flatten()(image))
    model = models.randomised(keras.Model(image, layers.Dense(1)(x)))
    before = model.get_weights()
    learner_of(model, optimizer="adamw").train(7, SEED, np.zeros(12, int), EVERY)
    for ours, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_allclose(ours, old * (1 - 0.01 * 0.3) ** 7, rtol=1e-5)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_momentum_does_not_count(name):
    weights = []
    for momentum in (0.0, 0.9):
        learner = learner_of(dense(), optimizer=name, momentum=momentum)
        learner.train(5, SEED, LABELS, EVERY)
        weights.append(np.concatenate([w.ravel() for w in learner.model.get_weights()]))
    np.testing.assert_array_equal(*weights)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_slots_grow_with_the_head_and_start_at_0_where_it_shrank(name):
    learner = learner_of(dense(), optimizer=name)
    learner.train(5, SEED, LABELS, EVERY)
    before = slots_of(learner)
    learner.replace_model(structure.grow_head(learner.model, 2, np.random.default_rng(0)))
    grown = slots_of(learner)
    assert grown.keys() == before.keys()
    for key, old in before.items():
        kept = tuple(slice(size) for size in old.shape)
        np.testing.assert_array_equal(grown[key][kept], old)
        assert np.count_nonzero(grown[key]) == np.count_nonzero(old)
    learner.train(5, SEED, np.where(LABELS == 0, 4, LABELS), EVERY)
    learner.replace_model(structure.select_outputs(learner.model, [4, 1]))
    for key, slot in slots_of(learner).items():
        assert bool(slot.any()) == (slot.shape[-1] == 5), key  # the body's 5 units are as they were
    learner.train(5, SEED, LABELS % 2, EVERY)
    assert learner.model.output_shape == (None, 2)


def slots_of(learner):
    arrays = learner.get_arrays()
    return {name: array for name, array in arrays.items() if not name.startswith("variable_")}


def test_the_first_step_of_a_new_unit_is_as_long_as_any_first_step():
    """By a count of all steps it would be (1 − β₁) ⁄ √(1 − β₂) = 3.2 times as long."""
    learner = learner_of(dense())
    learner.train(60, SEED, LABELS, EVERY)
    learner.replace_model(structure.grow_head(learner.model, 1, np.random.default_rng(0)))
    before = learner.model.get_weights()[-1]
    learner.train(1, SEED, LABELS, EVERY)
    moved = np.abs(learner.model.get_weights()[-1] - before)
    assert moved[3] == pytest.approx(0.01, rel=1e-3)  # η, whatever the gradient
    assert moved[:3].max() < 0.01


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_arrays_carry_an_optimizer_over(name):
    one = learner_of(dense(), optimizer=name)
    one.train(5, SEED, LABELS, EVERY)
    other = learner_of(dense(), optimizer=name)
    other.set_arrays(one.get_arrays())
    for each in (one, other):
        each.train(5, SEED, LABELS, EVERY)
    for name, array in one.get_arrays().items():
        assert other.get_arrays()[name].tobytes() == array.tobytes()
    arrays = one.get_arrays()
    del arrays[list(arrays)[-1]]
    with pytest.raises(ValueError, match=r"_3: expected shape .*got None"):
        other.set_arrays(arrays)


def test_the_arrays_of_sgd_are_those_of_old_checkpoints():
    names = [f"{kind}_{i}" for kind in ("variable", "velocity") for i in range(4)]
    assert list(learner_of(dense(), optimizer="sgd").get_arrays()) == names


def test_a_configuration_chooses_the_optimizer():
    """Decoupled decay takes the place of the regulariser in the named networks."""
    made = {}
    for name in ("sgd", "adam", "adamw"):
        config = ExplorationConfig(optimizer=name, weight_decay=0.1, learning_rate=0.01)
        episode = EpisodeModel(config, None, models.images(12, (8, 8, 1)), root=3)
        assert bool(episode.model.losses) == (name != "adamw")
        episode.update(1, LABELS, EVERY, None)
        made[name] = episode.get_arrays()
    assert [name for name in made if "velocity_0" in made[name]] == ["sgd"]
    assert not np.allclose(made["adam"]["variable_0"], made["adamw"]["variable_0"])


class Kept:
    def __init__(self):
        self.keys = []

    def get(self, key):
        self.keys.append(key)

    def put(self, key, arrays):
        pass


def test_pretrained_weights_belong_to_their_optimizer_and_those_of_sgd_to_the_old_key():
    kept = Kept()
    for name in ("sgd", "adam", "adamw"):
        config = ExplorationConfig(optimizer=name, known_classes=3, pretrain_iterations=1)
        own = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(3)])
        own.set_weights([np.ones(weight.shape) for weight in own.get_weights()])
        episode = EpisodeModel(config, own, np.ones((12, *SHAPE), np.float32), root=3)
        episode.pretrain(np.ones((12, *SHAPE), np.float32), LABELS, EVERY, kept)
    assert len(set(kept.keys)) == 3
    assert kept.keys[0] == "b9442356b9b194669aa73810c941783cd04176a5b7f6b9b011e297353098cb44"


def test_an_environment_resumes_bit_for_bit(tiny):
    config = tiny.replace(optimizer="adamw", learning_rate=0.003)
    one, other = ActiveExplorationEnv(config), ActiveExplorationEnv(config)
    one.reset(seed=0)
    one.step(0)
    other.restore(one.save())
    for env in (one, other):
        env.step(1)
    for ours, theirs in zip(*(e.state.model.get_weights() for e in (one, other)), strict=True):
        assert ours.tobytes() == theirs.tobytes()
