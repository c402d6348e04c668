"""Data, models and oracles of your own."""

import keras
import numpy as np
import pytest

from emoc_tf import ImageData, load
from emoc_tf.exploration import Exploration
from emoc_tf.records.pretrained import PretrainedFile
from emoc_tf.scoring import reference
from tests.exploration.runs import assert_same_run, outcome_fields, run


def float_data():
    train, test = load("digits")
    return tuple(
        ImageData(part.images / np.float32(255), part.labels, part.class_names)
        for part in (train, test)
    )


def own_model(units=2):
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dropout(0.2),
            keras.layers.Dense(units),
        ]
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("change", [lambda x: x, lambda x: x / 64 - 2], ids=["pixels", "other"])
def test_a_model_of_your_own_gets_images_as_they_are(tiny, dtype, change):
    data = tuple(
        ImageData(change(part.images).astype(dtype), part.labels, part.class_names)
        for part in load("digits")
    )
    exploration = Exploration(tiny.replace(pretrain_iterations=0), data, model=own_model())
    exploration.reset(0)
    pool, episode = exploration.state.pool, exploration.episode
    assert pool.images.dtype == episode.test_images.dtype == np.float32
    np.testing.assert_array_equal(pool.images, episode.raw_images.astype(np.float32))
    rows = np.isin(data[1].labels, episode.classes)
    np.testing.assert_array_equal(episode.test_images, data[1].images[rows].astype(np.float32))


@pytest.mark.parametrize("rescaling", ["Rescaling", "Normalization"])
def test_a_model_that_takes_pixels_computes_what_it_does_by_itself(tiny, rescaling):
    images = load("digits")[0].images.astype(np.float32)
    layer = keras.layers.Rescaling(1 / 127.5, -1.0)
    if rescaling == "Normalization":
        layer = keras.layers.Normalization()
        layer.adapt(images)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layer, keras.layers.Flatten(), dense(9, "relu"), dense(2)]
    )
    config = tiny.replace(pretrain_iterations=0)
    exploration = Exploration(config, model=model, model_classes=[7, 2])
    exploration.reset(0)
    raw_images = exploration.episode.raw_images.astype(np.float32)
    expected = keras.ops.softmax(model(raw_images)).numpy()
    np.testing.assert_allclose(exploration.state.probabilities, expected, atol=1e-6)


def test_own_data_model_and_oracle(tiny):
    model, asked = own_model(), []
    train, _ = float_data()
    before = model.get_weights()

    class Counting:
        def label(self, indices, images):
            asked.append((indices, images))
            return np.full(len(indices), exploration.episode.classes[4])

        def __len__(self):  # an oracle that is false in a condition is still an oracle
            return 0

    exploration = Exploration(
        tiny.replace(learning_rate=0.1), float_data(), model=model, oracle=Counting()
    )
    start = exploration.reset(0)
    assert start.known_accuracy > 0.8
    exploration.advance(0)
    assert exploration.state.known_classes[2:] == exploration.episode.classes[4:]
    ((indices, images),) = asked
    np.testing.assert_array_equal(images, exploration.episode.raw_images[indices])
    assert images.dtype == train.images.dtype
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    # The next episode starts from the model as it was given.
    assert outcome_fields(exploration.reset(0)) == outcome_fields(start)


def test_dropout_and_normalisation_of_ones_own_are_reproducible(tiny, tmp_path):
    """Unseeded dropout draws its seed outside; an adapted layer computes with hidden state."""
    normalization = keras.layers.Normalization()
    normalization.adapt(load("digits")[0].images.astype(np.float32))
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            normalization,
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(2),
        ]
    )
    data = float_data()
    pretrained = PretrainedFile(tmp_path / "p.npz")
    first = run(Exploration(tiny, data, model=model), [0, 1], pretrained=pretrained)
    again = run(Exploration(tiny, data, model=model), [0, 1], pretrained=pretrained)
    assert_same_run(first, again)
    assert_same_run(first, run(Exploration(tiny, data, model=model), [0, 1]))
    assert first[0] != run(Exploration(tiny, data, model=model), [0, 1], root=9)[0]


@pytest.mark.filterwarnings("ignore:model. it was compiled")
def test_a_trained_model_keeps_its_classes(tiny):
    """Column j of a model that is trained already belongs to model_classes[j]."""
    data = float_data()
    model = own_model(3)
    rows = np.isin(data[0].labels, [7, 2, 4])
    column = np.zeros(10, int)
    column[[7, 2, 4]] = [0, 1, 2]
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data[0].images[rows], column[data[0].labels[rows]], epochs=30, verbose=0)
    config = tiny.replace(known_classes=3, pretrain_iterations=0, novel_classes=2)
    exploration = Exploration(config, data, model=model, model_classes=[7, 2, 4])
    for root in range(3):
        outcome = exploration.reset(root)
        assert exploration.state.known_classes == (7, 2, 4)
        assert len(set(exploration.episode.classes)) == 5
        assert outcome.known_accuracy > 0.9


def wrong_answers(episode):
    return {
        "no class": np.full(3, 10),
        "too few": episode.classes[:2],
        "a number": 3,
        "floats": np.full(3, float(episode.classes[0])),
        "uneven": [[1], [2, 3], [4]],
        "booleans": [True, False, True],
        "below": [episode.classes[0], -3, episode.classes[0]],
    }


class Answering:
    def label(self, indices, images):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def same_arrays(one, other):
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


def test_a_wrong_answer_changes_nothing(tiny):
    oracle, files = Answering(), []
    exploration = Exploration(tiny, oracle=oracle)
    exploration.reset(0)
    state, before = exploration.state, exploration.save()
    exploration.on_query = lambda: files.append(exploration.save())
    for choice, (_, oracle.answer) in enumerate(wrong_answers(exploration.episode).items()):
        with pytest.raises(ValueError, match="oracle: expected "):
            exploration.advance(choice)
        assert exploration.state is state
        assert exploration.query is None
        same_arrays(exploration.save(), before)
        same_arrays(files[-1], before)  # what was kept of the query is taken back
    oracle.answer = np.full(3, exploration.episode.classes[0])
    assert exploration.advance(5).step == 1


def test_a_question_that_was_broken_off_is_kept_and_an_answer_is_never_thrown_away(tiny):
    oracle = Answering()
    exploration = Exploration(tiny, oracle=oracle)
    exploration.reset(0)
    for oracle.answer in (KeyboardInterrupt(), ConnectionError()):
        with pytest.raises((KeyboardInterrupt, ConnectionError)):
            exploration.advance(3)
        assert exploration.query.choice == 3
        assert int(exploration.save()["query"]) == 3
    oracle.answer = np.full(3, exploration.episode.classes[0])
    # Such as a full disk, once the answer has come.
    exploration.on_query = lambda: exploration.query.classes is None or [][0]
    with pytest.raises(IndexError):
        exploration.advance(2)
    exploration.on_query, oracle.answer = None, KeyboardInterrupt()
    with pytest.raises(ValueError, match="choice: expected 2, the set that has been answered"):
        exploration.advance(3)
    assert exploration.query.choice == 2
    assert exploration.advance(2).step == 1


def bad_setups():
    train, test = float_data()
    other = ImageData(test.images[:, :4], test.labels, test.class_names)
    renamed = ImageData(test.images, test.labels, tuple("abcdefghij"))
    pixels = load("digits")[1]
    return {
        "sampler": ({"sampler": "best"}, {}, r"sampler: expected one of \['cluster', .*got 'best'"),
        "network": ({"network": "vgg"}, {}, "network: expected one of .*got 'vgg'"),
        "classes": (
            {"known_classes": 8},
            {},
            r"known_classes \+ novel_classes: expected at most 10.*got 11",
        ),
        "shapes": ({}, {"data": (train, other)}, "data: expected .*of one shape"),
        "names": ({}, {"data": (train, renamed)}, "data: expected the same class_names"),
        "dtypes": ({}, {"data": (train, pixels)}, "data: expected .*both uint8 or both floating"),
        "data": ({}, {"data": (train,)}, "data: expected .*two ImageData"),
        "one part": ({}, {"data": train}, "data: expected .*two ImageData, got .'ImageData'"),
        "no part": ({}, {"data": ()}, "data: expected .*two ImageData"),
        "oracle": ({}, {"oracle": object()}, "oracle: expected an object with label"),
        "classes without a model": ({}, {"model_classes": [1, 2]}, "model_classes: expected 2"),
        "too few classes": (
            {},
            {"model": own_model(), "model_classes": [1]},
            "model_classes: expected 2 different class ids",
        ),
        "unknown classes": (
            {},
            {"model": own_model(), "model_classes": [1, 11]},
            "model_classes: expected classes with images",
        ),
        "float64 model": (
            {},
            {"model": reference.rebuild(own_model())},
            "model: expected layers in float32, got float64",
        ),
        "outputs": ({}, {"model": own_model(3)}, "model: expected 2 outputs.*got 3"),
        "input": (
            {},
            {"model": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])},
            r"model: expected input shape \(8, 8, 1\), got \(4,\)",
        ),
        "head": (
            {},
            {"model": keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])},
            "model: expected one that ends in a linear Dense layer",
        ),
    }


@pytest.mark.parametrize("case", sorted(bad_setups()))
def test_setups_that_do_not_fit_are_refused_at_once(tiny, case):
    changes, arguments, message = bad_setups()[case]
    with pytest.raises(ValueError, match=message):
        Exploration(tiny.replace(**changes), **arguments)
