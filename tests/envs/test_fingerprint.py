"""What an environment is made of, told as a hash that is the same in other processes."""

import functools

import keras
import numpy as np
import pytest
from PIL import Image

from emoc_tf import ExplorationConfig, ImageData, Task, load
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.envs.fingerprint import content
from emoc_tf.models import FitLearner, register_network
from emoc_tf.registries import NETWORKS

CONFIG = ExplorationConfig(known_classes=2, novel_classes=1)
# What a script's own module is called in the script, and in processes that it starts.
NAMES = "__main__", "__mp_main__"


def own_oracle(module):
    class Mine:
        def label(self, indices, images):
            return np.zeros(len(indices), np.int64)

    Mine.__module__ = module
    return Mine()


def own_model(module):
    class Doubled(keras.layers.Layer):
        def call(self, x):
            return 2 * x

    Doubled.__module__ = module
    image = keras.Input((8, 8, 1))
    start = keras.initializers.RandomNormal(seed=0)
    head = keras.layers.Dense(2, kernel_initializer=start)
    return keras.Model(image, head(Doubled()(keras.layers.Flatten()(image))))


@pytest.mark.parametrize(("name", "make"), [("oracle", own_oracle), ("model", own_model)])
def test_what_a_script_defines_is_the_same_in_processes_that_it_starts(name, make):
    first, other = (
        ActiveExplorationEnv(CONFIG, **{name: make(module)}).fingerprint for module in NAMES
    )
    assert first == other
    assert first != ActiveExplorationEnv(CONFIG, **{name: make("another")}).fingerprint


class Table:
    """What says nothing of itself but where it lies."""


def reward(table, *_):
    return 0.0


@pytest.mark.parametrize("make", [Table, lambda: [{"a": Table()}], lambda: lambda: 0])
def test_where_arguments_of_a_function_lie_does_not_count(make):
    things = [make() for _ in range(2)]
    assert repr(things[0]) != repr(things[1])
    first, other = (
        ActiveExplorationEnv(CONFIG, reward=functools.partial(reward, table=thing)).fingerprint
        for thing in things
    )
    assert first == other


class Loss:
    def __call__(self, wanted, found):
        return keras.losses.sparse_categorical_crossentropy(wanted, found, from_logits=True)


def test_where_settings_of_a_learner_lie_does_not_count():
    learners = [FitLearner.maker("adam", loss=Loss()) for _ in range(2)]
    assert learners[0].fingerprint != learners[1].fingerprint
    first, other = (ActiveExplorationEnv(CONFIG, learner=each).fingerprint for each in learners)
    assert first == other


def test_the_order_of_a_set_which_each_process_draws_does_not_count():
    told = []
    for numbers in ([0, 8, 16], [16, 8, 0]):
        # Integers that share a place in the table lie in the order in which they came.
        given = set(numbers)
        env = ActiveExplorationEnv(CONFIG, reward=functools.partial(reward, given))
        told.append((repr(given), env.fingerprint))
    assert told[0][0] != told[1][0]
    assert told[0][1] == told[1][1]


def test_each_number_of_an_array_that_a_function_is_given_counts():
    table = np.zeros(5000)
    first = functools.partial(reward, table)
    changed = functools.partial(reward, np.where(np.arange(5000) == 2500, 1, table))
    again = functools.partial(reward, table.copy())
    found = [ActiveExplorationEnv(CONFIG, reward=each).fingerprint for each in (first, again)]
    assert found[0] == found[1] != ActiveExplorationEnv(CONFIG, reward=changed).fingerprint


def write(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), color).save(path)


def folder(path, color):
    for label in "abc":
        for number in range(5):
            write(path / label / f"{number}.png", (number, color, ord(label)))
    return path


def test_a_data_set_of_another_content_is_told_from_one_of_that_name(tmp_path):
    train, test = load("digits")
    pixels = np.array(train.images)
    pixels[-1, 0, 0, 0] ^= 1
    changed = ImageData(pixels, train.labels, train.class_names)
    digits = content(ActiveExplorationEnv(CONFIG))
    assert digits == content(ActiveExplorationEnv(CONFIG.replace(set_size=3)))
    assert digits != content(ActiveExplorationEnv(CONFIG, data=(changed, test)))
    place = folder(tmp_path / "a", 1)
    config = CONFIG.replace(
        dataset=f"folder:{place}?image_size=8", initial_per_class=1, pool_per_class=3, set_size=2
    )
    before = content(ActiveExplorationEnv(config))
    assert before == content(ActiveExplorationEnv(config))
    write(place / "c" / "4.png", (9, 9, 9))
    assert before != content(ActiveExplorationEnv(config))


def test_other_weights_of_a_network_are_told(tmp_path):
    def own(shape, num_classes, weight_decay, seeds):
        raise AssertionError("nobody builds it")

    own.weights_file = lambda: str(tmp_path / "weights")  # a text, or a path as below
    register_network("with-weights", own)
    try:
        env, found = ActiveExplorationEnv(CONFIG.replace(network="with-weights")), []
        for text in ("a", "b", "a"):
            (tmp_path / "weights").write_text(text)
            found.append(content(env))
    finally:
        del NETWORKS["with-weights"]
    assert found[0] == found[2] != found[1]
    for name in ("efficientnet_lite0", "efficientnet_lite0-last-block"):
        assert NETWORKS[name].weights_file().stat().st_size > 1e7


def test_a_folder_of_other_images_is_told_though_it_may_be_another_one_tomorrow(tmp_path):
    first, other = (
        ActiveExplorationEnv(
            CONFIG, task=Task.from_folder(folder(tmp_path / str(color), color), image_size=8)
        )
        for color in (1, 2)
    )
    assert first.fingerprint == other.fingerprint
    assert content(first) != content(other)
