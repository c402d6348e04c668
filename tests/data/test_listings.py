import json
import unicodedata

import numpy as np
import pytest

from emoc_tf.data import ImageFolder
from emoc_tf.storage import csv_files
from tests.data.pictures import PATHS, expected, write

pytestmark = pytest.mark.filterwarnings("ignore:.*(left out|no longer in the folder)")


def reasons(images):
    return dict(images.left_out)


LISTS = {
    "csv": "path,label\ndog/a.png,dog\n y.png,\ncat/a.png, cat \n",
    "csv with a BOM": "\ufeffpath,label\ndog/a.png,dog\ny.png,\ncat/a.png,cat\n",
    "more columns": "id,label,path,split\n1,dog,dog/a.png,x\n2,,y.png,x\n3,cat,cat/a.png,x\n",
    "semicolons": "path;label\r\ndog/a.png;dog\r\ny.png;\r\ncat/a.png;cat\r\n",
    "tabs": "Path\tLabel\ndog/a.png\tdog\ny.png\t\ncat/a.png\tcat",
    "old Macs": "path,label\rdog/a.png,dog\ry.png,\rcat/a.png,cat\r",
    "empty cells": "path,label\ndog/a.png,dog,,\ny.png,, \ncat/a.png,cat,\n",
    "short rows": "path,label\n\ndog/a.png,dog\ny.png\n\ncat/a.png,cat\n,\n",
    "other spellings": 'path,label\n"dog\\a.png",dog\n./y.png,-1\ncat/../cat/a.png,cat\n',
    "numbers of programs": "path,label\ndog/a.png,dog\ny.png,-1.0\ncat/a.png,cat\n",
    "twice": "path,label\ny.png,\ndog/a.png,\ndog/a.png,dog\ncat/a.png,cat\ncat/a.png,cat\n",
    "jsonl": '{"path": "dog/a.png", "label": "dog"}\n{"path": "y.png"}\n\n'
    '{"path": "cat/a.png", "label": "cat", "more": [1]}\n',
    "jsonl with nulls": '\ufeff{"path": "dog/a.png", "label": "dog"}\r\n'
    '{"path": "y.png", "label": null}\n{"label": "cat", "path": "cat/a.png"}',
    "jsonl with capitals": '{"Path": "dog/a.png", "Label": "dog"}\n{"PATH": "y.png"}\n'
    '{"path": "cat/a.png", "LABEL": "cat"}',
    "jsonl of pandas": '{"path": "dog/a.png", "label": "dog"}\n{"path": "y.png", "label": NaN}\n'
    '{"label": "cat", "path": "cat/a.png"}',
}  # fmt: skip


@pytest.mark.parametrize("kind", LISTS)
def test_lists(folder, kind):
    (folder / "list").write_bytes(LISTS[kind].encode())
    images = ImageFolder(folder / "list", 8)
    assert images.paths == ("cat/a.png", "dog/a.png", "y.png")
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [0, 1, -1]
    assert images.left_out == ()
    assert images.root == folder
    np.testing.assert_array_equal(images[:], expected(1, 3, 5))


def test_lists_name_files_anywhere(folder, tmp_path):
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "a.csv").write_text(
        f"path,label\n../images/dog/a.png,1\n{folder}/y.png,2\nnot there.png,1\n"
    )
    images = ImageFolder(lists / "a.csv", 8)
    assert images.paths == ("../images/dog/a.png", "../images/y.png")
    assert images.class_names == ("1", "2")
    assert list(reasons(images)) == ["not there.png"]
    np.testing.assert_array_equal(images[1], expected(5)[0])


@pytest.mark.parametrize("label", ["7", "7.0", '"7"'])
def test_numbers_are_names(folder, label):
    (folder / "list").write_text(f'{{"path": "y.png", "label": {label}}}')
    assert ImageFolder(folder / "list").class_names == ("7",)


@pytest.mark.parametrize("name", ["a\rb.png", "\r\n.png", "\n.png", '"=1,2;3".png', " .png"])
def test_lists_name_odd_files(tmp_path, name):
    write(tmp_path / "a.png", 0)
    (tmp_path / "a.png").rename(tmp_path / name)
    (tmp_path / "list").write_bytes(csv_files.text([["path", "label"], [name, "cat"]]).encode())
    images = ImageFolder(tmp_path / "list", 8)
    assert (images.paths, images.class_names) == ((name,), ("cat",))


def test_lists_with_two_labels_for_one_file(folder):
    (folder / "list").write_text("path,label\ny.png,dog\ny.png,cat\ndog/a.png,dog\n")
    images = ImageFolder(folder / "list")
    assert images.paths == ("dog/a.png", "y.png")
    assert images.labels.tolist() == [0, -1]
    assert "another label (cat, dog)" in reasons(images)["y.png"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_lists_in_the_other_form(tmp_path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    write(tmp_path / unicodedata.normalize(other, "für") / "ä.png", 0)
    (tmp_path / "list").write_text("path\n" + unicodedata.normalize(form, "für/ä.png"))
    assert len(ImageFolder(tmp_path / "list")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a CSV file whose first line names"),
        ("y.png,cat\n", "names the columns 'path' and 'label'.*got 'y.png,cat'"),
        ("file,label\ny.png,cat\n", "names the columns"),
        ("path,label,Label\ny.png,cat,dog\n", "expected one column 'label', got 2; rename"),
        ("path,label,path\ny.png,cat,z.png\n", "expected one column 'path', got 2; rename"),
        ("path,label\n,cat\n", "line 2: expected a path"),
        ("path,label\ny.png,NaN\n", "line 2: expected the name .* got 'NaN'; leave it empty"),
        ('{"path": "y.png", "label": "nan"}\n', "line 1: expected the name .* got 'nan'; leave"),
        ('{"path": "y.png"}\n{"path": \n', "line 2: expected {"),
        ('{"path": "y.png"}\n["y.png"]\n', "line 2: expected {"),
        ('{"file": "y.png"}\n', "line 1: expected a path, got None"),
        ('{"path": "y.png", "path": "z.png"}\n', "line 1: expected one 'path', got 2; rename"),
        ('{"path": "y.png", "label": "a", "Label": "b"}\n', "line 1: expected one 'label', got 2"),
        ('{"path": "y.png", "label": {"a": 1}}\n', "name of one class .* got {'a': 1}"),
        ('{"path": {"name": "y.png"}}\n', "line 1: expected a path, got {'name': 'y.png'}"),
        # Half of a character, as Python's JSON has the bytes of a file name that is no UTF-8.
        (r'{"path": "\ud800.png"}', r"line 1: expected a path in UTF-8, got '\\ud800.png'; rename"),
        (r'{"path": "\udce9.png"}', r"line 1: expected a path in UTF-8, got '\\udce9.png'; rename"),
        (r'{"path": "y.png", "label": "\ud800"}', r"a label in UTF-8, got '\\ud800'; rename"),
        ('{"path": "y.png", "label": ["cat", "dog"]}\n', "line 1: expected the name of one class"),
        ("path,label\ny.png,red, blue\n", "line 2: expected 2 cells .* got 3; quote"),
        ("path,label\ny.png,k\xe4fer\n", "expected UTF-8"),
        ("path,label\ny.png," + 140_000 * "x", "line 2: expected CSV, got field larger than"),
    ],
)
def test_lists_that_are_none(folder, text, message):
    (folder / "list").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        ImageFolder(folder / "list")


def test_lists_of_json_are_written_by_json(folder):
    rows = [{"path": path, "label": "\u2028a b"} for path in PATHS]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (folder / "list").write_text(text, encoding="utf-8")
    assert ImageFolder(folder / "list").class_names == ("a b",)
