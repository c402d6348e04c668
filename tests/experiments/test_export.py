"""Models saved and started from, and what is exported, by the commands as users run them."""

import csv

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from rich.console import Console

from emoc_tf.experiments import compare as compare_binary
from emoc_tf.experiments import export as export_binary
from emoc_tf.models.files import load_model, save_model
from emoc_tf.records.predictions import run_predictions
from emoc_tf.records.run_record import read_run
from emoc_tf.running.grid import run_grid
from tests.experiments.test_binaries import TINY, run
from tests.records import tasks


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run that wrote its model."""
    folder = tmp_path_factory.mktemp("saved")
    result = run("explore", *TINY, "--agent=random", "--save_model", f"--output_dir={folder}")
    assert result.returncode == 0, result.stderr
    return folder / "random" / "0"


def test_the_model_is_there_and_the_command_exports(saved):
    model, names = load_model(saved / "model.keras")
    assert model.output_shape[-1] == len(names) >= 2
    result = run("export", saved, "--format=csv")
    assert result.returncode == 0, result.stderr
    assert f"6 labelled images: {saved / 'exports' / 'labels.csv'}" in result.stdout
    result = run("export", saved.parents[1], "--predictions")
    assert result.returncode == 0, result.stderr
    text = (saved / "exports" / "predictions.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 4 * 6 - 6 and {row["class"] for row in rows} <= set(names)
    result = run("export", saved, "--format=csv")
    assert result.returncode == 1 and result.stderr.startswith("error: output: expected a new pl")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "format: expected --predictions or one of --format"),
        ({"format": "csv", "predictions": True}, "format: .*got both"),
        ({"predictions": True, "images": "/nowhere"}, "images: expected the folder of images"),
    ],
)
def test_what_is_missing_is_told(saved, tmp_path, settings, message):
    with flagsaver.flagsaver(output=str(tmp_path / "new"), **settings):
        flags.FLAGS.mark_as_parsed()
        with pytest.raises(ValueError, match=message):
            export_binary.main(["export", str(saved)])
        with pytest.raises(ValueError, match="arguments: expected one run folder"):
            export_binary.main(["export"])


def test_a_run_starts_from_a_saved_model(saved, tmp_path):
    model, names = load_model(saved / "model.keras")
    tiny = [argument for argument in TINY if not argument.startswith("--known_classes")]
    given = dict(argument[2:].split("=") for argument in tiny)
    given |= {"model": str(saved / "model.keras"), "max_steps": "1", "output_dir": str(tmp_path)}
    given["save_model"] = "true"
    with flagsaver.as_parsed(**given):
        flags.FLAGS.mark_as_parsed()
        grid = compare_binary.GRID()
    assert grid.config.known_classes == len(names)
    assert not run_grid(grid, ["random"], [4], Console(quiet=True))
    record = read_run(tmp_path / "random" / "4")
    assert record.finished
    classes = [int(name) for name in names]  # digits are called so
    assert list(record.classes[: len(names)]) == classes
    rows = run_predictions(tmp_path / "random" / "4")
    assert len(rows) == (len(names) + 2) * 6 - 3
    env = grid.make_environment()
    env.reset(seed=4)
    exploration = env.exploration
    assert [exploration.class_names[c] for c in env.state.known_classes] == names
    images = exploration.episode.raw_images[:3].astype(np.float32)
    # Pretraining of no iteration would leave exactly what was saved.
    assert exploration.initial_model(images).shape == model(images).shape
    np.testing.assert_array_equal(exploration.initial_model(images), model(images))


@pytest.mark.parametrize(
    ("names", "settings", "message"),
    [
        (["0", "zebra"], {}, r"model: expected one whose classes 'digits' has, .*\['zebra'\]"),
        (["0", "1"], {"known_classes": 3}, "known_classes: expected 2, the classes of"),
        (None, {}, "model: expected the names of its classes beside"),
    ],
)
def test_a_model_of_other_classes_is_refused_before_any_work(tmp_path, names, settings, message):
    file = tmp_path / "model.keras"
    save_model(tasks.model(2, (8, 8, 1)), file, names or ["0", "1"])
    if names is None:
        (tmp_path / "model.classes.json").unlink()
    given = {
        "output_dir": str(tmp_path / "out"),
        "model": str(file),
        "novel_classes": 1,
        **settings,
    }
    with flagsaver.flagsaver(**given):
        flags.FLAGS.mark_as_parsed()
        with pytest.raises(ValueError, match=message):
            compare_binary.main(["compare"])
    assert not (tmp_path / "out").exists()


def test_a_model_that_is_not_there_is_told(tmp_path):
    given = {"output_dir": str(tmp_path / "out"), "model": str(tmp_path / "model.keras")}
    with flagsaver.flagsaver(**given):
        flags.FLAGS.mark_as_parsed()
        with pytest.raises(FileNotFoundError, match="path: expected a file with a Keras model"):
            compare_binary.main(["compare"])
