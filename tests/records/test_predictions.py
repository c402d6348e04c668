"""What the model of a run says about images without an answer."""

import csv
import json
import shutil

import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig
from emoc_tf.data import ImageData, named
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.models.files import save_model
from emoc_tf.records.final_model import MODEL, final_model, save_final_model
from emoc_tf.records.labels import read_labels
from emoc_tf.records.predictions import export_predictions, predictions, run_predictions
from emoc_tf.records.queried import AnswerFiles
from emoc_tf.records.run_folder import RunFolder
from tests.data import pictures
from tests.records import tasks
from tests.records.tasks import leave

CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=2, pool_per_class=6, set_size=3, num_candidate_sets=4,
    pretrain_iterations=2, update_iterations=2,
)  # fmt: skip


class Counted:
    """An array-like that tells how much was read at once."""

    def __init__(self, images):
        self.images, self.most = images, 0
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.most = max(self.most, len(index))
        return self.images[index]


def ending_in(model, layer):
    return keras.Model(model.inputs, layer(model.outputs[0]))


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("indices", [None, [5, 3, 600]])
def test_the_two_best_classes_of_each_image(softmax, indices):
    model = tasks.model(4)
    images = np.random.default_rng(0).integers(256, size=(700, 8, 8, 3), dtype=np.uint8)
    logits = model.predict(images.astype(np.float32), verbose=0).astype(np.float64)
    if softmax:
        model = ending_in(model, keras.layers.Activation("softmax"))
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    counted = Counted(images)
    found = predictions(model, counted, ("a", "b", "c", "d"), indices)
    assert counted.most <= 256
    wanted = range(700) if indices is None else sorted(indices)
    assert [row["image"] for row in found] == list(wanted) and len(found) == len(wanted)
    for row in found:
        p = posterior[row["image"]]
        first, second = np.argsort(-p)[:2]
        assert (row["class"], row["second_class"]) == ("abcd"[first], "abcd"[second])
        np.testing.assert_allclose(
            [row["posterior"], row["second_posterior"]], p[[first, second]], atol=2e-6
        )


def test_one_class_has_no_second():
    (row,) = predictions(tasks.model(1), np.zeros((1, 8, 8, 3), np.uint8), ["a"])
    assert row == {
        "image": 0, "class": "a", "posterior": 1.0, "second_class": None, "second_posterior": None,
    }  # fmt: skip
    assert not len(predictions(tasks.model(2), np.zeros((1, 8, 8, 3), np.uint8), ["a", "b"], []))


@pytest.mark.parametrize(
    ("model", "names", "size", "message"),
    [
        (2, ["a"], 8, "class_names: expected 2 names"),
        (2, "ab", 8, "class_names: expected 2 names"),
        (2, ["a", "b"], 9, r"images: expected shape \(n, 8, 8, 3\)"),
    ],
)
def test_what_does_not_fit_is_told(model, names, size, message):
    with pytest.raises(ValueError, match=message):
        predictions(tasks.model(model), np.zeros((1, size, 8, 3), np.uint8), names)


def test_a_model_of_anything_else_is_refused():
    model = ending_in(tasks.model(2), keras.layers.ReLU())
    with pytest.raises(ValueError, match="model: expected one that ends in a linear Dense layer"):
        predictions(model, np.zeros((1, 8, 8, 3), np.uint8), ["a", "b"])
    for other in (None, keras.Sequential([keras.layers.Dense(2)])):
        with pytest.raises(ValueError, match=r"model: expected a built keras.Model"):
            predictions(other, np.zeros((1, 8, 8, 3), np.uint8), ["a", "b"])


@pytest.fixture
def run(tmp_path):
    """An exploration of a folder and its run folder, with its model."""
    found = tasks.exploration(tasks.folder_task(tmp_path / "images"))
    tasks.answer(found, ["bird", "dog"])
    tasks.answer(found, ["bird", -2])
    folder = leave(tmp_path, found)
    save_final_model(found, folder)
    return found, folder


def test_images_without_an_answer_get_predictions(run):
    found, folder = run
    (file, lines), count = export_predictions(folder)
    assert file == folder / "exports" / "predictions.csv"
    rows = list(csv.DictReader(file.read_text().splitlines()))
    waiting = np.flatnonzero(found.labels == -1)
    assert count == len(rows) == len(waiting)
    root, paths = found.task.images.root, found.task.images.paths
    assert [row["path"] for row in rows] == [str(root / paths[i]) for i in waiting]
    assert [int(row["image"]) for row in rows] == waiting.tolist()
    best = found.state.probabilities[waiting]
    names = [found.class_names[c] for c in found.state.known_classes]
    assert [row["class"] for row in rows] == [names[c] for c in best.argmax(axis=1)]
    np.testing.assert_allclose([float(r["posterior"]) for r in rows], best.max(axis=1), atol=1e-5)
    told = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["second_class"] for row in told] == [row["second_class"] for row in rows]
    with pytest.raises(ValueError, match="output: expected a new place"):
        export_predictions(folder)


def test_a_folder_may_be_another_one_or_moved(run, tmp_path):
    found, folder = run
    for i in range(3):
        pictures.write(tmp_path / "others" / f"{i}.png", 500 + i)
    answered = found.task.images.root / found.task.images.paths[int(found.journal[0].indices[0])]
    shutil.copy(answered, tmp_path / "others" / "known by its content.png")
    rows = run_predictions(folder, tmp_path / "others")
    assert [row["path"].rsplit("/")[-1] for row in rows] == ["0.png", "1.png", "2.png"]
    assert {row["image"] for row in rows} == {None}
    own = run_predictions(folder)
    moved = found.task.images.root.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match="images: expected the folder of images"):
        run_predictions(folder)
    again = run_predictions(folder, moved)
    assert [(r["image"], r["class"]) for r in again] == [(r["image"], r["class"]) for r in own]


def test_arrays_are_given_again(tmp_path):
    task = tasks.array_task()
    found = tasks.exploration(task)
    tasks.answer(found, ["bird", 0])
    folder = leave(tmp_path, found)
    with pytest.raises(ValueError, match=r"run: expected a model, got none.*--save_model"):
        run_predictions(folder)
    save_final_model(found, folder)
    with pytest.raises(ValueError, match="images: expected the images of the run's task"):
        run_predictions(folder)
    rows = run_predictions(folder, task.images)
    assert [row["image"] for row in rows] == np.flatnonzero(found.labels == -1).tolist()
    assert [row["path"] for row in rows] == [str(row["image"]) for row in rows]
    (folder / "model.classes.json").unlink()
    with pytest.raises(ValueError, match="run: expected the names of the model's classes"):
        run_predictions(folder, task.images)


def simulate(folder, data=None):
    env = ActiveExplorationEnv(CONFIG, data=data)
    env.reset(seed=2)
    run = RunFolder(folder, "random", 2, CONFIG)
    run.claim()
    run.start(env.exploration.episode.classes)
    run.write_step(env.outcome, None, {})
    env.step(int(np.flatnonzero(env.action_masks())[0]))
    run.write_step(env.outcome, 0.0, {})
    AnswerFiles(run.path, env.exploration)
    run.save(env.save())
    run.close()
    return env, run.path


@pytest.mark.parametrize("source", ["file", "checkpoint"])
def test_simulated_runs_from_a_file_or_their_checkpoint(tmp_path, source):
    """The named network takes centred pixels; the file takes images as they came."""
    env, folder = simulate(tmp_path)
    if source == "file":
        save_final_model(env.exploration, folder)
        (folder / "checkpoint.npz").unlink()
    rows = run_predictions(folder)
    pool = env.state.pool.labels
    assert [row["image"] for row in rows] == np.flatnonzero(pool == -1).tolist()
    train, _ = named.load("digits")
    best = env.state.probabilities
    names = [env.exploration.class_names[c] for c in env.state.known_classes]
    for row in rows:
        i = row["image"]
        np.testing.assert_array_equal(
            train.images[row["data_index"]], env.exploration.episode.raw_images[i]
        )
        assert row["class"] == names[best[i].argmax()]
        assert abs(row["posterior"] - best[i].max()) < 1e-4


def test_a_task_goes_on_from_its_checkpoint(tmp_path):
    task = tasks.folder_task(tmp_path / "images")
    config = tasks.CONFIG
    env = ActiveExplorationEnv(config, task=task)
    env.reset(seed=0)
    run = RunFolder(tmp_path, "random", 0, config)
    run.claim(task=task)
    run.start(env.exploration.episode.classes, tested=False)
    run.write_step(env.outcome, None, {})
    tasks.answer(env.exploration, ["bird", "dog"])
    AnswerFiles(run.path, env.exploration)
    run.save(env.save())
    rows = run_predictions(run.path)
    assert [r["image"] for r in rows] == np.flatnonzero(env.exploration.labels == -1).tolist()
    best = env.exploration.state.probabilities.argmax(axis=1)
    assert [r["class"] for r in rows] == [("cat", "dog", "bird")[best[r["image"]]] for r in rows]


def test_a_checkpoint_of_another_model_is_told(tmp_path):
    _, folder = simulate(tmp_path)
    content = json.loads((folder / "config.json").read_text())
    content["configuration"]["network"] = "cifar10_quick"
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"run: expected a checkpoint.*let it end with --save_model"
    ):
        run_predictions(folder)


def test_the_file_is_the_model_of_the_run_for_images_as_they_came(tmp_path):
    env, folder = simulate(tmp_path)
    save_final_model(env.exploration, folder)
    model, names = final_model(read_labels(folder))
    assert names == [env.exploration.class_names[c] for c in env.state.known_classes]
    logits = model.predict(env.exploration.episode.raw_images.astype(np.float32), verbose=0)
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(posterior, env.state.probabilities, atol=1e-4)
    save_model(tasks.model(2), folder / MODEL, ["a", "b"])
    with pytest.raises(ValueError, match="images: expected shape"):
        run_predictions(folder)


def by_data_index(env):
    """Returns the data indices of images with a label, and the class of each that waits."""
    pool, indices = env.state.pool.labels, env.exploration.episode.source_indices.tolist()
    names = [env.exploration.class_names[c] for c in env.state.known_classes]
    best = env.state.probabilities.argmax(axis=1)
    waiting = np.flatnonzero(pool == -1)
    return {indices[i] for i in np.flatnonzero(pool != -1)}, {
        indices[i]: names[best[i]] for i in waiting
    }


@pytest.mark.parametrize("data", ["named", "own", "own array"])
def test_arrays_of_simulated_runs_go_by_their_index_in_the_data(tmp_path, data):
    """What was labelled at the start, or asked about, is left out; pool indices count for tasks."""
    train, test = named.load("digits")
    if data != "named":
        train = ImageData(train.images[::-1].copy(), train.labels[::-1], train.class_names)
    env, folder = simulate(tmp_path, None if data == "named" else (train, test))
    save_final_model(env.exploration, folder)
    answered, predicted = by_data_index(env)
    if data == "own array":  # nothing tells which were labelled at the start
        episode = env.exploration.episode
        answered -= set(episode.source_indices[episode.task.labels != -1].tolist())
    expected = [i for i in range(len(train.labels)) if i not in answered]
    rows = run_predictions(folder, train if data == "own" else train.images)
    assert [row["data_index"] for row in rows] == expected
    assert [row["path"] for row in rows] == [str(i) for i in expected]
    assert {row["image"] for row in rows} == {None}
    found = {row["data_index"]: row["class"] for row in rows}
    assert {i: found[i] for i in predicted} == predicted
    with pytest.raises(ValueError, match=r"images: expected those of the run, at least \d+, got 3"):
        run_predictions(folder, train.images[:3])
