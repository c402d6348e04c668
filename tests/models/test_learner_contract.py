"""The library's learners keep to the contract, and the contract finds what is broken."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import FitLearner
from emoc_tf.models.learner import Learner
from emoc_tf.testing import LearnerContract


class TestLearner(LearnerContract):
    @pytest.fixture(params=["sgd", "adamw"], autouse=True)
    def _optimizer(self, request):
        self.optimizer = request.param

    def make_learner(self, model, images):
        return Learner(
            model, images, learning_rate=0.01, momentum=0.9, batch_size=8, old_fraction=0.5,
            optimizer=self.optimizer, weight_decay=0.01,
        )  # fmt: skip


def stopping():
    return [keras.callbacks.EarlyStopping("val_loss", patience=9, restore_best_weights=True)]


class TestFitLearner(LearnerContract):
    def make_learner(self, model, images):
        layers = [keras.layers.GaussianNoise(0.1), keras.layers.RandomContrast(0.1)]
        augmentation = keras.Sequential(layers)
        maker = FitLearner.maker(
            keras.optimizers.SGD(0.05, 0.9), epochs=8, batch_size=7, callbacks=stopping,
            validation_split=0.2, augmentation=augmentation,
        )  # fmt: skip
        return maker(model, images)


class Broken(Learner):
    """Keeps to the contract but for one point."""

    def __init__(self, model, images, point):
        self.point, self.calls = point, 0
        if point == "trains a copy":
            model = keras.models.clone_model(model)
        if point == "reads all":
            images = np.asarray(images)
        settings = {"momentum": 0.9, "batch_size": 8, "old_fraction": 0.5}
        self.given = images
        super().__init__(model, images, learning_rate=0.05, **settings)

    def train(self, iterations, seed, labels, old, novel=None):
        self.calls += 1
        if self.point == "no novel alone" and not len(old):
            return
        if self.point == "memory":
            seed = seed + np.int32(self.calls)
        if self.point == "chance":
            seed = np.random.default_rng().integers(2**31, size=2).astype(np.int32)
        if self.point == "reads other labels":
            old = np.flatnonzero(labels > -1)
        if self.point == "writes" and labels.flags.writeable:
            labels[0] = 1
        if self.point == "always trains":
            iterations = max(1, iterations)
        super().train(iterations, seed, labels, old, novel)

    def replace_model(self, model):
        if self.point == "keeps its model" and hasattr(self, "_iterate"):
            return
        if self.point == "forgets" and hasattr(self, "_iterate"):
            model.set_weights([0 * weight for weight in model.get_weights()])
        super().replace_model(model)

    def get_arrays(self):
        arrays = super().get_arrays()
        return arrays if self.point != "saves nothing" else {}

    def set_arrays(self, arrays):
        if self.point != "saves nothing":
            super().set_arrays(arrays)


POINTS = {
    "trains a copy": "test_the_model_learns",
    "no novel alone": "test_novel_images_are_learnt",
    "chance": "test_equal_seeds_learn_the_same",
    "reads other labels": "test_labels_are_read_where_there_are_some",
    "writes": "test_images_and_labels_are_left_as_they_were",
    "reads all": "test_images_are_read_by_index",
    "always trains": "test_no_iterations_train_nothing",
    "keeps its model": "test_growth",
    "forgets": "test_shrinking",
    "saves nothing": "test_another_learner_resumes",
    "memory": "test_another_learner_resumes",
}


@pytest.mark.parametrize(("point", "test"), POINTS.items())
def test_the_contract_finds_what_is_broken(point, test):
    class Contract(LearnerContract):
        def make_learner(self, model, images):
            return Broken(model, images, point)

    errors = (AssertionError, tf.errors.InvalidArgumentError)  # of labels without an output
    with pytest.raises(errors, match=r"train: |images: |replace_model: |set_arrays: |outside"):
        getattr(Contract(), test)()


def test_each_test_has_something_broken_that_it_finds():
    assert {name for name in vars(LearnerContract) if name.startswith("test_")} == {
        *POINTS.values()
    }
