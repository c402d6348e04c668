import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.data import views
from emoc_tf.scoring import lengths, reference
from emoc_tf.scoring.lengths import GradientLengths
from tests.scoring import models

SETS = np.array([[0, 1, 2], [3, 1, -1], [-1, -1, -1], [2, 4, 0]])


def literal_gradients(model, images):
    """Of each image under each label by one tape in float64, (n, C, P), and the posteriors."""
    exact = reference.rebuild(model)
    one = reference._loss_gradient_function(exact, regularizer=False)  # compiled once
    columns = [tf.constant(c) for c in range(exact.output_shape[-1])]
    batch = tf.cast(images, exact.inputs[0].dtype)
    found = [[one(image, column).numpy() for column in columns] for image in batch]
    return np.array(found), reference.outputs(exact, images, "softmax")


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize("name", models.MODELS)
def test_lengths_are_those_of_gradients_taken_one_by_one(name):
    model = models.make(name)
    images = models.inputs(model, 5)
    gradients, posterior = literal_gradients(model, images)
    found = GradientLengths(model)
    expected = (posterior * np.linalg.norm(gradients, axis=2)).sum(axis=1)
    np.testing.assert_allclose(found.expected(images, np.arange(5)), expected, rtol=1e-4)
    labels = np.array([1, 0, 1, model.output_shape[-1] - 1])
    sums = [
        np.linalg.norm(gradients[row[row >= 0], label].sum(axis=0))
        for row, label in zip(SETS, labels, strict=True)
    ]
    np.testing.assert_allclose(found.of_sets(images, SETS, labels), sums, rtol=1e-4)


@pytest.mark.parametrize("budget", [1, 20_000])
def test_little_memory_changes_the_last_digits_alone(budget):
    model = models.make("convolutional")
    images, labels = models.inputs(model, 5), np.array([1, 0, 1, 2])
    whole, parts = GradientLengths(model), GradientLengths(model, budget)
    rows = np.array([0, 2, 3])
    np.testing.assert_allclose(
        parts.expected(images, rows), whole.expected(images, np.arange(5))[rows], rtol=1e-5
    )
    expected = whole.of_sets(images, SETS, labels)
    np.testing.assert_allclose(parts.of_sets(images, SETS, labels), expected, rtol=1e-5)
    view = views.ImageView(images)
    np.testing.assert_array_equal(whole.of_sets(view, SETS, labels), expected)
    assert lengths._batches(5, 2)[-1].tolist() == [4]


def test_later_weights_are_seen():
    model = models.make("dense")
    found, images = GradientLengths(model), models.inputs(model, 3)
    before = found.expected(images, np.arange(3))
    model.set_weights([2 * weight for weight in model.get_weights()])
    after = found.expected(images, np.arange(3))
    assert not np.allclose(before, after)
    np.testing.assert_array_equal(after, GradientLengths(model).expected(images, np.arange(3)))


def test_what_is_refused():
    model = models.make("dense")
    found, images = GradientLengths(model), models.inputs(model, 3)
    with pytest.raises(ValueError, match="images: expected a non-empty array"):
        found.expected(images[..., 0], np.arange(3))
    with pytest.raises(ValueError, match="images: expected gradients of finite length, got nan"):
        found.expected(images * 1e38, np.arange(3))
    with pytest.raises(ValueError, match="labels: expected columns in"):
        found.of_sets(images, np.array([[0]]), np.array([9]))
    with pytest.raises(ValueError, match="memory_budget: expected a number of bytes above 0"):
        GradientLengths(model, 0)
    model.layers[-1].trainable = False
    with pytest.raises(ValueError, match="its trainable weights changed"):
        found.expected(images, np.arange(3))
