"""Models that are saved with the names of their classes, and loaded again."""

import json

import keras
import numpy as np
import pytest

from emoc_tf.models import files, load_model, save_model, structure
from emoc_tf.storage import atomic
from tests.scoring import models, own_models
from tests.scoring.own_models import classifier

layers = keras.layers
NAMES = ["oak", "Übel", "ash"]
IMAGES = own_models.make_images(5)


def broken_off(*args, **kwargs):
    raise OSError("no space left on device")


@pytest.mark.parametrize(
    "build",
    [
        classifier,
        lambda: classifier(layers.RandomFlip(), layers.Normalization(mean=0.5, variance=2.0)),
        lambda: own_models.nested_head("sequential", 2),
        lambda: structure.select_outputs(
            structure.grow_head(classifier(), 1, np.random.default_rng(0)), [3, 0, 1]
        ),
    ],
)
def test_a_model_comes_back_with_its_names(tmp_path, build):
    model, path = build(), tmp_path / "new" / "trees.v2.keras"
    save_model(model, path, NAMES)
    found, names = load_model(str(path))
    assert names == NAMES
    assert not found.compiled
    np.testing.assert_array_equal(found(IMAGES, training=False), model(IMAGES, training=False))
    for ours, theirs in zip(found.get_weights(), model.get_weights(), strict=True):
        assert ours.tobytes() == theirs.tobytes()
    assert {file.name for file in path.parent.iterdir()} == {
        "trees.v2.keras", "trees.v2.classes.json",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:The object being serialized includes a .lambda")
def test_models_that_keras_wrote_have_no_names(tmp_path):
    model = classifier()
    model.compile("adam", lambda truth, found: keras.ops.mean(found))
    for name in ("model.keras", "model.h5"):
        model.save(tmp_path / name)
        found, names = load_model(tmp_path / name)
        assert names is None
        np.testing.assert_array_equal(found(IMAGES, training=False), model(IMAGES, training=False))


def test_a_broken_off_saving_leaves_the_old_model_or_none(tmp_path, monkeypatch):
    path, old = tmp_path / "m.keras", classifier()
    save_model(old, path, NAMES)
    monkeypatch.setattr(atomic.os, "replace", broken_off)
    with pytest.raises(OSError, match="no space"):
        save_model(models.randomised(classifier(), seed=5), path, ["a", "b", "c"])
    found, names = load_model(path)
    np.testing.assert_array_equal(found(IMAGES, training=False), old(IMAGES, training=False))
    assert names in (None, NAMES)
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("names", [["a", "b"], ["a", "a", "b"], "abc", [1, 2, 3], ["a"] * 4])
def test_names_that_do_not_fit_are_refused(tmp_path, names):
    with pytest.raises(ValueError, match="class_names: expected 3 different names, one for"):
        save_model(classifier(), tmp_path / "m.keras", names)
    assert not list(tmp_path.iterdir())
    save_model(classifier(), tmp_path / "m.keras", NAMES)
    files.names_file(tmp_path / "m.keras").write_text(json.dumps(names))
    with pytest.raises(ValueError, match=r"path: expected 3 different names.*delete that file"):
        load_model(tmp_path / "m.keras")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut"])
@pytest.mark.parametrize("name", ["m.keras", "m.h5", "m.png"])
def test_what_is_no_model_gets_one_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"path: expected a Keras model .*{name}") as error:
        load_model(tmp_path / name)
    assert "\n" not in str(error.value)


def test_other_paths(tmp_path):
    for path in (tmp_path, tmp_path / "none.keras"):
        with pytest.raises(FileNotFoundError, match="path: expected a file with a Keras model"):
            load_model(path)
    with pytest.raises(ValueError, match=r"path: expected a file name that ends in \.keras, got"):
        save_model(classifier(), tmp_path / "m.h5", NAMES)


def test_a_lambda_is_not_run(tmp_path):
    model = classifier(layers.Lambda(lambda x: 2 * x))
    model.save(tmp_path / "m.keras")
    with pytest.raises(ValueError, match="without Lambda, got"):
        load_model(tmp_path / "m.keras")


def test_a_lack_of_memory_is_called_so(tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    path.write_bytes(b"whole")

    def load(*arguments, **settings):
        raise MemoryError

    monkeypatch.setattr(keras.saving, "load_model", load)
    with pytest.raises(MemoryError):
        load_model(path)
