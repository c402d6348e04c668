import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.data import ImageData, ImageFolder, pixels
from emoc_tf.data.views import ImageView
from emoc_tf.exploration import Exploration
from tests.data.pictures import expected, write


@pytest.mark.parametrize("with_store", [False, True])
def test_image_data_take_a_folder(folder, tmp_path, with_store):
    images = ImageFolder(folder, 8, store=tmp_path / "store" if with_store else None)
    data = ImageData(images, np.arange(6) % 2, ("a", "b"))
    assert data.images is images
    data.check_unchanged()
    np.testing.assert_array_equal(data.images[data.labels == 1], expected(1, 3, 5))
    assert pixels.factor_to_pixels(data.images, data.images) == 1


class Counting:
    """Images that tell how many of them were read."""

    dtype = np.dtype(np.uint8)
    shape = (10**6, 2, 2, 1)

    def __init__(self):
        self.read = 0

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index):
        self.read += len(index)
        return np.full((len(index), 2, 2, 1), 7, np.uint8)


def test_image_data_read_few_images():
    images = Counting()
    data = ImageData(images, np.zeros(10**6, np.int64), ("a",))
    data.check_unchanged()
    assert pixels.factor_to_pixels(data.images, data.images) == 1
    assert images.read < 2000


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_image_data_take_a_memory_map(tmp_path, dtype):
    array = np.arange(5 * 4 * 4 * 3).reshape(5, 4, 4, 3).astype(dtype)
    np.save(tmp_path / "a.npy", array)
    images = np.load(tmp_path / "a.npy", mmap_mode="r")
    data = ImageData(images, np.zeros(5, int), ("a",))
    assert np.shares_memory(data.images, images)
    np.testing.assert_array_equal(data.images, array)


@pytest.mark.parametrize("bad", [0, 300, 511])
def test_lazy_floats_are_looked_at_as_a_whole(bad):
    class Lazy:
        array = np.zeros((512, 2, 2, 1), np.float32)
        dtype, shape = array.dtype, array.shape

        def __len__(self):
            return len(self.array)

        def __getitem__(self, index):
            return self.array[index]

    Lazy.array = Lazy.array.copy()
    ImageData(Lazy(), np.zeros(512, int), ("a",))
    Lazy.array[bad, 1, 1] = np.nan
    with pytest.raises(ValueError, match=f"NaN or infinity in image {bad}$"):
        ImageData(Lazy(), np.zeros(512, int), ("a",))


@pytest.mark.parametrize("own_model", [False, True])
def test_an_episode_of_image_folders(tmp_path, own_model):
    for seed in range(40):
        part = "train" if seed < 32 else "test"
        write(tmp_path / part / "abcd"[seed % 4] / f"{seed}.png", seed)
    parts = []
    for part in ("train", "test"):
        images = ImageFolder(tmp_path / part, 8, store=tmp_path / "store" / part)
        parts.append(ImageData(images, images.labels, images.class_names))
    model = None
    if own_model:
        layers = [keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
        model = keras.Sequential(layers)
    config = ExplorationConfig(
        known_classes=2, novel_classes=2, initial_per_class=3, pool_per_class=5, set_size=2,
        num_candidate_sets=3, pretrain_iterations=2, update_iterations=1, max_steps=1,
        learning_rate=1e-6,
    )  # fmt: skip
    explorations = [
        Exploration(config, data, model)
        for data in (
            tuple(parts),
            tuple(ImageData(part.images[:], part.labels, part.class_names) for part in parts),
        )
    ]
    outcomes = []
    for exploration in explorations:
        exploration.reset(0)
        outcomes.append(exploration.advance(0).test_accuracy)
    states = [exploration.state.pool.images for exploration in explorations]
    np.testing.assert_array_equal(*states)
    assert outcomes[0] == outcomes[1]


class Stored:
    """What libraries of files give: read by ascending integers, or, at a cost, as a whole."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.most = 0

    def __len__(self):
        return len(self.array)

    def __getitem__(self, index):
        assert (np.diff(index) > 0).all()
        self.most = max(self.most, len(index))
        return self.array[index]

    def __array__(self, *args, **kwargs):
        raise AssertionError("read as a whole")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_could_be_read_as_a_whole_is_not(dtype):
    array = np.random.default_rng(0).integers(256, size=(700, 2, 2, 1)).astype(dtype)
    images = Stored(array)
    data = ImageData(images, np.zeros(700, int), ("a",))
    assert data.images is images
    data.check_unchanged()
    assert pixels.factor_to_pixels(data.images, data.images) == 1
    assert images.most <= 256
    array[:] += 1
    with pytest.raises(ValueError, match="images: expected those that ImageData was made of"):
        data.check_unchanged()


def test_image_data_take_a_view():
    array = np.random.default_rng(0).integers(256, size=(600, 2, 2, 1)).astype(np.float32)
    view = ImageView(array)
    assert ImageData(view, np.zeros(600, int), ("a",)).images is view
    array[400] = np.inf
    with pytest.raises(ValueError, match=r"NaN or infinity in image 400$"):
        ImageData(ImageView(array), np.zeros(600, int), ("a",))
