"""The tangent kernel against gradients of the summed outputs, one image at a time."""

import tracemalloc

import numpy as np
import pytest

from emoc_tf.data import views
from emoc_tf.scoring import reference, tangent
from tests.scoring import literal, models


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize("budget", [1, 1 << 31])
@pytest.mark.parametrize(
    ("name", "classes"), [("few_positions", 5), ("convolutional", 1), ("unknown", 3)]
)
def test_gram(name, classes, budget, monkeypatch):
    monkeypatch.setattr(tangent, "BATCH", 4)
    monkeypatch.setattr(tangent, "COLUMNS", 3)
    model = reference.rebuild(models.randomised(models.MODELS[name](classes)))
    images = models.images(11, model.input_shape[1:]).astype(float)
    summed = literal.jacobians(model, images).sum(axis=1) / np.sqrt(classes)
    columns = np.array([7, 2, 9, 10, 3])
    kernel = tangent.TangentKernel(model, budget)
    right = summed @ summed.T
    for some in (columns, columns[:1], np.arange(11)):
        np.testing.assert_allclose(kernel.gram(images, some), right[:, some], rtol=1e-9)
    elsewhere = kernel.gram(views.ImageView(images), columns)
    np.testing.assert_array_equal(elsewhere, kernel.gram(images, columns))


def test_what_is_refused():
    model = models.make("dense")
    images = models.images(4, model.input_shape[1:])
    with pytest.raises(ValueError, match="memory_budget: expected a number of bytes above 0"):
        tangent.TangentKernel(model, 0)
    kernel = tangent.TangentKernel(model)
    with pytest.raises(ValueError, match="images: expected a non-empty array"):
        kernel.gram(images[:, :2], np.arange(2))
    model.set_weights([np.full_like(weight, 1e30) for weight in model.get_weights()])
    with pytest.raises(ValueError, match="images: expected finite gradients"):
        kernel.gram(images * 1e20, np.arange(2))


def test_the_kernel_is_held_once():
    model = models.make("dense")
    images = models.images(700, model.input_shape[1:])
    kernel, columns = tangent.TangentKernel(model), np.arange(600)
    wanted = kernel.gram(images, columns)
    tracemalloc.start()
    found = kernel.gram(images, columns)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    np.testing.assert_array_equal(found, wanted)
    assert kernel.gram_bytes(700, 600) == wanted.nbytes
    assert peak < 1.7 * wanted.nbytes
