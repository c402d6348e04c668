"""Models that people hand in: scored as the reference does, or refused with a way on."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import in_float32
from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import models, own_models
from tests.scoring.own_models import SHAPE, assert_refused, assert_scored, classifier, scorer_of

layers = keras.layers


@pytest.mark.parametrize("kind", sorted(own_models.augmentations()))
def test_augmentation_and_resizing_layers_are_taken(kind):
    assert_scored(classifier(*own_models.augmentations()[kind]))


def dropout_that_stays_on():
    image = keras.Input(SHAPE)
    x = layers.Dropout(0.4)(image, training=True)
    x = layers.BatchNormalization()(layers.Conv2D(4, 3)(x), training=True)
    x = layers.GlobalAveragePooling2D()(x)
    return models.randomised(keras.Model(image, layers.Dense(3)(x)))


def a_backbone_called_in_training_mode():
    inner = keras.Input(SHAPE)
    x = layers.BatchNormalization()(layers.Dropout(0.4)(layers.Conv2D(4, 3)(inner)))
    backbone = keras.Model(inner, layers.GlobalAveragePooling2D()(x))
    image = keras.Input(SHAPE)
    return models.randomised(keras.Model(image, layers.Dense(3)(backbone(image, training=True))))


@pytest.mark.parametrize("build", [dropout_that_stays_on, a_backbone_called_in_training_mode])
def test_what_a_call_records_for_training_does_not_matter(build):
    model = build()
    plan = {row.contraction for row in scorer_of(model).plan()}
    assert "generic" not in plan
    assert_scored(model)


@pytest.mark.parametrize("kind", own_models.RANDOM)
def test_models_that_are_random_whatever_one_says_are_refused(kind):
    tf.random.set_seed(3)  # one in 128 times a coin falls on the same side all the time
    message = "model: expected the same outputs at each call with training=False"
    assert_refused(classifier(kind()), message)


@pytest.mark.parametrize("activation", [None, "sigmoid"])
def test_one_output_for_two_classes_is_refused(activation):
    """Softmax of one output is 1: every score was 0, without a word."""
    message = "at least two classes, got one" if activation is None else "'sigmoid'"
    assert_refused(classifier(outputs=1, head=layers.Dense(1, activation=activation)), message)


@pytest.mark.filterwarnings("ignore:The structure of .inputs")
def test_the_way_from_one_output_to_two():
    model = classifier(outputs=1)
    with pytest.raises(ValueError, match="at least two classes") as caught:
        EMOCScorer(model)
    way = re.search(r"by (head = .*\]\))$", str(caught.value)).group(1)
    scope = {"keras": keras, "np": np, "model": model}
    exec(way.replace("; ", "\n"), scope)  # what the sentence says
    images = own_models.make_images()
    logistic = keras.ops.sigmoid(model(images))[:, 0]
    softmax = keras.ops.softmax(scope["new"](images))[:, 1]
    np.testing.assert_allclose(softmax, logistic, rtol=1e-5)
    assert_scored(scope["new"])


def changes():
    def unfreeze(model):
        model.layers[1].trainable = True

    def freeze(model):
        model.layers[2].layers[-1].trainable = False

    def squash(model):
        model.layers[-1].activation = keras.activations.softmax

    def squash_inside(model):
        model.layers[2].layers[-1].activation = keras.activations.relu

    def penalise(model):
        model.layers[-1].kernel.regularizer = keras.regularizers.L2(0.1)

    def penalise_more(model):
        model.layers[2].layers[-1].kernel.regularizer.l2 = 0.5

    def penalise_activities(model):
        model.layers[-1].activity_regularizer = keras.regularizers.L2(0.1)

    def adapt(model):
        model.layers[3].adapt(np.random.default_rng(0).normal(size=(9, 4)) * 3)

    def adapters(model):
        model.layers[-1].enable_lora(2)

    return {change.__name__: change for change in (
        unfreeze, freeze, squash, squash_inside, penalise, penalise_more, penalise_activities,
        adapt, adapters,
    )}  # fmt: skip


@pytest.mark.parametrize("name", sorted(changes()))
def test_a_model_that_changed_since_is_noticed_at_each_call(name):
    image = keras.Input(SHAPE)
    frozen = layers.Conv2D(4, 3, trainable=False)
    inner = keras.Sequential(
        [keras.Input((6, 6, 4)), layers.Flatten(), layers.Dense(4, kernel_regularizer="l2")]
    )
    normalization = layers.Normalization(axis=-1)
    normalization.build((None, 4))
    x = normalization(inner(frozen(image)))
    model = models.randomised(keras.Model(image, layers.Dense(3)(x)))
    images, sets = own_models.make_images(), np.arange(6).reshape(3, 2)
    scorer = scorer_of(model)
    before = scorer.scores(images, images)
    models.randomised(model, seed=3)  # other weights are no change
    assert not np.allclose(scorer.scores(images, images), before)
    changes()[name](model)
    for call in (
        lambda: scorer.scores(images, images),
        lambda: scorer.expected_scores(images, images),
        lambda: scorer.set_scores(images, images, sets),
        lambda: scorer.select_set(images, images, sets),
    ):
        with pytest.raises(ValueError, match=r"model: .* changed since; make a new EMOCScorer"):
            call()
    if name in ("unfreeze", "freeze", "adapters"):
        assert_scored(model)


class Squares(keras.regularizers.Regularizer):
    """One that nobody means to save: Keras wants no `get_config` of it."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, weights):
        return self.factor * keras.ops.sum(weights**2)


def test_a_regulariser_without_a_configuration_is_taken_and_watched():
    model = classifier(head=layers.Dense(3, kernel_regularizer=Squares(0.2)))
    images, scorer = own_models.make_images(), scorer_of(model)
    wanted = scorer.scores(images[:3], images[3:])
    twin = classifier(head=layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.2)))
    found = scorer_of(twin).scores(images[:3], images[3:])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    model.layers[-1].kernel.regularizer.factor = 0.5
    with pytest.raises(ValueError, match=r"^model: expected the one .* its regularisers changed"):
        scorer.scores(images[:3], images[3:])


def test_a_head_that_was_replaced_is_noticed():
    model = models.make("sequential")
    images = models.inputs(model, 4)
    scorer = EMOCScorer(model)
    model.pop()
    model.add(layers.Dense(2))
    with pytest.raises(ValueError, match="its layers changed since; make a new EMOCScorer"):
        scorer.scores(images, images)


def test_toggling_back_and_forth_is_no_change():
    model = classifier()
    images = own_models.make_images()
    scorer = EMOCScorer(model)
    before = scorer.scores(images, images)
    model.trainable = False
    model.trainable = True
    np.testing.assert_array_equal(scorer.scores(images, images), before)


def called_on_a_batch():
    model = keras.Sequential([layers.Flatten(), layers.Dense(5), layers.Dense(3)])
    model(own_models.make_images(8))
    return model


def of_a_fixed_number():
    image = keras.Input(batch_shape=(8, *SHAPE))
    x = layers.Flatten()(layers.Conv2D(2, 3, activation="tanh")(image))
    return keras.Model(image, layers.Dense(3)(x))


def of_a_fixed_number_inside():
    image = keras.Input(batch_shape=(4, *SHAPE))
    return keras.Model(image, called_on_a_batch()(image))


@pytest.mark.parametrize("build", [called_on_a_batch, of_a_fixed_number, of_a_fixed_number_inside])
def test_any_number_of_images_is_scored(build):
    model = models.randomised(build())
    images = own_models.make_images(13)
    assert_scored(model, images)
    sets = np.arange(12).reshape(4, 3)
    selected = scorer_of(model).select_set(images, images, sets, confidence=None)
    assert selected.index == reference.set_scores(model, images, images, sets).argmax()


def test_a_number_of_images_that_is_written_into_the_graph_is_refused():
    image = keras.Input(batch_shape=(8, *SHAPE))
    x = keras.ops.reshape(image, (8, 192))
    assert_refused(
        keras.Model(image, layers.Dense(3)(x)), "model: expected one that takes any number of"
    )


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int16", "int8"])
def test_integers_in_range_are_cast_and_others_refused(dtype):
    image = keras.Input((5, 3, 1), dtype=dtype)
    x = layers.Flatten()(layers.Rescaling(1 / 64)(image))
    model = models.randomised(keras.Model(image, layers.Dense(3)(layers.Dense(4)(x))))
    pixels = np.random.default_rng(0).integers(0, 100, (7, 5, 3, 1))
    expected = assert_scored(model, pixels)
    for other in (np.float32, np.float64, np.uint8, np.int8, np.uint16):
        np.testing.assert_array_equal(assert_scored(model, pixels.astype(other)), expected)
    scorer, range_of = scorer_of(model), np.iinfo(dtype)
    wrong = {
        r"expected integers for this model, got \d+\.5": pixels + 0.5,
        "expected integers in": pixels + (range_of.max + 1),
        f"expected .*, since the model takes {dtype}, got": pixels + (range_of.min - 200),
    }
    for message, images in wrong.items():
        for call in (scorer.scores, lambda *given: reference.scores(model, *given)):
            with pytest.raises(ValueError, match=f"candidates: {message}"):
                call(pixels, images)
            with pytest.raises(ValueError, match=f"reference: {message}"):
                call(images, pixels)


def compiled_with_a_loss_of_its_own():
    model = classifier()
    model.compile("adam", lambda truth, found: keras.ops.mean((truth - found) ** 2))
    return model


def test_what_a_model_was_compiled_with_does_not_matter():
    expected = assert_scored(classifier())
    np.testing.assert_array_equal(assert_scored(compiled_with_a_loss_of_its_own()), expected)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_the_way_out_of_mixed_precision(policy):
    try:
        keras.config.set_dtype_policy(policy)
        model = classifier(head=layers.Dense(3, dtype="float32"))
    finally:
        keras.config.set_dtype_policy("float32")
    told = assert_refused(model, rf"layers in float32 or float64, got {policy} in layer 'conv2d")
    way = re.search(r"; emoc_tf\.models\.(in_float32\(model\)) returns it", told).group(1)
    assert_scored(eval(way, {"in_float32": in_float32, "model": model}))


class OfItsOwn(keras.Model):
    def __init__(self):
        super().__init__()
        self.first, self.last = layers.Dense(4, activation="tanh"), layers.Dense(3)

    def call(self, inputs):
        return self.last(self.first(keras.ops.reshape(inputs, (-1, 192))))


def test_the_way_from_a_class_of_its_own_to_a_graph():
    net = OfItsOwn()
    net(own_models.make_images())
    told = assert_refused(net, r"model: expected a built keras\.Model")
    scope = {"keras": keras, "model": net, "shape": SHAPE}
    exec(re.search(r"(x = .*); (.*)$", told).group(1), scope)
    new = eval(re.search(r"; (keras\.Model\(.*\))$", told).group(1), scope)
    assert_scored(models.randomised(new))
