"""Labels of runs that simulate, brought to other tools."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoc_tf import SKIP, ExplorationConfig, streams
from emoc_tf.data import ImageData, named
from emoc_tf.exploration.loop import Exploration
from emoc_tf.records import exports
from emoc_tf.records.final_model import save_final_model
from emoc_tf.records.predictions import run_predictions
from tests.data import pictures
from tests.records import tasks


def test_simulated_runs_name_images_by_their_index_in_the_data(tmp_path):
    config = ExplorationConfig(
        known_classes=2, novel_classes=2, pool_per_class=6, set_size=3, num_candidate_sets=4,
        pretrain_iterations=1, update_iterations=1,
    )  # fmt: skip
    found = Exploration(config)
    found.reset(5)
    found.advance(int(np.flatnonzero(found.state.candidate_mask)[0]))
    run = tasks.leave(tmp_path, found, config)
    train, _ = named.load("digits")
    target, count = exports.export(run, "folders")
    assert count == 3
    for file in target.rglob("*.png"):
        i = int(file.stem)
        assert file.parent.name == train.class_names[train.labels[i]]
        np.testing.assert_array_equal(np.asarray(Image.open(file)), train.images[i, :, :, 0])
    data = ImageData(train.images[::-1].copy(), train.labels[::-1], train.class_names)
    found = Exploration(config, (data, data))
    found.reset(5)
    found.advance(int(np.flatnonzero(found.state.candidate_mask)[0]))
    run = tasks.leave(tmp_path / "own", found, config)
    with pytest.raises(ValueError, match="images: expected the run's own images"):
        exports.export(run, "folders")
    target, _ = exports.export(run, "folders", images=data)
    (file, *_) = target.rglob("*.png")
    np.testing.assert_array_equal(
        np.asarray(Image.open(file)), data.images[int(file.stem), :, :, 0]
    )


@pytest.mark.filterwarnings("ignore:.*left out")
@pytest.mark.parametrize("parts", [False, True])
def test_simulated_runs_of_folders_name_files(tmp_path, parts):
    root = tmp_path / "images"
    inside = root / "train" if parts else root
    for i in range(24):
        pictures.write(inside / "abc"[i % 3] / f"{i}.png", i)
    for i in range(3 * parts):
        pictures.write(root / "test" / "abc"[i] / f"{i}.png", 100 + i)
    (root / "unlabelled.png").write_bytes((inside / "a/0.png").read_bytes())  # left out
    config = tasks.CONFIG.replace(
        dataset=f"folder:{root}?image_size=8", known_classes=2, novel_classes=1,
        initial_per_class=2, pool_per_class=4, sampler="single_class",
    )  # fmt: skip
    found = Exploration(config)
    found.reset(streams.root_of(0))
    for _ in range(2):
        found.advance(int(np.flatnonzero(found.state.candidate_mask)[0]))
    run = tasks.leave(tmp_path, found, config)
    target, count = exports.export(run, "csv")
    assert count == 4
    for row in csv.DictReader(target.read_text().splitlines()):
        assert Path(row["path"]).parent == inside / row["label"]
        index = int(row["image"])
        np.testing.assert_array_equal(
            np.asarray(Image.open(row["path"])), found.episode.raw_images[index]
        )
    target, _ = exports.export(run, "folders", way="symlink")
    assert all(file.resolve().is_relative_to(inside) for file in target.rglob("*.png"))
    save_final_model(found, run)
    rows = run_predictions(run)
    assert {row["image"] for row in rows} == set(np.flatnonzero(found.labels == SKIP).tolist())
    for row in rows:
        index = row["image"]
        np.testing.assert_array_equal(
            np.asarray(Image.open(row["path"])), found.episode.raw_images[index]
        )
