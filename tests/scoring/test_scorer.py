"""The batched scorer against the literal reference."""

import functools
import warnings

import keras
import numpy as np
import pytest

from emoc_tf.models import forward
from emoc_tf.scoring import EMOCScorer, pairs, reference
from emoc_tf.scoring.labels import most_likely_set_labels
from tests.scoring import models


def batched(model, **settings):
    """A scorer whose small memory makes several chunks and ragged tails on both sides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the slow way's warning has its own test
        return EMOCScorer(model, **{"memory_budget": 1 << 14, **settings})


def assert_close(fast, literal, tolerance=1e-4):
    assert fast.shape == literal.shape
    assert np.abs(fast - literal).max() <= tolerance * np.abs(literal).max()


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pairs, "GRADIENT_BATCH", 4)
    monkeypatch.setattr(pairs, "REFERENCE_BATCH", 4)
    monkeypatch.setattr(pairs, "BLOCK", 8)
    monkeypatch.setattr(forward, "FORWARD_BATCH", 3)


# Which layers a model has makes no difference to f and ω: these are one of each way that gradients
# go, with penalties and without.
OTHER_SETTINGS = ["dense", "few_positions", "headless_training", "unknown", "unusual", "words"]


@pytest.mark.parametrize(
    ("name", "output", "regularizer"),
    [
        *((name, "logits", True) for name in sorted(models.MODELS)),
        *((name, "softmax", False) for name in OTHER_SETTINGS),
    ],
)
def test_scores(name, output, regularizer):
    """Known layers take the fast way, without a warning."""
    model = models.make(name)
    images = models.inputs(model, 13)
    x, candidates = images[:6], images[6:]
    count, classes = len(candidates), model.output_shape[-1]
    every = np.tile(np.arange(classes), count)
    literal = reference.scores(
        model, x, np.repeat(candidates, classes, axis=0), every, output, regularizer
    ).reshape(count, classes)
    posterior = reference.outputs(reference.rebuild(model), candidates, "softmax")
    labels, own = np.arange(count) % classes, np.arange(count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "unknown" else "error")
        fast = EMOCScorer(model, output, regularizer, memory_budget=1 << 14)
    assert_close(fast.scores(x, candidates, labels), literal[own, labels])
    assert_close(fast.scores(x, candidates), literal[own, posterior.argmax(axis=1)])
    assert_close(fast.expected_scores(x, candidates), (posterior * literal).sum(axis=1))


def test_large_images_give_the_same_scores_and_choice(monkeypatch):
    """Few go through a network at once, whose number is no part of a score."""
    model = models.make("convolutional")
    images = models.inputs(model, 40)
    sets = np.arange(20).reshape(5, 4)
    wanted, chosen = [], []
    for numbers in (1 << 23, 5 * images[0].size):
        monkeypatch.setattr(forward, "FORWARD_BATCH", 256)
        monkeypatch.setattr(forward, "MOST_NUMBERS", numbers)
        assert forward.batch_of(images.shape) == (256 if numbers == 1 << 23 else 4)
        scorer = EMOCScorer(model)
        wanted.append(scorer.scores(images[20:], images[:20]))
        chosen.append(scorer.select_set(images[20:], images[:20], sets))
    assert_close(wanted[1], wanted[0], 1e-5)
    assert chosen[0].index == chosen[1].index
    assert chosen[1].score == pytest.approx(chosen[0].score, rel=1e-5)


@functools.cache
def shared(output, regularizer):
    """Returns a model and its scorer, for tests that leave the model as it is."""
    model = models.make("convolutional", scale=2.0)
    return model, batched(model, output=output, regularizer=regularizer)


@pytest.mark.parametrize("output", ["logits", "softmax"])
@pytest.mark.parametrize("regularizer", [True, False])
@pytest.mark.parametrize("labels", ["set", "image", "expected", "joint", "given"])
def test_set_scores(labels, output, regularizer):
    model, fast = shared(output, regularizer)
    images = models.images(9, model.input_shape[1:])
    sets = np.array([[0, 1, 2], [2, 3, -1], [4, 1, 8], [-1, -1, -1], [8, 2, 0]])
    labels = np.array([3, 0, 1, 2, 3]) if labels == "given" else labels
    fast = fast.set_scores(images[:5], images, sets, labels)
    literal = reference.set_scores(model, images[:5], images, sets, labels, output, regularizer)
    assert fast[3] == 0
    assert_close(fast, literal)


@pytest.mark.parametrize("labels", ["set", "image", "expected", "joint", "given"])
def test_weights_of_sets(labels):
    model, fast = shared("logits", True)
    images = models.images(9, model.input_shape[1:])
    sets = np.array([[0, 1, 2], [2, 3, -1], [4, 1, 8], [-1, -1, -1], [0, 1, 2]])
    weights = np.array([0.1, 7.0, 0.0, 2.0, 0.3])
    labels = np.array([3, 0, 1, 2, 3]) if labels == "given" else labels
    plain = fast.set_scores(images[:5], images, sets, labels)
    found = fast.set_scores(images[:5], images, sets, labels, weights)
    np.testing.assert_allclose(found, weights * plain, rtol=1e-12)
    literal = reference.set_scores(model, images[:5], images, sets, labels, set_weights=weights)
    assert_close(found, literal)
    for same in (None, np.ones(5), [1, 1, 1, 1, 1], np.ones(5, bool)):
        again = fast.set_scores(images[:5], images, sets, labels, set_weights=same)
        np.testing.assert_array_equal(again, plain)


@pytest.mark.parametrize(
    "weights",
    [np.ones(4), np.ones((5, 1)), 1.0, [1, 1, 1, 1, -1], [1, 1, np.nan, 1, 1], [np.inf] * 5, "set"],
)
def test_weights_that_are_none(weights):
    model = models.make("dense")
    images, sets = models.images(9, model.input_shape[1:]), np.arange(5)[:, None]
    message = r"^set_weights: expected \(5,\) finite numbers of at least 0, one a set, got "
    for function in (
        batched(model).set_scores, batched(model).select_set,
        functools.partial(reference.set_scores, model),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            function(images, images, sets, set_weights=weights)


def test_one_image_has_different_labels_in_different_sets():
    model = models.make("dense", scale=3.0)
    images = models.images(30, model.input_shape[1:])
    logits = reference.outputs(model, images)
    sets = np.stack([np.arange(0, 29), np.arange(1, 30)], axis=1)
    labels = most_likely_set_labels(logits, sets)
    own = {(image, label) for row, label in zip(sets, labels, strict=True) for image in row}
    assert len(own) > len({image for image, _ in own})
    assert_close(
        batched(model).set_scores(images, images, sets),
        reference.set_scores(model, images, images, sets),
    )


@pytest.mark.parametrize("regularizer", [True, False])
@pytest.mark.parametrize("output", ["logits", "softmax"])
def test_where_the_model_is_almost_certain(output, regularizer):
    """At p within 1e-6 of 1 the difference p − 1 would keep one digit in float32."""
    model = models.make("dense")
    images = models.images(8, model.input_shape[1:])
    weights = model.get_weights()
    logits = reference.outputs(model, images)
    weights[-1] = weights[-1] * (16 / (np.sort(logits)[:, -1] - np.sort(logits)[:, -2]).min())
    model.set_weights(weights)
    posterior = reference.outputs(reference.rebuild(model), images, "softmax")
    assert (1 - posterior.max(axis=1)).max() < 1e-6
    settings = {"output": output, "regularizer": regularizer}
    fast = batched(model, **settings)
    assert_close(fast.scores(images, images), reference.scores(model, images, images, **settings))
    assert_close(
        fast.expected_scores(images, images),
        reference.expected_scores(model, images, images, **settings),
    )


def test_float64_models_agree_to_float64_digits():
    model = reference.rebuild(models.make("convolutional"))
    images = models.images(9, model.input_shape[1:]).astype(np.float64)
    fast = batched(model).scores(images[:4], images[4:])
    np.testing.assert_allclose(fast, reference.scores(model, images[:4], images[4:]), rtol=1e-11)


def test_later_weights_are_seen_and_the_model_is_left_alone():
    model = models.make("convolutional")
    images = models.images(6, model.input_shape[1:])
    fast = batched(model)
    fast.scores(images, images)
    models.randomised(model, seed=5)
    before = [weight.copy() for weight in model.get_weights()]
    assert_close(fast.scores(images, images), reference.scores(model, images, images))
    for old, new in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


def test_layers_that_go_the_slow_way_are_named_once():
    signal = keras.Input((3, 2, 2))
    x = keras.layers.ConvLSTM1D(2, 1, return_sequences=True)(keras.layers.Dense(2)(signal))
    x = keras.layers.Flatten()(keras.layers.ConvLSTM1D(1, 1)(x))
    model = keras.Model(signal, keras.layers.Dense(3)(x))
    with pytest.warns(UserWarning, match="one example at a time: conv.*, conv.*") as caught:
        EMOCScorer(model)
    assert len(caught) == 1
    assert "dense" not in str(caught[0].message)


def bad_inputs():
    images = models.images(4, (5, 3, 1))
    nan = images.copy()
    nan[2] = np.nan
    sets = np.array([[0, 1]])
    return {
        "shape of the reference": (("scores", images[:, :4], images), "reference: .*shape"),
        "no candidate": (("scores", images, images[:0]), "candidates: .*non-empty"),
        "no reference": (("scores", images[:0], images), "reference: .*non-empty"),
        "label range": (("scores", images, images, np.array([0, 1, 2, 4])), r"labels: .*\[0, 4\)"),
        "label count": (("scores", images, images, np.array([0])), r"labels: expected \(4,\)"),
        "label type": (("scores", images, images, np.ones(4)), "labels: .*integers.*float64"),
        "NaN": (("scores", images, nan), "candidates: expected finite .*nan in image 2"),
        "set range": (("set_scores", images, images, np.array([[0, 4]])), r"sets: .*\[0, 4\)"),
        "set rank": (("set_scores", images, images, np.arange(4)), "sets: .*M, K"),
        "text": (("scores", images.astype(str), images), "reference: expected numbers, got dtype"),
        "label mode": (("set_scores", images, images, sets, "mode"), "labels: .*'mode'"),
    }


@pytest.mark.parametrize("case", sorted(bad_inputs()))
def test_bad_input_gets_one_clear_sentence(case):
    (method, *arguments), message = bad_inputs()[case]
    model = models.make("dense")
    with pytest.raises(ValueError, match=message):
        getattr(batched(model), method)(*arguments)
    with pytest.raises(ValueError, match=message):
        getattr(reference, method)(model, *arguments)


def test_outputs_that_are_not_finite():
    model = models.make("dense")
    images = models.images(4, (5, 3, 1))
    model.set_weights([np.full_like(weight, 3e38) for weight in model.get_weights()])
    with pytest.raises(ValueError, match=r"candidates: expected finite model outputs, got .*at 0"):
        batched(model).scores(images, images)
    model = models.make("convolutional")
    images = models.images(4, (6, 5, 2))
    images[1] *= 1e30  # the outputs fit into float32, but not their changes
    with pytest.raises(ValueError, match=r"scores: expected finite output changes, got (inf|nan)"):
        batched(model).scores(images, images)
    with pytest.raises(ValueError, match="scores: expected finite output changes"):
        batched(model).select_set(images, images, np.arange(4)[:, None])


def test_lists_and_tensors_are_images_too():
    model = models.make("dense")
    images = models.images(4, (5, 3, 1))
    scores = batched(model).scores(images, images)
    for other in (images.tolist(), keras.ops.convert_to_tensor(images)):
        np.testing.assert_array_equal(batched(model).scores(other, other), scores)


def test_images_of_any_size_where_the_model_takes_them():
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(3, 3, padding="same", activation="tanh")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = models.randomised(keras.Model(image, keras.layers.Dense(2)(x)))
    images = models.images(5, (6, 4, 1))
    assert_close(batched(model).scores(images, images), reference.scores(model, images, images))


def test_adapted_normalisation_is_kept_by_the_reference():
    normalization = keras.layers.Normalization()
    normalization.adapt(models.images(50, (5, 3, 1)) * 7 + 3)
    image = keras.Input((5, 3, 1))
    x = keras.layers.Flatten()(normalization(image))
    model = models.randomised(keras.Model(image, keras.layers.Dense(2)(x)))
    normalization.finalize_state()
    images = models.images(4, (5, 3, 1))
    np.testing.assert_allclose(
        reference.outputs(reference.rebuild(model), images), model(images), rtol=1e-4, atol=1e-5
    )


def test_bad_models_and_settings():
    image = keras.Input((4,))
    softmax = keras.Model(image, keras.layers.Dense(3, activation="softmax")(image))
    with pytest.raises(ValueError, match="activation 'softmax'; give it activation=None"):
        EMOCScorer(softmax)
    with pytest.raises(ValueError, match=r"output: expected one of .*'probability'"):
        EMOCScorer(models.make("dense"), output="probability")
    with pytest.raises(ValueError, match="regularizer: expected True or False, got 'no'"):
        EMOCScorer(models.make("dense"), regularizer="no")
    with pytest.raises(ValueError, match="memory_budget: expected a number of bytes above 0"):
        EMOCScorer(models.make("dense"), memory_budget=True)
    images = models.images(2, (4,))
    with pytest.raises(ValueError, match="activation 'softmax'"):
        reference.scores(softmax, images, images)


def test_numbers_of_numpy_are_numbers():
    model = models.make("dense")
    images, sets = models.images(6, (5, 3, 1)), np.arange(6).reshape(3, 2)
    plain = EMOCScorer(model, regularizer=False, memory_budget=1 << 20)
    other = EMOCScorer(model, regularizer=np.bool_(False), memory_budget=np.int64(1 << 20))
    np.testing.assert_array_equal(other.scores(images, images), plain.scores(images, images))
    for confidence in (np.float64(0.9), np.float32(0.9)):
        found = other.select_set(images, images, sets, confidence=confidence, seed=np.int32(3))
        assert found == plain.select_set(images, images, sets, confidence=0.9, seed=3)
    for regularizer in (np.bool_(True), np.bool_(False)):
        np.testing.assert_array_equal(
            reference.scores(model, images, images, regularizer=regularizer),
            reference.scores(model, images, images, regularizer=bool(regularizer)),
        )
    for bad in (np.float64(1.5), np.bool_(True), np.nan):
        with pytest.raises(ValueError, match=r"confidence: expected None or a number in \(0, 1\)"):
            plain.select_set(images, images, sets, confidence=bad)


def test_a_model_of_words_gets_words():
    model = models.make("words")
    words = models.inputs(model, 6)
    scorer = EMOCScorer(model)
    with pytest.raises(ValueError, match=r"candidates: expected integers for this model, got 0\.5"):
        scorer.scores(words, words * 0.0 + 0.5)
    np.testing.assert_array_equal(scorer.scores(words, words * 1.0), scorer.scores(words, words))
    with pytest.raises(ValueError, match=r"candidates: the model refuses them: .* = 99 is not"):
        scorer.scores(words, np.full_like(words, 99))
    with pytest.raises(ValueError, match=r"reference: the model refuses them: .* = 99 is not"):
        scorer.select_set(np.full_like(words, 99), words, np.arange(6).reshape(3, 2))
