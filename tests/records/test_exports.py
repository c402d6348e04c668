"""Labels brought to other tools, and read back by them as far as they are at hand."""

import csv
import hashlib
import json
import os
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from emoc_tf import REJECT, SKIP, Task
from emoc_tf.data import ImageFolder
from emoc_tf.data.pixels import factor_to_pixels
from emoc_tf.records import exports
from emoc_tf.records.labels import read_labels
from emoc_tf.records.placing import write_png
from emoc_tf.records.queried import IMAGE_COLUMNS, read_texts
from tests.data import pictures
from tests.records import tasks

NAME = 'a "wild", bird & <co>'


@pytest.fixture(scope="module")
def answered(tmp_path_factory):
    """An exploration of a folder, the images it labelled by path, and its run folder."""
    root = tmp_path_factory.mktemp("export")
    images = tasks.pictures.make_folder(root / "my images")
    pictures.write(images / "unlabelled" / "deep" / "a.png", 77)  # a.png a third time
    pictures.write(images / "unlabelled" / "a.jpg", 78)  # and its stem with another ending
    found = tasks.exploration(tasks.folder_task(images))
    for labels in ([NAME, NAME], ["dog", SKIP], ["cat", REJECT], ["ship", "ship"]):
        tasks.answer(found, labels)
    found.undo()
    while found.state.candidate_mask.any() and len(found.labels[found.labels == SKIP]) > 4:
        tasks.answer(found, ["dog", "cat"])
    found.correct([int(np.flatnonzero(found.labels == SKIP)[0])], [NAME])
    found.rename(0, "Cat")
    paths, labels = found.task.images.paths, found.labels
    expected = {paths[i]: found.class_names[labels[i]] for i in np.flatnonzero(labels >= 0)}
    assert len(expected) > 10 and set(expected.values()) == {"Cat", "dog", NAME}
    return found, expected, tasks.leave(root, found)


def test_what_is_read_is_what_the_exploration_says(answered):
    found, expected, run = answered
    labels = read_labels(run)
    assert {each.path: each.label for each in labels.labelled} == expected
    assert labels.answered == set(np.flatnonzero(found.labels != SKIP).tolist())
    kinds = {each.kind for each in labels.labelled}
    assert kinds == {"start", "query", "correction"}
    for each in labels.labelled:
        assert (each.time is None) == (each.kind == "start")
        content = (labels.folder / each.path).read_bytes()
        assert each.sha256 == hashlib.sha256(content).hexdigest()
    assert {each.guess for each in labels.labelled if each.kind == "query"} <= {"Cat", "dog", NAME}


@pytest.mark.parametrize("name", ["csv", "jsonl"])
@pytest.mark.parametrize("beside", [True, False])
def test_lists_are_read_by_the_library(answered, tmp_path, name, beside):
    found, expected, run = answered
    root = found.task.images.root
    output = root / f"out.{name}" if beside else tmp_path / "lists" / f"out.{name}"
    target, count = exports.export(run, name, output)
    try:
        again = ImageFolder(target, 8)
        text = target.read_text()
    finally:
        target.unlink()
    read = {
        os.path.relpath(again.root / path, root): again.class_names[label]
        for path, label in zip(again.paths, again.labels, strict=True)
    }
    assert read == expected and count == len(expected)
    first = (
        next(csv.DictReader(text.splitlines()))
        if name == "csv"
        else json.loads(text[: text.index("\n")])
    )
    assert list(first)[:3] == ["path", "label", "sha256"]
    assert os.path.isabs(first["path"]) != beside


@pytest.mark.parametrize("way", ["hardlink", "symlink", "copy"])
def test_class_folders_are_read_by_the_library(answered, tmp_path, way):
    found, expected, run = answered
    target, _ = exports.export(run, "folders", tmp_path / "out", way=way)
    files = [file for file in target.rglob("[!.]*") if not file.is_dir()]
    assert sorted(file.parent.name for file in files) == sorted(expected.values())
    root = found.task.images.root
    wanted = {(hashlib.sha256((root / p).read_bytes()).hexdigest(), c) for p, c in expected.items()}
    got = {(hashlib.sha256(f.read_bytes()).hexdigest(), f.parent.name) for f in files}
    assert got == wanted
    assert {file.is_symlink() for file in files} == {way == "symlink"}
    assert {file.stat().st_nlink > 1 for file in files if way != "symlink"} <= {way == "hardlink"}
    if way != "symlink":
        again = ImageFolder(target, 8)
        assert len(again) == len(expected) and set(again.class_names) == set(expected.values())


@pytest.mark.parametrize("name", ["folders", "fiftyone", "imagefolder"])
@pytest.mark.filterwarnings("ignore:.* left out")
def test_an_export_into_the_folder_of_images_is_no_part_of_it(tmp_path, name):
    """Else what people said would be another class tomorrow, or none."""
    found = tasks.exploration(tasks.folder_task(tmp_path / "images"))
    tasks.answer(found, ["owl", "cat"])
    run = tasks.leave(tmp_path / "images" / "out", found)
    target, count = exports.export(run, name)
    again = tasks.again(tmp_path / "images")
    assert again.images.paths == found.task.images.paths
    assert again.labels.tolist() == found.task.labels.tolist()
    inside = target.relative_to(tmp_path / "images").as_posix()
    assert dict(again.images.left_out)[inside] == "copies, written by emoc_tf: read alone"
    assert len(ImageFolder(target, 8)) == count


@pytest.mark.parametrize("name", ["csv", "folders"])
@pytest.mark.filterwarnings("ignore:.*(left out|no longer in the folder)")
def test_what_is_gone_is_exported_when_it_is_back(tmp_path, name):
    """Also where a store keeps its place."""
    root = tmp_path / "images"
    found = tasks.exploration(tasks.folder_task(root))
    arrays, counts = found.save(), []
    for day, there in enumerate([True, False, True]):
        if day:
            where = root / "cat/a.png", tmp_path / "away.png"
            os.rename(*(where[::-1] if there else where))
        task = Task.from_folder(root, 8, store=tmp_path / "store")
        assert task.images.gone == (() if there else (task.images.paths.index("cat/a.png"),))
        again = tasks.exploration(task)
        if day == 0:
            index = task.images.paths.index("cat/a.png")
            again.correct([index], ["owl"])
        else:
            again.restore(arrays, None, None)
        arrays = again.save()
        run = tasks.leave(tmp_path / str(day), again)
        target, count = exports.export(run, name)
        assert len(ImageFolder(target, 8)) == count
        rows = [row for row in read_texts(run / "images.csv", IMAGE_COLUMNS)
                if row["path"] == "cat/a.png"]  # fmt: skip
        assert [row["image"] for row in rows] == [str(index) if there else ""]
        counts.append(count)
    assert counts[0] == counts[2] == counts[1] + 1


def test_a_run_without_a_label_exports_nothing(tmp_path):
    images = np.random.default_rng(0).integers(256, size=(12, 8, 8, 3), dtype=np.uint8)
    found = tasks.exploration(Task(images))
    with pytest.raises(ValueError, match="run: expected one with a labelled image, got "):
        exports.export(tasks.leave(tmp_path, found), "csv")


def test_nothing_is_overwritten(answered, tmp_path):
    _, _, run = answered
    for name in exports.FORMATS:
        target = tmp_path / name
        target.mkdir()
        (target / "thesis.tex").write_text("mine")
        with pytest.raises(ValueError, match="output: expected a new place"):
            exports.export(run, name, target)
        (tmp_path / "file").write_text("mine")
        with pytest.raises(ValueError, match="output: expected a new place"):
            exports.export(run, name, tmp_path / "file")
    assert (tmp_path / "csv/thesis.tex").read_text() == (tmp_path / "file").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*exports.FORMATS, "file"])


def test_hugging_face_folders_tell_name_and_label(answered, tmp_path):
    _, expected, run = answered
    target, _ = exports.export(run, "imagefolder", tmp_path / "out")
    lines = [
        json.loads(line) for line in (target / "train/metadata.jsonl").read_text().splitlines()
    ]
    assert {line["path"]: line["label"] for line in lines} == expected
    assert "image" not in lines[0]  # it would take the place of the images themselves
    names = [line["file_name"] for line in lines]
    assert len({name.casefold() for name in names}) == len(names)
    assert {file.name for file in (target / "train").iterdir()} == {*names, "metadata.jsonl"}


def test_fiftyone_finds_each_file_by_its_stem(answered, tmp_path):
    _, expected, run = answered
    target, _ = exports.export(run, "fiftyone", tmp_path / "out")
    content = json.loads((target / "labels.json").read_text())
    files = {os.path.splitext(file.name)[0]: file for file in (target / "data").iterdir()}
    assert files.keys() == content["labels"].keys() and len(files) == len(expected)
    got = sorted(content["classes"][i] for i in content["labels"].values())
    assert got == sorted(expected.values())


def test_label_studio_tasks_name_files_answers_and_guesses(answered, tmp_path):
    found, expected, run = answered
    target, _ = exports.export(run, "labelstudio", tmp_path / "out")
    content = json.loads((target / "tasks.json").read_text())
    root = xml.etree.ElementTree.parse(target / "label_config.xml").getroot()
    choices = {choice.get("value") for choice in root.iter("Choice")}
    assert choices == set(expected.values())
    assert {task["data"]["path"] for task in content} == set(expected)
    folder = found.task.images.root.name.replace(" ", "%20")
    for task in content:
        assert task["data"]["image"].startswith(f"/data/local-files/?d={folder}/")
        (result,) = task["annotations"][0]["result"]
        assert result["value"]["choices"] == [expected[task["data"]["path"]]]
        assert result["from_name"] == root.find("Choices").get("name")
        assert result["to_name"] == root.find("Image").get("name")
    guesses = [task for task in content if "predictions" in task]
    assert len(guesses) == len([e for e in read_labels(run).labelled if e.guess])


def test_arrays_become_png_files_where_files_are_needed(tmp_path):
    task = tasks.array_task()
    found = tasks.exploration(task)
    tasks.answer(found, ["bird", 0])
    run = tasks.leave(tmp_path, found)
    target, _ = exports.export(run, "csv")
    assert target == run / "exports" / "labels.csv"
    rows = list(csv.DictReader(target.read_text().splitlines()))
    chosen = np.flatnonzero(found.labels >= 0)
    assert [row["path"] for row in rows] == [str(i) for i in chosen]
    with pytest.raises(
        ValueError, match=r"images: expected the run's images.*formats csv and jsonl"
    ):
        exports.export(run, "folders")
    for name in ("folders", "fiftyone", "imagefolder", "labelstudio"):
        target, _ = exports.export(run, name, images=task.images)
        files = {int(file.stem): file for file in target.rglob("*.png")}
        assert files.keys() == set(chosen.tolist())
        for i, file in files.items():
            np.testing.assert_array_equal(np.asarray(Image.open(file)), task.images[i])
    with pytest.raises(ValueError, match="images: expected those of the run, at least"):
        exports.export(run, "fiftyone", tmp_path / "x", images=task.images[:4])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255)])
def test_floats_become_the_pixels_they_stand_for(tmp_path, low, high):
    pixels = np.random.default_rng(0).integers(256, size=(3, 4, 4, 1), dtype=np.uint8)
    pixels[0, 0, 0], pixels[0, 0, 1] = 0, 255
    images = (low + pixels / 255 * (high - low)).astype(np.float32)
    write_png(images[1], tmp_path / "a.png", factor_to_pixels(images, None))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), pixels[1, :, :, 0])


def test_what_is_missing_is_told_in_one_sentence(answered, tmp_path):
    found, expected, run = answered
    with pytest.raises(ValueError, match="run: expected the folder of one run"):
        exports.export(tmp_path, "csv")
    with pytest.raises(ValueError, match="format: expected one of"):
        exports.export(run, "xml")
    with pytest.raises(ValueError, match="images: expected a folder of images, got"):
        exports.export(run, "folders", tmp_path / "x", images=tmp_path / "nowhere")
    # The folder was moved: told, or found where it is now.
    root = found.task.images.root
    moved = Path(f"{root} moved")
    root.rename(moved)
    try:
        with pytest.raises(ValueError, match=r"that are not there, .*--images=FOLDER"):
            exports.export(run, "folders", tmp_path / "x")
        _, count = exports.export(run, "folders", tmp_path / "x", images=moved)
        assert count == len(expected)
        target, _ = exports.export(run, "csv", tmp_path / "x.csv")
        rows = csv.DictReader(target.read_text().splitlines())
        assert {row["path"] for row in rows} == set(expected)
        path = next(iter(expected))
        content = (moved / path).read_bytes()
        pictures.write(moved / path, 4711)
        with pytest.raises(ValueError, match="that are not what was labelled"):
            exports.export(run, "fiftyone", tmp_path / "y", images=moved)
        (moved / path).write_bytes(content)
    finally:
        moved.rename(root)
    (run / "queried.csv").rename(run / "kept")
    with pytest.raises(ValueError, match=r"run: expected queried.csv in"):
        exports.export(run, "csv", tmp_path / "z.csv")
    (run / "kept").rename(run / "queried.csv")


@pytest.mark.parametrize("name", ["a/b", ".hidden", "Unlabelled"])
def test_names_that_are_no_folders_are_refused_only_there(tmp_path, name):
    found = tasks.exploration(tasks.array_task())
    tasks.answer(found, [name, 0])
    run = tasks.leave(tmp_path, found)
    with pytest.raises(ValueError, match="format: expected class names that can be names of fold"):
        exports.export(run, "folders", images=found.task.images)
    assert not (run / "exports" / "folders").exists()
    exports.export(run, "fiftyone", images=found.task.images)


def test_other_arrays_than_those_that_were_labelled_are_refused(tmp_path):
    task = tasks.array_task()
    found = tasks.exploration(task)
    tasks.answer(found, ["bird", 0])
    run = tasks.leave(tmp_path, found)
    others = [task.images[::-1], np.roll(task.images, 1, axis=0), task.images // 2]
    others += [np.concatenate([task.images, task.images[:2]])]
    for images in others:
        with pytest.raises(ValueError, match=r"^images: expected those of the run's task"):
            exports.export(run, "folders", images=images)
    assert exports.export(run, "folders", images=task.images.copy())[1] == 6
