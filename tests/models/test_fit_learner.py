"""A learner that trains by Keras' own `fit`."""

import pickle

import keras
import numpy as np
import pytest

from emoc_tf.config import ExplorationConfig
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.models import FitLearner, structure
from emoc_tf.models.episode_model import EpisodeModel
from emoc_tf.storage.checkpoint import Checkpoint
from tests.scoring import models

layers = keras.layers
SHAPE = (3, 2, 1)
IMAGES = models.images(40, SHAPE)
LABELS = np.arange(40) % 3
EVERY = np.arange(40)
SEED = np.array([-3, 4], np.int32)


def dense(regularizer=None):
    image = keras.Input(SHAPE)
    head = layers.Dense(3, kernel_regularizer=regularizer)
    return models.randomised(keras.Model(image, head(layers.Flatten()(image))))


class Watch(keras.callbacks.Callback):
    """Notes what callbacks see."""

    def __init__(self, seen):
        super().__init__()
        self.seen = seen

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(dict(logs))


def watching():
    return [Watch([])]


class Loss(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return y_pred[:, 0]


def test_epochs_follow_the_iterations_or_are_given():
    for epochs, iterations, expected in ((None, 12, 4), (None, 1, 1), (2, 100, 2), (2, 0, 0)):
        seen = []
        maker = FitLearner.maker(
            "sgd", epochs=epochs, batch_size=16, callbacks=lambda seen=seen: [Watch(seen)]
        )
        maker(dense(), IMAGES).train(iterations, SEED, LABELS, EVERY, None)
        assert len(seen) == expected


def test_the_share_held_out_is_kept_and_never_trained_on():
    seen = []
    maker = FitLearner.maker(
        "sgd", epochs=1, validation_split=0.25, callbacks=lambda: [Watch(seen)]
    )
    learner = maker(dense(), IMAGES)
    learner.train(1, SEED, LABELS, EVERY[:20], None)
    first = np.flatnonzero(learner.get_arrays()["roles"] == 2)
    assert len(first) == 5
    learner.train(1, SEED + np.int32(1), LABELS, EVERY[:20], EVERY[20:24])
    roles = learner.get_arrays()["roles"]
    assert (roles == 2).sum() == 6
    assert (roles[first] == 2).all()
    assert (roles[24:] == 0).all()
    assert set(seen[0]) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    learner.train(1, SEED, LABELS, first[:1], None)  # of all that there is, some is trained on
    assert set(seen[-1]) == {"loss", "accuracy"}


def test_early_stopping_on_held_out_answers():
    """Labels by chance: what is learnt of them is worth nothing for others."""
    rng = np.random.default_rng(0)
    labels, seen = rng.integers(3, size=40), []

    def callbacks():
        stop = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
        return [stop, Watch(seen)]

    maker = FitLearner.maker("adam", epochs=50, validation_split=0.5, callbacks=callbacks)
    maker(dense(), IMAGES).train(1, SEED, labels, EVERY, None)
    assert 2 < len(seen) <= 50
    maker = FitLearner.maker(
        keras.optimizers.SGD(5.0), epochs=50, validation_split=0.5, callbacks=callbacks
    )
    seen.clear()
    maker(dense(), IMAGES).train(1, SEED, labels, EVERY, None)
    assert len(seen) < 20


def test_the_model_stays_uncompiled_and_its_regularisers_count():
    model = dense()
    maker = FitLearner.maker(keras.optimizers.SGD(0.1), epochs=1, batch_size=40)
    maker(model, IMAGES).train(1, SEED, LABELS, EVERY, None)
    assert not model.compiled
    plain = model.layers[-1].kernel.numpy()
    model = dense(keras.regularizers.L2(0.5))
    before = model.layers[-1].kernel.numpy()
    maker(model, IMAGES).train(1, SEED, LABELS, EVERY, None)
    np.testing.assert_allclose(model.layers[-1].kernel, plain - 0.1 * before, atol=1e-6)


def test_one_step_is_that_of_the_optimizer_on_the_loss():
    ours, theirs = dense(), dense()
    optimizer = keras.optimizers.AdamW(0.02, weight_decay=0.1)
    maker = FitLearner.maker(optimizer, epochs=1, batch_size=40)
    maker(ours, IMAGES).train(1, SEED, LABELS, EVERY, None)
    theirs.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    theirs.train_on_batch(IMAGES, LABELS)
    for mine, right in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, right, rtol=1e-5, atol=1e-6)


def test_a_loss_of_your_own():
    model = dense()
    before = model.get_weights()
    maker = FitLearner.maker(keras.optimizers.SGD(0.1), loss=lambda y, logits: 0 * logits[:, 0])
    maker(model, IMAGES).train(5, SEED, LABELS, EVERY, None)
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


class Adding(layers.Layer):
    """Adds 100 in training."""

    def call(self, inputs, training=False):
        return inputs + 100.0 * float(training)


def test_augmentation_takes_part_in_training_alone():
    seen = []
    weights = []
    for augmentation in (None, Adding()):
        model = dense()
        maker = FitLearner.maker(
            keras.optimizers.SGD(0.0), epochs=1, validation_split=0.5, augmentation=augmentation,
            callbacks=lambda: [Watch(seen)],
        )  # fmt: skip
        maker(model, IMAGES).train(1, SEED, LABELS, EVERY, None)
        weights.append(model.get_weights())
    plain, augmented = seen
    assert augmented["loss"] > 5 * plain["loss"]
    assert augmented["val_loss"] == pytest.approx(plain["val_loss"], rel=1e-5)
    assert len(model.layers) == 3


def test_random_augmentation_is_a_function_of_the_seed():
    augmentation = keras.Sequential([layers.RandomFlip(), layers.GaussianNoise(0.5)])
    found = []
    for seed in (SEED, SEED, SEED + np.int32(1)):
        model = dense()
        FitLearner.maker("sgd", augmentation=augmentation)(model, IMAGES).train(
            4, seed, LABELS, EVERY, None
        )
        found.append(model.get_weights()[0])
    assert found[0].tobytes() == found[1].tobytes() != found[2].tobytes()


def test_the_optimizer_starts_anew_when_the_head_changes():
    learner = FitLearner.maker("adam")(dense(), IMAGES)
    learner.train(6, SEED, LABELS, EVERY, None)
    steps = learner.get_arrays()["optimizer_0"]
    assert steps > 0
    learner.replace_model(structure.grow_head(learner._model, 1, np.random.default_rng(0)))
    arrays = learner.get_arrays()
    assert arrays["optimizer_0"] == 0
    assert arrays["roles"].any()
    for lacking in ("roles", "optimizer_0"):
        with pytest.raises(ValueError, match=f"{lacking}: expected shape"):
            learner.set_arrays({k: v for k, v in arrays.items() if k != lacking})


def test_an_optimizer_of_a_compiled_model_is_taken_with_its_schedule():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    theirs = dense()
    theirs.compile(keras.optimizers.SGD(schedule, nesterov=True, momentum=0.5), "mse")
    learner = FitLearner.maker(theirs.optimizer)(dense(), IMAGES)
    assert learner._trainer.optimizer is not theirs.optimizer
    assert learner._trainer.optimizer.get_config() == theirs.optimizer.get_config()


def test_in_an_episode():
    """With a model that takes integers too."""
    image = keras.Input(SHAPE, dtype="uint8")
    x = layers.Flatten()(layers.Rescaling(1 / 255)(image))
    own = models.randomised(keras.Model(image, layers.Dense(3)(x)))
    images = np.random.default_rng(0).integers(0, 256, (40, *SHAPE)).astype(np.float32)
    config = ExplorationConfig(known_classes=3, pretrain_iterations=20, update_iterations=5)
    maker = FitLearner.maker("adam", validation_split=0.2)
    one = EpisodeModel(config, own, images, 3, make_learner=maker)
    one.pretrain(images, LABELS, EVERY[:20], None)
    one.change_outputs(1, [0, 1, 2], 1, "new units")
    one.update(1, np.where(EVERY < 20, LABELS, 3), EVERY[:20], EVERY[20:25])
    other = EpisodeModel(config, own, images, 3, 4, make_learner=maker)
    other.set_arrays(one.get_arrays())
    for each in (one, other):
        each.update(2, np.where(EVERY < 20, LABELS, 3), EVERY[:25], EVERY[25:30])
    for ours, theirs in zip(one.predict(images), other.predict(images), strict=True):
        assert ours.tobytes() == theirs.tobytes()


def test_an_environment_resumes_bit_for_bit(tiny, tmp_path):
    """From a file, in an environment made anew with equal settings."""
    config = tiny.replace(pretrain_iterations=8, update_iterations=4)

    def environment():
        return ActiveExplorationEnv(config, learner=everything(validation_split=0.3))

    one = environment()
    one.reset(seed=0)
    one.step(0)
    one.save().write(tmp_path / "checkpoint.npz")
    other = environment()
    other.restore(Checkpoint.read(tmp_path / "checkpoint.npz"))
    for env in (one, other):
        env.step(1)
    for ours, theirs in zip(*(e.state.model.get_weights() for e in (one, other)), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "best"}, "optimizer: expected a Keras optimizer or the name of one"),
        ({"optimizer": 3}, "optimizer: expected a Keras optimizer"),
        ({"epochs": 0}, "epochs: expected an integer of at least 1, got 0"),
        ({"epochs": 2.0}, "epochs: expected an integer"),
        ({"batch_size": None}, "batch_size: expected an integer of at least 1, got None"),
        ({"validation_split": 1.0}, r"validation_split: expected a number in \[0, 1\), got 1.0"),
        ({"validation_split": "a"}, "validation_split: expected a number"),
        ({"callbacks": [keras.callbacks.TerminateOnNaN()]}, "callbacks: expected a function that"),
        ({"augmentation": lambda images: images}, "augmentation: expected a Keras layer"),
        ({"loss": "mse"}, "loss: expected a Keras loss or a function"),
        ({"loss": keras.losses.SparseCategoricalCrossentropy()}, "loss: .* of probabilities"),
        ({"loss": keras.losses.CategoricalCrossentropy(True)}, "loss: .* of one-hot labels"),
    ],
)
def test_bad_settings_get_one_sentence(settings, message):
    with pytest.raises(ValueError, match=message):
        FitLearner.maker(**settings)


def everything(rate=0.01, callbacks=watching, **settings):
    augmentation = keras.Sequential([layers.RandomFlip(), layers.GaussianNoise(0.5)])
    return FitLearner.maker(
        keras.optimizers.Adam(rate), augmentation=augmentation, callbacks=callbacks, **settings
    )


def test_equal_settings_have_equal_fingerprints_and_pickles_keep_them():
    """Checkpoints of environments are told by them; other processes get pickles."""
    maker = everything()
    maker(dense(), IMAGES)
    copy = pickle.loads(pickle.dumps(maker))
    assert maker.fingerprint == everything().fingerprint == copy.fingerprint
    assert "object at" not in maker.fingerprint
    found = []
    for each in (maker, copy):
        model = dense()
        each(model, IMAGES).train(2, SEED, LABELS, EVERY, None)
        found.append(model.get_weights()[0].tobytes())
    assert found[0] == found[1]
    others = (
        everything(0.02), everything(callbacks=None), everything(epochs=3), everything(loss=Loss()),
        FitLearner.maker(keras.optimizers.Adam(0.01), callbacks=watching),
    )  # fmt: skip
    assert len({each.fingerprint for each in (maker, *others)}) == 6


def test_an_augmentation_that_learns_is_refused():
    with pytest.raises(ValueError, match="augmentation: expected a layer without weights to tra"):
        FitLearner.maker(augmentation=layers.Conv2D(1, 1))(dense(), IMAGES)


def test_roles_move_with_their_images():
    """A folder may have grown, lost images, or both with as many as before."""
    maker = FitLearner.maker("sgd", epochs=1, validation_split=0.25)

    def episode(images):
        config = ExplorationConfig(known_classes=3)
        return EpisodeModel(config, dense(), images, 3, make_learner=maker)

    one = episode(IMAGES[:12])
    one.update(1, LABELS[:12], EVERY[:8], None)
    arrays = one.get_arrays()
    roles = arrays["learner_roles"]
    assert sorted(roles) == [0] * 4 + [1] * 6 + [2] * 2
    for place, count in (
        ({i: i for i in range(12)}, 13),
        ({i: i + 1 for i in range(12)}, 13),
        ({i: i - 1 for i in range(1, 12)}, 12),
        ({i: 11 - i for i in range(12)}, 12),
        ({3: 0}, 1),
        ({}, 5),
    ):
        other = episode(IMAGES[:count])
        moved = other.moved(arrays, place, count)
        expected = np.zeros(count, np.int8)
        for i, j in place.items():
            expected[j] = roles[i]
        np.testing.assert_array_equal(moved["learner_roles"], expected)
        other.set_arrays(moved)
        found = other.get_arrays()
        assert found.keys() == arrays.keys()
        for name in found.keys() - {"learner_roles"}:
            np.testing.assert_array_equal(found[name], arrays[name])
        np.testing.assert_array_equal(found["learner_roles"], expected)
    with pytest.raises(ValueError, match=r"roles: expected those of at least 13 images, got shape"):
        one.moved(arrays, {12: 0}, 1)
