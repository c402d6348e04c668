"""What frozen layers compute is computed once an image, and everybody gets the same of it."""

import keras
import numpy as np
import pytest

from emoc_tf.config import ExplorationConfig
from emoc_tf.models import kept_outputs, prefix, structure, trained_part
from emoc_tf.models.episode_model import EpisodeModel, copy_own
from emoc_tf.models.learner import Learner
from emoc_tf.models.trained_part import TrainedPart
from tests.models.test_prefix import SHAPE, backbone, frozen, pooled, sequential

layers = keras.layers
COUNT = 300  # more than a batch
IMAGES = np.random.default_rng(0).normal(size=(COUNT, *SHAPE)).astype(np.float32)
LABELS = np.arange(COUNT) % 3
SEED = np.array([1, 2], np.int32)


@pytest.fixture
def unsplit(monkeypatch):
    """A function that lets models be used as if they had no prefix."""
    return lambda: monkeypatch.setattr(trained_part, "split", lambda model: None)


MODELS = {
    "linear": lambda: pooled(frozen(), training=False),
    "hidden layer": lambda: pooled(frozen(), layers.Dense(5, "relu")),
    "dropout": lambda: pooled(frozen(), layers.Dropout(0.5, seed=3)),
    "sequential": lambda: sequential(
        frozen(), layers.GlobalAveragePooling2D(),
        layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.01)),
    ),
}  # fmt: skip


def learnt(model, images=IMAGES, optimizer="sgd", growth=False):
    keras.utils.set_random_seed(0)
    learner = Learner(
        model, images, learning_rate=0.05, momentum=0.9, batch_size=16, old_fraction=0.8,
        optimizer=optimizer,
    )  # fmt: skip
    learner.train(60, SEED, LABELS, np.arange(100), np.arange(100, 110))
    if growth:
        learner.replace_model(structure.grow_head(model, 1, np.random.default_rng(1)))
        learner.train(20, SEED, LABELS, np.arange(100), np.arange(100, 110))
    return learner.get_arrays()


@pytest.mark.parametrize("growth", [False, True])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("kind", MODELS)
def test_an_update_learns_the_same_with_kept_outputs(kind, optimizer, growth, unsplit):
    model = MODELS[kind]()
    start = model.get_weights()
    once = learnt(model, optimizer=optimizer, growth=growth)
    model.set_weights(start)
    for layer in model.layers:
        if isinstance(layer, layers.Dropout):
            layer.seed_generator.state.assign([3, 0])
    unsplit()
    anew = learnt(model, optimizer=optimizer, growth=growth)
    assert once.keys() == anew.keys()
    assert any(not np.array_equal(a, b) for a, b in zip(start, model.get_weights(), strict=True))
    for name, expected in anew.items():
        np.testing.assert_allclose(once[name], expected, rtol=1e-4, atol=2e-6, err_msg=name)


def test_a_learner_computes_frozen_layers_once(seen):
    model = pooled(frozen())
    settings = {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 8, "old_fraction": 0.5}
    learner = Learner(model, IMAGES, **settings)
    learner.train(3, SEED, LABELS, np.arange(10))
    learner.replace_model(structure.grow_head(model, 1, np.random.default_rng(1)))
    learner.train(3, SEED, LABELS, np.arange(10))
    assert sum(seen) == COUNT


def test_frozen_weights_that_are_changed_by_hand_are_noticed():
    base = frozen()
    model = pooled(base)
    part = TrainedPart(model, IMAGES)
    before = part.inputs
    part.look()
    assert part.inputs is before
    base.get_layer("second").kernel.assign_add(0.1 * np.ones((3, 3, 4, 4), np.float32))
    part.look()
    assert not np.allclose(part.inputs, before)
    np.testing.assert_allclose(
        part.model(part.inputs), model(IMAGES, training=False), rtol=1e-4, atol=1e-5
    )


def test_a_learner_notices_them_too(unsplit):
    results = []
    for _ in range(2):
        keras.utils.set_random_seed(1)
        base = frozen()
        model = pooled(base)
        learner = Learner(
            model, IMAGES, learning_rate=0.1, momentum=0.9, batch_size=8, old_fraction=0.5
        )
        learner.train(5, SEED, LABELS, np.arange(30))
        base.get_layer("first").kernel.assign(base.get_layer("first").kernel * 2)
        learner.train(5, SEED, LABELS, np.arange(30))
        results.append(model.layers[-1].get_weights())
        unsplit()
    np.testing.assert_allclose(results[0][0], results[1][0], rtol=1e-4, atol=1e-6)


def test_a_base_that_is_unfrozen_is_trained():
    base = frozen()
    model = pooled(base)
    learner = Learner(
        model, IMAGES, learning_rate=0.1, momentum=0.9, batch_size=8, old_fraction=0.5
    )
    learner.train(2, SEED, LABELS, np.arange(30))
    velocity = learner.get_arrays()["velocity_0"]
    start = base.get_weights()
    base.get_layer("second").trainable = True
    base.trainable = True
    learner.train(2, SEED, LABELS, np.arange(30))
    kernels = zip(start, base.get_weights(), strict=True)
    assert all(not np.array_equal(a, b) for a, b in kernels if a.ndim == 4)
    arrays = learner.get_arrays()
    slots = [name for name in arrays if name.startswith("velocity")]
    assert len(slots) == len(model.trainable_variables)
    assert any(arrays[name].shape == velocity.shape for name in slots)


def config(**settings):
    given = {"known_classes": 3, "batch_size": 8, "learning_rate": 0.05, "update_iterations": 5}
    return ExplorationConfig(**{**given, **settings})


def episode(model, images=IMAGES):
    return EpisodeModel(config(), copy_own(model, images, 3), images, root=3)


def steps(one, images=IMAGES):
    """Posteriors and features along two updates and a discovery."""
    found = [one.predict(images), one.predict(IMAGES[:7])]
    one.update(1, LABELS, np.arange(60), np.arange(60, 70))
    found.append(one.predict(images))
    one.change_outputs(2, [0, 1, 2], 1, "new units")
    one.update(2, LABELS, np.arange(60), np.arange(60, 70))
    found += [one.predict(images), one.predict(images, np.arange(3, 9)), one.predict(IMAGES[:7])]
    return [each for pair in found for each in pair]


@pytest.mark.parametrize("kind", MODELS)
def test_an_episode_predicts_the_same_with_kept_outputs(kind, unsplit):
    model = MODELS[kind]()
    once = episode(model)
    found = steps(once)
    assert once.part.model is not once.model
    unsplit()
    anew = episode(model)
    assert anew.part.model is anew.model
    expected = steps(anew)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6)
    for one, other in zip(found[:4], expected[:4], strict=True):  # before any training
        np.testing.assert_array_equal(one, other)


def test_an_episode_computes_frozen_layers_once(seen):
    steps(episode(pooled(frozen())))
    assert sum(seen) == COUNT + 7  # those of the pool, and the others that were predicted


def test_checkpoints_hold_the_model_and_nothing_of_the_outputs(unsplit):
    model = pooled(frozen())
    once = episode(model)
    steps(once)
    arrays = once.get_arrays()
    unsplit()
    anew = episode(model)
    steps(anew)
    assert {n: a.shape for n, a in arrays.items()} == {
        n: a.shape for n, a in anew.get_arrays().items()
    }


def test_a_model_resumes_with_equal_bits():
    model = pooled(frozen(), layers.Dropout(0.5))
    one = episode(model)
    one.update(1, LABELS, np.arange(60), np.arange(60, 70))
    arrays = one.get_arrays()
    other = episode(model)
    other.set_arrays(arrays)
    for each in (one, other):
        each.update(2, LABELS, np.arange(60), np.arange(60, 70))
    for a, b in zip(one.predict(IMAGES), other.predict(IMAGES), strict=True):
        np.testing.assert_array_equal(a, b)


def test_frozen_weights_of_a_checkpoint_count():
    base = frozen()
    model = pooled(base)
    other = episode(model)
    base.get_layer("first").kernel.assign(base.get_layer("first").kernel * 2)
    one = episode(model)
    other.set_arrays(one.get_arrays())
    for a, b in zip(one.predict(IMAGES), other.predict(IMAGES), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_base_that_is_unfrozen_in_an_episode_is_predicted_as_a_whole():
    one = episode(pooled(frozen()))
    one.model.get_layer("base").trainable = True
    before = one.predict(IMAGES)[1]
    one.update(1, LABELS, np.arange(60), np.arange(60, 70))
    after = one.predict(IMAGES)[1]
    assert one.part.model is one.model
    np.testing.assert_allclose(after, one.model(IMAGES, training=False), rtol=1e-4, atol=1e-5)
    assert not np.allclose(before, after)


def test_images_on_a_disk_give_the_same_bits(tmp_path):
    np.save(tmp_path / "images.npy", IMAGES)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    model = pooled(frozen())
    for a, b in zip(steps(episode(model)), steps(episode(model, mapped), mapped), strict=True):
        np.testing.assert_array_equal(a, b)


def test_many_outputs_lie_in_a_file_and_give_the_same_bits(monkeypatch):
    model = pooled(frozen(), layers.Dense(5))
    expected = steps(episode(model))
    monkeypatch.setattr(kept_outputs, "IN_MEMORY", 1000)
    one = episode(model)
    assert isinstance(one.part.inputs.base, np.memmap)
    for a, b in zip(steps(one), expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_models_without_a_prefix_are_used_as_they_are():
    model = pooled(backbone(normalised=False))
    part = TrainedPart(model, IMAGES)
    assert part.model is model and part.inputs is IMAGES
    one = EpisodeModel(config(), None, np.zeros((4, 8, 8, 1), np.float32), root=0)
    assert one.part.model is one.model


def test_it_is_said_that_random_layers_come_first():
    model = pooled(frozen(), before=[layers.RandomFlip()])
    with pytest.warns(UserWarning, match="random_flip.*training=False"):
        prefix.warn_of_repeated_work(model)


def test_frozen_weights_that_a_function_reads_are_seen():
    later = layers.Dense(4, trainable=False)
    later.build((None, 4))
    read = layers.Lambda(lambda x: x @ later.kernel, output_shape=(4,))
    image = keras.Input((4,))
    x = read(layers.Dense(4, trainable=False)(image))
    model = keras.Model(image, layers.Dense(3)(layers.Dense(4)(x)))
    images = IMAGES[:4, 0, 0] @ np.ones((3, 4), np.float32)
    part = TrainedPart(model, images)
    np.testing.assert_allclose(part.model(part.inputs), model(images), rtol=1e-5)
    later.kernel.assign(3 * later.kernel)
    part.look()
    np.testing.assert_allclose(part.model(part.inputs), model(images), rtol=1e-5)


def test_the_hash_tells_layers_apart_whatever_the_weights():
    def found(activation, scale):
        x = image = keras.Input((4,))
        x = layers.Dense(4, activation, kernel_initializer="ones", trainable=False)(x)
        x = layers.Rescaling(scale)(x) * 2.0
        return prefix.split(keras.Model(image, layers.Dense(3)(layers.Dense(4)(x))))

    kinds = ("relu", 1.0), ("tanh", 1.0), ("relu", 2.0)
    hashes = [trained_part._digest(found(*kind)) for kind in kinds]
    assert len(set(hashes)) == 3
    assert trained_part._digest(found("relu", 1.0)) == hashes[0]
