import json
import os

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, Answer
from emoc_tf.data.images import ImageData
from emoc_tf.exploration.loop import Exploration
from emoc_tf.records.queried import (
    IMAGE_COLUMNS,
    QUERIED_COLUMNS,
    AnswerFiles,
    read_texts,
)
from tests.records import tasks


def queried(folder):
    return read_texts(folder / "queried.csv", QUERIED_COLUMNS)


def column(rows, name):
    return [row[name] for row in rows]


def test_each_image_that_was_asked_about_has_a_line(tmp_path):
    found = tasks.exploration(tasks.folder_task(tmp_path / "images"))
    out = tmp_path / "run"
    out.mkdir()
    files = AnswerFiles(out, found)
    assert queried(out) == []
    first = tasks.answer(found, [1, SKIP])
    files.write()
    second = tasks.answer(found, Answer([2, REJECT], ['a "wild", bird']))
    files.write()
    rows = queried(out)
    assert column(rows, "image") == [str(i) for i in first + second]
    paths = found.task.images.paths
    assert column(rows, "path") == [paths[i] for i in first + second]
    assert column(rows, "answer") == ["class", "skip", "new class", "reject"]
    assert column(rows, "class_id") == ["1", "", "2", ""]
    assert column(rows, "class_name") == ["dog", "", 'a "wild", bird', ""]
    assert column(rows, "step") == ["1", "1", "2", "2"]
    assert column(rows, "kind") == ["query"] * 4
    assert set(column(rows, "guess_name")) <= {"cat", "dog"} and rows[0]["guess_id"] in "01"
    assert set(column(rows, "taken_back")) == {"0"} and set(column(rows, "data_index")) == {""}
    lines = (out / "journal.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [e.to_dict() for e in found.journal]
    assert all(json.loads(line)["time"] for line in lines)
    assert [lines[int(row["entry"])] for row in rows]
    images = read_texts(out / "images.csv", IMAGE_COLUMNS)
    assert column(images, "path") == list(paths)
    assert column(images, "sha256") == list(found.task.images.sha256)
    assert [r["label"] for r in images if r["path"].startswith("dog/")] == ["dog", "dog"]
    assert {r["answer"] for r in images if r["label"] == ""} == {""}


def test_what_is_taken_back_renamed_and_corrected_shows(tmp_path):
    found = tasks.exploration(tasks.array_task())
    files = AnswerFiles(tmp_path, found)
    taken = tasks.answer(found, ["bird", "bird"])
    files.write()
    found.undo()
    files.write()
    assert column(queried(tmp_path), "taken_back") == ["1", "1"]
    kept = tasks.answer(found, ["fish", 0])  # the id of the bird again
    files.write()
    found.rename(2, "Fish")
    found.correct([kept[1]], [1])
    files.write()
    rows = queried(tmp_path)
    assert column(rows, "image") == [str(i) for i in taken + kept + kept[1:]]
    assert column(rows, "class_name") == ["bird", "bird", "Fish", "cat", "dog"]
    assert column(rows, "class_id") == ["2", "2", "2", "0", "1"]
    assert column(rows, "kind") == ["query"] * 4 + ["correction"]
    assert column(rows, "taken_back") == ["1", "1", "0", "0", "0"]
    found.merge(2, 1)
    files.write()
    rows = queried(tmp_path)
    assert column(rows, "class_name") == ["bird", "bird", "dog", "cat", "dog"]
    assert column(rows, "class_id") == ["2", "2", "1", "0", "1"]
    found.merge(0, 1)
    files.write()
    images = read_texts(tmp_path / "images.csv", IMAGE_COLUMNS)
    assert column(images, "label") == ["dog"] * 4 and column(images, "image") == list("0123")


@pytest.mark.parametrize("when", [0, 1, 3])
def test_files_begun_later_are_those_written_step_by_step(tmp_path, when):
    """As after a resumption."""
    found = tasks.exploration(tasks.array_task(), audit=2)
    files = AnswerFiles(tmp_path, found)
    found.answer(found.queries[0], ["bird", 0])
    calls = [
        lambda: tasks.answer(found, ["bird", SKIP]),
        lambda: tasks.answer(found, ["cat", "worm"]),
        found.undo,
        lambda: tasks.answer(found, ["frog", "bird"]),
        lambda: found.rename(2, "Bird"),
    ]
    for i, call in enumerate(calls):
        call()
        if i == when:
            files.begin()
        else:
            files.write()
    names = ("queried.csv", "journal.jsonl", "images.csv")
    written = [(tmp_path / name).read_bytes() for name in names]
    AnswerFiles(tmp_path, found)
    assert [(tmp_path / name).read_bytes() for name in names] == written
    assert column(queried(tmp_path), "kind")[:3] == ["audit", "audit", "query"]


def test_simulated_runs_tell_the_index_into_their_data(tmp_path):
    data = _labelled()
    found = Exploration(
        tasks.CONFIG.replace(
            known_classes=2, novel_classes=1, initial_per_class=3, pool_per_class=4
        ),
        (data, data),
    )
    found.reset(3)
    files = AnswerFiles(tmp_path, found)
    for _ in range(3):
        found.advance(int(np.flatnonzero(found.state.candidate_mask)[0]))
        files.write()
    rows = queried(tmp_path)
    assert len(rows) == 6
    for row in rows:
        index = int(row["data_index"])
        assert data.class_names[data.labels[index]] == row["class_name"]
        assert data.labels[index] == int(row["class_id"])
        np.testing.assert_array_equal(
            data.images[index], found.episode.raw_images[int(row["image"])]
        )
        assert row["path"] == ""
    new = [row["class_id"] for row in rows if row["answer"] == "new class"]
    assert len(set(new)) == 1 and new[0] == str(found.episode.classes[2])
    assert not (tmp_path / "journal.jsonl").exists() and not (tmp_path / "images.csv").exists()


def _labelled():
    rng = np.random.default_rng(1)
    pixels = rng.integers(256, size=(30, 6, 6, 1), dtype=np.uint8)
    return ImageData(pixels, np.arange(30) % 3, ("a", "b", "c"))


def test_a_line_cut_short_is_none_and_another_file_is_told(tmp_path):
    found = tasks.exploration(tasks.array_task())
    AnswerFiles(tmp_path, found)
    tasks.answer(found, ["a\nb", "c,d"])
    AnswerFiles(tmp_path, found)
    file = tmp_path / "queried.csv"
    assert column(queried(tmp_path), "class_name") == ["a\nb", "c,d"]
    file.write_bytes(file.read_bytes()[:-3])
    assert column(queried(tmp_path), "class_name") == ["a\nb"]
    file.write_text("step,image\n1,2\n")
    with pytest.raises(ValueError, match=r"queried.csv: expected columns"):
        queried(tmp_path)


@pytest.mark.filterwarnings("ignore:task")
@pytest.mark.parametrize("times", [1, 2])
def test_what_was_said_of_images_that_are_gone_stays_with_a_mark(tmp_path, times):
    root, out = tmp_path / "images", tmp_path / "run"
    out.mkdir()
    found = tasks.exploration(tasks.folder_task(root), audit=2)
    AnswerFiles(out, found)
    audited = found.queries[0].indices.tolist()
    found.answer(found.queries[0], ["dog", "cat"])
    first = tasks.answer(found, ["bird", "dog"])
    found.correct([first[0]], ["owl"])
    AnswerFiles(out, found)
    before = queried(out)
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    images = read_texts(out / "images.csv", IMAGE_COLUMNS)
    tasks.pictures.write(root / "unlabelled" / "added.png", 900)
    paths = found.task.images.paths
    gone = {paths[i] for i in (first[0], audited[1])} | {"cat/a.png"}
    kept = {path: (root / path).read_bytes() for path in gone}
    for path in gone:
        (root / path).unlink()
    again = found
    for _ in range(times):
        again = _resumed(again, tasks.again(root), audit=2)
        AnswerFiles(out, again)
    rows, now = queried(out), again.task.images.paths
    for row, was in zip(rows, before, strict=True):
        assert row["image"] == ("" if was["path"] in gone else str(now.index(was["path"])))
        assert {**row, "image": 0} == {**was, "image": 0}
    told = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    for line, was in zip(told, lines, strict=True):
        marked = line.pop("gone", {})
        files = [marked.get(str(i)) or now[i] for i in line.get("indices", ())]
        assert files == [paths[i] for i in was.get("indices", ())]
        assert set(marked.values()) == gone & set(files)
        assert {**line, "indices": 0} == {**was, "indices": 0}
    lines = read_texts(out / "images.csv", IMAGE_COLUMNS)
    assert {line["path"] for line in lines if not line["image"]} == gone
    assert [{**line, "image": 0} for line in lines if line["path"] in gone] == [
        {**line, "image": 0} for line in images if line["path"] in gone
    ]
    assert len(lines) == len(images) + 1
    assert not [name for name in os.listdir(out) if ".1." in name]
    for path, content in kept.items():
        (root / path).write_bytes(content)
    AnswerFiles(out, back := _resumed(again, tasks.again(root), audit=2))
    assert [{**row, "image": 0} for row in queried(out)] == [{**row, "image": 0} for row in before]
    now = back.task.images.paths
    assert column(queried(out), "image") == [str(now.index(row["path"])) for row in before]
    assert "gone" not in (out / "journal.jsonl").read_text()
    assert all(line["image"] for line in read_texts(out / "images.csv", IMAGE_COLUMNS))


def test_a_broken_list_of_images_is_kept_and_made_again(tmp_path):
    found = tasks.exploration(tasks.folder_task(tmp_path / "images"))
    AnswerFiles(tmp_path, found)
    written = (tmp_path / "images.csv").read_bytes()
    (tmp_path / "images.csv").write_bytes(b"mine\n")
    with pytest.warns(UserWarning, match=r"images.csv: expected columns .*images.csv.broken"):
        AnswerFiles(tmp_path, found)
    assert (tmp_path / "images.csv").read_bytes() == written
    assert (tmp_path / "images.csv.broken").read_bytes() == b"mine\n"


def _resumed(found, task, **changes):
    again = Exploration(tasks.CONFIG.replace(**changes), task=task, model=tasks.model(2))
    again.restore(found.save(), 0, None)
    return again
