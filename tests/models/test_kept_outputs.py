"""What frozen layers compute, kept in the store of a folder of images."""

import math

import numpy as np
import pytest
from PIL import Image

from emoc_tf.data import ImageFolder
from emoc_tf.data.views import ImageView
from emoc_tf.models import forward, kept_outputs, unfinished
from emoc_tf.models.trained_part import TrainedPart
from tests.models.test_prefix import SHAPE, frozen, pooled


def folder(tmp_path, count=20):
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir(exist_ok=True)
    for i in range(count):
        pixels = rng.integers(0, 255, SHAPE, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{i}.png")
    return ImageFolder(tmp_path / "pictures", image_size=8, store=tmp_path / "store")


def test_outputs_for_a_store_are_found_again(tmp_path, seen):
    images = ImageView(folder(tmp_path, 300))
    model = pooled(frozen())
    first = TrainedPart(model, images).inputs
    files = list((tmp_path / "store").glob("*/frozen-*.npy"))
    assert len(files) == 1
    np.testing.assert_array_equal(first, TrainedPart(model, images[:]).inputs)
    again = TrainedPart(model, ImageView(folder(tmp_path, 300)))
    seen.clear()
    np.testing.assert_array_equal(again.inputs, first)
    assert sum(seen) == 256  # one batch, to see that the bits are the same
    assert list((tmp_path / "store").glob("*/frozen-*.npy")) == files


def test_outputs_of_other_images_or_weights_are_not_taken_from_a_store(tmp_path):
    images = ImageView(folder(tmp_path))
    base = frozen()
    model = pooled(base)
    first = np.array(TrainedPart(model, images).inputs)
    turned = images.take(np.arange(len(images))[::-1])
    np.testing.assert_allclose(TrainedPart(model, turned).inputs, first[::-1], rtol=1e-5)
    for factor in (2, 3, 4):
        kernel = base.get_layer("first").kernel
        kernel.assign(kernel * factor)
        found = TrainedPart(model, images).inputs
        expected = model.layers[2](base(images[:], training=False))
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        assert len(list((tmp_path / "store").glob("*/frozen-*.npy"))) <= kept_outputs.FILES


def test_outputs_of_other_batches_are_not_taken_from_a_store(tmp_path, monkeypatch, seen):
    images = ImageView(folder(tmp_path))
    model = pooled(frozen())
    first = np.array(TrainedPart(model, images).inputs)
    monkeypatch.setattr(forward, "MOST_NUMBERS", 8 * math.prod(SHAPE))  # the last batch is another
    seen.clear()
    np.testing.assert_allclose(TrainedPart(model, images).inputs, first, rtol=1e-5)
    assert seen == [8, 8, 4]
    assert len(list((tmp_path / "store").glob("*/frozen-*.npy"))) == 2


@pytest.mark.parametrize("damage", ["cut", "other images", "empty"])
def test_a_damaged_file_in_a_store_is_written_anew(tmp_path, damage):
    images = ImageView(folder(tmp_path))
    model = pooled(frozen())
    first = np.array(TrainedPart(model, images).inputs)
    (file,) = (tmp_path / "store").glob("*/frozen-*.npy")
    if damage == "other images":
        np.save(file, first[1:])
    else:
        file.write_bytes(file.read_bytes()[: 0 if damage == "empty" else 200])
    np.testing.assert_array_equal(TrainedPart(model, images).inputs, first)
    np.testing.assert_array_equal(np.load(file), first)


def test_a_file_of_other_numbers_may_be_in_use_elsewhere_and_stays(tmp_path, seen):
    images = ImageView(folder(tmp_path))
    model = pooled(frozen())
    first = np.array(TrainedPart(model, images).inputs)
    (file,) = (tmp_path / "store").glob("*/frozen-*.npy")
    np.save(file, first + 1)
    for computed in (2, 1):
        seen.clear()
        np.testing.assert_array_equal(TrainedPart(model, images).inputs, first)
        assert len(seen) == computed  # the second time the first images alone
    np.testing.assert_array_equal(np.load(file), first + 1)
    (other,) = (tmp_path / "store").glob("*/frozen-*-*.npy")
    assert other.name.startswith(f"{file.stem}-")
    np.testing.assert_array_equal(np.load(other), first)


def test_a_store_that_cannot_be_written_to_is_no_error(tmp_path, monkeypatch):
    images = ImageView(folder(tmp_path))

    def refuse(*arguments, **named):
        raise OSError("no space left on device")

    monkeypatch.setattr(unfinished.Unfinished, "room", refuse)
    assert TrainedPart(pooled(frozen()), images).inputs.shape == (len(images), 4)
    assert not [f for f in (tmp_path / "store").glob("*/*") if "frozen" in f.name]
