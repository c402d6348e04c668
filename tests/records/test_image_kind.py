"""Predictions of images that are not as those that the model was trained on."""

import keras
import numpy as np
import pytest
from PIL import Image

from emoc_tf import Task
from emoc_tf.data import ImageData, named
from emoc_tf.exploration.loop import Exploration
from emoc_tf.records import predictions as module
from emoc_tf.records.final_model import save_final_model
from emoc_tf.records.predictions import export_predictions, predictions, run_predictions
from tests.data import pictures
from tests.records import tasks
from tests.records.tasks import leave
from tests.records.test_predictions import simulate

PIXELS = np.random.default_rng(3).integers(256, size=(16, 8, 8, 3)).astype(np.uint8)
PIXELS[0, 0, 0], PIXELS[1, 0, 0] = 0, 255
SCALES = {
    "uint8": lambda x: x,
    "pixels": lambda x: x.astype(np.float32),
    "[0, 1]": lambda x: x / np.float32(255),
    "[-1, 1]": lambda x: x / np.float32(127.5) - 1,
    "standardised": lambda x: (x / np.float32(255) - 0.485) / 0.229,
    "float64 in [0, 1]": lambda x: x / 255,
}
SAME = [{"uint8", "pixels"}, {"[0, 1]", "float64 in [0, 1]"}, {"[-1, 1]"}, {"standardised"}]


def any_size(units):
    """A model that takes images of any size."""
    return keras.Sequential([keras.Input((None, None, 3)), keras.layers.GlobalAveragePooling2D(),
                             keras.layers.Dense(units)])  # fmt: skip


def run_of(path, images, model=None):
    """The folder of a run of a task with its model."""
    labels = np.full(len(images), -1)
    labels[:4] = [0, 0, 1, 1]
    model = model or tasks.model(2, images.shape[1:])
    found = Exploration(tasks.CONFIG, task=Task(images, labels, ("cat", "dog")), model=model)
    found.reset(0)
    tasks.answer(found, [0, "bird"])
    folder = leave(path, found)
    save_final_model(found, folder)
    return folder, found


@pytest.fixture
def no_work(monkeypatch):
    """Nothing is loaded, decoded or computed."""
    for name in ("final_model", "ImageFolder", "predictions"):
        monkeypatch.setattr(module, name, None)


@pytest.mark.filterwarnings("ignore:images")
@pytest.mark.parametrize("trained", SCALES)
def test_arrays_in_another_range_are_refused_before_any_work(tmp_path, trained, monkeypatch):
    folder, _ = run_of(tmp_path, SCALES[trained](PIXELS))
    alike = next(names for names in SAME if trained in names)
    for name in alike:
        assert len(run_predictions(folder, SCALES[name](PIXELS))) == 10
    assert len(run_predictions(folder, SCALES[trained](PIXELS // 3))) == 10  # dark ones
    for name in ("final_model", "predictions"):
        monkeypatch.setattr(module, name, None)
    for name in set(SCALES) - alike:
        with pytest.raises(
            ValueError, match=r"^images: expected .* in \[.*as the run's are, got .*"
        ):
            run_predictions(folder, SCALES[name](PIXELS))


@pytest.mark.filterwarnings("error:images")
def test_other_arrays_of_the_same_kind_are_told(tmp_path):
    folder, _ = run_of(tmp_path, PIXELS)
    assert len(run_predictions(folder, PIXELS.copy())) == 10
    for other in (PIXELS[::-1], PIXELS // 2):
        with pytest.warns(UserWarning, match="^images: .* the 6 whose index has an answer there"):
            assert len(run_predictions(folder, other)) == 10


@pytest.mark.parametrize("own_size", [False, True])
@pytest.mark.parametrize("shape", [(9, 8, 3), (8, 8, 1), (16, 16, 3), (8, 8, 4), (8, 8)])
def test_arrays_of_another_shape_are_refused_before_any_work(tmp_path, own_size, shape, no_work):
    folder, _ = run_of(tmp_path, PIXELS, any_size(2) if own_size else None)
    with pytest.raises(ValueError, match=r"^images: expected shape \(n, 8, 8, 3\), as the run's"):
        run_predictions(folder, np.zeros((16, *shape), np.uint8))


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool, np.int8, complex])
def test_other_dtypes_are_refused_before_any_work(tmp_path, dtype, no_work):
    folder, _ = run_of(tmp_path, PIXELS)
    with pytest.raises(ValueError, match=r"^images: expected dtype uint8 or floating, got"):
        run_predictions(folder, PIXELS.astype(dtype))
    with pytest.raises(ValueError, match=r"^images: expected an array, an array-like or a folder"):
        run_predictions(folder, PIXELS.tolist())


@pytest.mark.parametrize("trained", ["uint8", "[0, 1]", "[-1, 1]", "pixels"])
@pytest.mark.parametrize("own_size", [False, True])
def test_a_folder_is_brought_to_the_size_and_range_of_the_run(tmp_path, trained, own_size):
    scale = SCALES[trained]
    folder, found = run_of(tmp_path, scale(PIXELS), any_size(2) if own_size else None)
    others = np.stack([
        pictures.write(tmp_path / "new" / f"{i}.png", 900 + i) for i in range(4)
    ])  # fmt: skip
    rows = run_predictions(folder, tmp_path / "new")
    names = [found.class_names[c] for c in found.state.known_classes]
    expected = list(predictions(found.state.model, scale(others), names))
    assert [row["class"] for row in rows] == [row["class"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["posterior"] == pytest.approx(other["posterior"], abs=1e-5)
    for i in range(4):  # larger ones
        image = Image.open(tmp_path / "new" / f"{i}.png").resize((32, 32), Image.Resampling.NEAREST)
        image.save(tmp_path / "new" / f"{i}.png")
    again = run_predictions(folder, tmp_path / "new")
    for row, other in zip(again, expected, strict=True):  # all but the same pixels
        alike = row["posterior"] == pytest.approx(other["posterior"], abs=0.01)
        assert row["class"] == other["class"] or alike


@pytest.mark.parametrize("kind", ["grey", "four channels", "standardised"])
def test_a_folder_for_images_that_come_from_no_files_is_refused(tmp_path, kind, no_work):
    images = {"grey": PIXELS[..., :1], "four channels": PIXELS[..., [0, 1, 2, 0]]}
    folder, _ = run_of(tmp_path, images.get(kind, SCALES["standardised"](PIXELS)))
    with pytest.raises(ValueError, match=r"^images: expected an array of images .*got a folder"):
        export_predictions(folder, images=pictures.make_folder(tmp_path / "new"))


@pytest.mark.parametrize("data", [False, True])
def test_simulated_runs_know_their_images_too(tmp_path, data):
    train, _ = named.load("digits")
    env, folder = simulate(tmp_path)
    save_final_model(env.exploration, folder)

    def given(images):
        return ImageData(images, train.labels, train.class_names) if data else images

    assert run_predictions(folder, given(train.images))
    with pytest.raises(ValueError, match=r"^images: expected uint8 in \[0, 255\]"):
        run_predictions(folder, given(train.images / 255))
    with pytest.raises(ValueError, match=r"^images: expected shape \(n, 8, 8, 1\)"):
        run_predictions(folder, given(np.repeat(train.images, 3, axis=3)))
    with pytest.raises(ValueError, match=r"^images: expected an array of images with 1 channels"):
        run_predictions(folder, pictures.make_folder(tmp_path / "new"))


def test_a_model_of_integers_gets_no_fractions():
    image, layers = keras.Input((8, 8, 3), dtype="uint8"), keras.layers
    model = keras.Sequential([image, layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(2)])
    assert len(predictions(model, PIXELS, ["a", "b"])) == 16
    for scale in ("[0, 1]", "[-1, 1]"):
        with pytest.raises(ValueError, match=r"^images: expected integers for this model, got"):
            predictions(model, SCALES[scale](PIXELS), ["a", "b"])
    with pytest.raises(ValueError, match=r"^images: expected integers in \[0, 255\]"):
        predictions(model, PIXELS.astype(np.float32) * 257, ["a", "b"])


def test_runs_of_earlier_versions_tell_no_range(tmp_path):
    from emoc_tf.records.record_folder import RecordFolder

    folder, _ = run_of(tmp_path, PIXELS)
    record = RecordFolder(folder)
    config = record.read_config()
    del config["images"]
    record.write_config(config)
    assert len(run_predictions(folder, PIXELS)) == 10
    with pytest.raises(ValueError, match=r"^images: expected shape \(n, 8, 8, 3\), as the run's"):
        run_predictions(folder, PIXELS[:, :4])
