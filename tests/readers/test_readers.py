"""Exports, read by the tools that they are for. They come with the extra `readers`."""

import json

import datasets
import numpy as np
import pytest
from label_studio_sdk.label_interface import LabelInterface

from emoc_tf.records.exports import export
from emoc_tf.records.queried import AnswerFiles
from emoc_tf.records.run_folder import RunFolder
from tests.records import tasks

# What may mean something to a reader: markup, quotes, commas, other scripts, numbers.
NAMES = ['a "wild", <bird> & co', "日本 – ö", "7", " two\nlines"]


@pytest.fixture(scope="module", params=["folder", "arrays"])
def run(request, tmp_path_factory):
    """An exploration, its run folder, what its formats need, and the images by class."""
    path = tmp_path_factory.mktemp("run")
    task = (
        tasks.array_task() if request.param == "arrays" else tasks.folder_task(path / "my images")
    )
    found = tasks.exploration(task)
    for name in NAMES:
        tasks.answer(found, [name, "cat"])
    folder = RunFolder(path, "random", 0, tasks.CONFIG)
    folder.claim(task=task)
    AnswerFiles(folder.path, found)
    given = {"images": task.images} if request.param == "arrays" else {}
    labels = found.labels
    expected = [
        (found.class_names[labels[i]], task.images[np.array([i])][0])
        for i in np.flatnonzero(labels >= 0)
    ]
    return folder.path, given, expected


def assert_same(read, expected):
    """Asserts that pairs of class and pixels are the same, in any order."""

    def key(pair):
        return pair[0], np.asarray(pair[1]).tobytes()

    assert sorted(map(key, read)) == sorted(map(key, expected))


def test_hugging_face_reads_images_and_labels(run, tmp_path, monkeypatch):
    folder, given, expected = run
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    output, count = export(folder, "imagefolder", tmp_path / "out", **given)
    read = datasets.load_dataset(
        "imagefolder", data_dir=str(output), cache_dir=str(tmp_path / "cache")
    )["train"]
    assert len(read) == count == len(expected)
    assert_same([(row["label"], np.asarray(row["image"].convert("RGB"))) for row in read], expected)
    assert {row["kind"] for row in read} == {"start", "query"}


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_hugging_face_reads_lists(run, tmp_path, format):
    folder, given, expected = run
    output, count = export(folder, format, tmp_path / f"labels.{format}", **given)
    read = datasets.load_dataset(
        {"csv": "csv", "jsonl": "json"}[format], data_files=str(output),
        cache_dir=str(tmp_path / "cache"),
    )["train"]  # fmt: skip
    assert len(read) == count
    assert sorted(str(label) for label in read["label"]) == sorted(name for name, _ in expected)


def test_label_studio_takes_the_configuration_and_the_tasks(run, tmp_path):
    folder, given, expected = run
    output, count = export(folder, "labelstudio", tmp_path / "out", **given)
    told = json.loads((output / "tasks.json").read_text(encoding="utf-8"))
    interface = LabelInterface((output / "label_config.xml").read_text(encoding="utf-8"))
    interface.validate()
    choices = interface.get_control("label").labels
    assert len(told) == count == len(expected)
    named = sorted(task["annotations"][0]["result"][0]["value"]["choices"][0] for task in told)
    assert named == sorted(name for name, _ in expected)
    assert {" ".join(name.split()) for name in named} == {" ".join(c.split()) for c in choices}
    for task in told:
        assert interface.validate_task({"data": task["data"]})
        assert all(map(interface.validate_annotation, task["annotations"]))
        assert all(map(interface.validate_prediction, task.get("predictions", ())))
        for answer in [*task["annotations"], *task.get("predictions", ())]:
            for result in answer["result"]:
                assert interface.validate_region(result)


def test_a_change_of_what_is_exported_would_be_seen(run, tmp_path):
    """The SDK refuses what its configuration does not have."""
    folder, given, _ = run
    output, _ = export(folder, "labelstudio", tmp_path / "out", **given)
    interface = LabelInterface((output / "label_config.xml").read_text(encoding="utf-8"))
    result = json.loads((output / "tasks.json").read_text(encoding="utf-8"))[0]["annotations"][0]
    (region,) = result["result"]
    assert not interface.validate_region({**region, "value": {"choices": ["nobody's"]}})
    assert not interface.validate_region({**region, "from_name": "other"})
