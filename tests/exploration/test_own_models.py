"""Models of many kinds in an exploration."""

import keras
import numpy as np
import pytest

from emoc_tf import ImageData, load
from emoc_tf.exploration import Exploration
from tests.exploration.runs import assert_same_run, run
from tests.scoring import own_models

layers = keras.layers


def data():
    return tuple(
        ImageData(part.images / np.float32(16), part.labels, part.class_names)
        for part in load("digits")
    )


def augmented():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)]),
            layers.Resizing(6, 6),
            layers.Conv2D(4, 3, activation="relu"),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            keras.Sequential([layers.Dropout(0.2), layers.Dense(2)]),
        ]
    )


def test_a_model_with_augmentation_and_a_nested_head_explores(tiny):
    exploration = Exploration(tiny, data(), model=augmented())
    first = run(exploration, [0, 1, 2, 3])
    assert len(exploration.state.known_classes) > 2
    assert exploration.state.model.output_shape[-1] == len(exploration.state.known_classes)
    assert_same_run(first, run(exploration, [0, 1, 2, 3]))


def test_a_head_that_cannot_grow_is_refused_before_any_loading(tiny):
    head = own_models.Cosine(2)
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), head])
    with pytest.raises(ValueError, match="expected a head of type Dense"):
        Exploration(tiny.replace(dataset="missing"), model=model)
    same = tiny.replace(novel_classes=0)

    class NamesOthers:
        def label(self, indices, images):
            return ["another"] * len(indices)

    with pytest.raises(ValueError, match="expected a head of type Dense"):
        Exploration(same.replace(dataset="missing"), model=model, oracle=NamesOthers())
    exploration = Exploration(same, data(), model=model)
    exploration.reset(0)
    exploration.advance(0)
    assert type(exploration.state.model.layers[-1]) is own_models.Cosine
