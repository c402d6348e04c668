import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest

from emoc_tf.data import ImageFolder, decoding, folders, stores
from tests.data.pictures import write

COUNT = 6

pytestmark = pytest.mark.filterwarnings("ignore:.*(left out|no longer in the folder)")


@pytest.fixture
def folder(tmp_path):
    for seed in range(COUNT):
        write(tmp_path / "images" / ("cat" if seed < 3 else "dog") / f"{seed}.png", seed)
    return tmp_path / "images"


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def decodings(monkeypatch):
    """The files that were decoded."""
    seen, decode = [], decoding.decode

    def counting(path, *arguments):
        seen.append(path.name)
        return decode(path, *arguments)

    monkeypatch.setattr(decoding, "decode", counting)
    return seen


def contents(images):
    return {digest: images[i].tobytes() for i, digest in enumerate(images.sha256)}


def test_images_are_decoded_once(folder, store, decodings):
    plain = ImageFolder(folder, 8)
    expected = plain[:]
    decodings.clear()
    for _ in range(3):
        images = ImageFolder(folder, 8, store=store)
        np.testing.assert_array_equal(images[:], expected)
        assert (images.paths, images.sha256) == (plain.paths, plain.sha256)
        assert images.labels.tolist() == plain.labels.tolist()
        assert images.gone == images.added == ()
    assert sorted(decodings) == [f"{i}.png" for i in range(COUNT)]
    with pytest.raises(ValueError, match="read-only"):
        images[:][0] = 0


def test_the_images_lie_on_the_disk(folder, store):
    images = ImageFolder(folder, 8, store=store)
    assert isinstance(images[1:4].base, np.memmap)


def test_what_is_new_comes_last(folder, store):
    before = ImageFolder(folder, 8, store=store)
    write(folder / "ant" / "new.png", 20)
    write(folder / "a.png", 21)
    after = ImageFolder(folder, 8, store=store)
    assert after.paths == (*before.paths, "a.png", "ant/new.png")
    assert after.added == (COUNT, COUNT + 1)
    assert after.gone == ()
    assert after.class_names == ("ant", "cat", "dog")
    assert after.labels.tolist() == [1, 1, 1, 2, 2, 2, -1, 0]
    np.testing.assert_array_equal(after[:COUNT], before[:])
    np.testing.assert_array_equal(before[:], ImageFolder(folder, 8, store=store)[:COUNT])
    assert ImageFolder(folder, 8, store=store).added == ()


@pytest.mark.parametrize(
    ("source", "target", "name"),
    [("cat/1.png", "cat/0a.png", "cat"), ("cat/1.png", "dog/x.png", "dog"),
     ("dog/5.png", "top.png", None), ("cat/0.png", "bird/deep/0.png", "bird")],
)  # fmt: skip
def test_what_is_moved_is_known_by_its_content(folder, store, decodings, source, target, name):
    before = ImageFolder(folder, 8, store=store)
    decodings.clear()
    (folder / target).parent.mkdir(parents=True, exist_ok=True)
    (folder / source).rename(folder / target)
    after = ImageFolder(folder, 8, store=store)
    place = before.paths.index(source)
    assert after.sha256 == before.sha256
    assert after.paths[place] == target
    label = after.labels[place]
    assert (None if label < 0 else after.class_names[label]) == name
    assert decodings == []
    assert after.gone == after.added == ()


def test_what_is_gone_stays_and_is_told(folder, store):
    before = ImageFolder(folder, 8, store=store)
    for name in ("cat/1.png", "dog/3.png", "dog/4.png", "dog/5.png"):
        (folder / name).unlink()
    for _ in range(2):
        with pytest.warns(UserWarning, match="4 images of the store are no longer in the folder"):
            after = ImageFolder(folder, 8, store=store)
        assert after.gone == (1, 3, 4, 5)
        assert (after.paths, after.class_names) == (before.paths, before.class_names)
        assert after.labels.tolist() == before.labels.tolist()
        np.testing.assert_array_equal(after[:], before[:])
    write(folder / "cat" / "back.png", 1)
    back = ImageFolder(folder, 8, store=store)
    assert back.gone == (3, 4, 5)
    assert back.paths[1] == "cat/back.png"


def test_a_file_that_is_written_over_is_another_image(folder, store):
    before = ImageFolder(folder, 8, store=store)
    for seed in (50, 51):
        write(folder / "cat" / "1.png", seed)
        after = ImageFolder(folder, 8, store=store)
        np.testing.assert_array_equal(after[-1], write(folder / "cat" / "1.png", seed))
        np.testing.assert_array_equal(after[:COUNT], before[:])
        assert 1 in after.gone
        assert after.added == (len(after) - 1,)


@pytest.mark.parametrize(
    ("size", "fit"), [(9, "letterbox"), (8, "crop"), ((8, 9), "letterbox"), ((9, 8), "letterbox")]
)
def test_other_settings_are_kept_beside(tmp_path, store, size, fit):
    for seed in range(3):
        write(tmp_path / "images" / f"{seed}.png", seed, (10, 14))
    for _ in range(2):
        for setting in ((8, "letterbox"), (size, fit)):
            images = ImageFolder(tmp_path / "images", *setting, store=store)
            expected = ImageFolder(tmp_path / "images", *setting)
            np.testing.assert_array_equal(images[:], expected[:])


def test_another_folder_is_refused(folder, store, tmp_path):
    ImageFolder(folder, 8, store=store)
    write(tmp_path / "others" / "0.png", 99)
    with pytest.raises(ValueError, match=r"store: expected the store of .*others, got one with 6"):
        ImageFolder(tmp_path / "others", 8, store=store)
    folder.rename(tmp_path / "moved")
    assert ImageFolder(tmp_path / "moved", 8, store=store).gone == ()


@pytest.mark.parametrize("name", ["store", "cat/store", ".store"])
def test_a_store_inside_the_folder_is_no_class(folder, name):
    for _ in range(2):
        images = ImageFolder(folder, 8, store=folder / name)
        assert images.class_names == ("cat", "dog")
        assert images.left_out == ()
        assert len(images) == COUNT
    assert len(ImageFolder(folder, 8)) == COUNT


def test_bad_files_and_copies_are_left_out(folder, store):
    (folder / "cat" / "half.png").write_bytes((folder / "cat" / "0.png").read_bytes()[:-40])
    write(folder / "zzz.png", 0)
    for _ in range(2):
        images = ImageFolder(folder, 8, store=store)
        assert [path for path, _ in images.left_out] == ["cat/half.png", "zzz.png"]
        assert len(images) == COUNT


def test_unchanged_files_are_not_read_again(folder, store, monkeypatch):
    monkeypatch.setattr(stores, "_now", lambda folder: time.time_ns() + 10**10)
    write(folder / "copy.png", 0)
    ImageFolder(folder, 8, store=store)
    read, digest = [], decoding.digest

    def counting(path):
        read.append(path.name)
        return digest(path)

    monkeypatch.setattr(decoding, "digest", counting)
    ImageFolder(folder, 8, store=store)
    assert read == []
    write(folder / "cat" / "0.png", 70)
    os.utime(folder / "cat" / "1.png")
    (folder / "cat" / "2.png").rename(folder / "cat" / "7.png")
    images = ImageFolder(folder, 8, store=store)
    assert sorted(read) == ["0.png", "1.png", "7.png"]
    assert images.gone == ()  # its copy is there
    assert images.paths[0] == "copy.png"
    assert images.labels[0] == -1


KILLED = """
import os, sys
from emoc_tf.data import decoding, folders, stores
from emoc_tf.data.folders import ImageFolder

folders._BLOCK = 2
where, count = sys.argv[3], int(sys.argv[4])
owner, name = (decoding, "decode") if where == "decoding" else (stores, "_add")
whole = getattr(owner, name)
calls = []

def killed(*arguments):
    calls.append(1)
    if len(calls) == count:
        if where == "half":
            with open(arguments[0], "ab") as file:
                file.write(arguments[1][:len(arguments[1]) // 2])
        os.kill(os.getpid(), 9)
    return whole(*arguments)

setattr(owner, name, killed)
ImageFolder(sys.argv[1], 8, store=sys.argv[2])
"""


@pytest.mark.parametrize(
    ("where", "count", "kept"),
    [("decoding", 1, 0), ("decoding", 5, 4), ("adding", 2, 0), ("adding", 4, 2), ("half", 1, 0),
     ("half", 2, 0), ("half", 3, 2), ("half", 4, 2)],
)  # fmt: skip
def test_killed_and_resumed(folder, store, decodings, where, count, kept):
    """Killed before a block's images are written, between them and their lines, or in half."""
    result = subprocess.run(
        [sys.executable, "-c", KILLED, folder, store, where, str(count)], check=False
    )
    assert result.returncode == -9
    images = ImageFolder(folder, 8, store=store)
    at_least = kept if where != "half" or count % 2 else kept + 1  # one of two lines is whole
    assert COUNT - len(decodings) in (kept, at_least)
    plain = ImageFolder(folder, 8)
    assert contents(images) == contents(plain)
    assert images.paths == plain.paths
    assert images.gone == images.added == ()
    np.testing.assert_array_equal(ImageFolder(folder, 8, store=store)[:], images[:])


def test_killed_while_adding_to_a_whole_store(folder, store, monkeypatch):
    before = ImageFolder(folder, 8, store=store)
    write(folder / "a.png", 30)
    write(folder / "b.png", 31)
    (folder / "dog" / "5.png").unlink()
    monkeypatch.setattr(folders, "_BLOCK", 1)
    with monkeypatch.context() as patch:
        patch.setattr(stores.Store, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ImageFolder(folder, 8, store=store)
    after = ImageFolder(folder, 8, store=store)
    assert after.added == (6, 7)
    assert after.gone == (5,)
    assert after.paths == (*before.paths, "a.png", "b.png")


def damage(kind, folder):
    index, images = folder / "index.jsonl", folder / "images.bin"
    lines = index.read_text().splitlines(keepends=True)
    if kind == "short images":
        os.truncate(images, images.stat().st_size - 1)
    elif kind == "no images":
        images.unlink()
    elif kind == "a broken line":
        index.write_text("".join([lines[0], "{}\n", *lines[2:]]))
    elif kind == "fewer lines":
        index.write_text("".join(lines[:3]))
    elif kind == "files.json":
        (folder / "files.json").write_text("[]")
    else:
        mark = json.loads((folder / "emoc_store.json").read_text())
        (folder / "emoc_store.json").write_text(json.dumps({**mark, "format": 99}))


@pytest.mark.parametrize(
    "kind", ["short images", "no images", "a broken line", "fewer lines", "files.json", "format"]
)
def test_damaged_stores_are_refused(folder, store, kind):
    ImageFolder(folder, 8, store=store)
    damage(kind, store / "8x8-letterbox")
    with pytest.raises(ValueError, match=r"store: .*(move that folder away|name another folder)"):
        ImageFolder(folder, 8, store=store)


def test_a_folder_of_other_things_is_no_store(folder, store):
    (store / "8x8-letterbox").mkdir(parents=True)
    (store / "8x8-letterbox" / "thesis.txt").write_text("all of it")
    with pytest.raises(ValueError, match=r"store: expected an empty folder or a store.*thesis"):
        ImageFolder(folder, 8, store=store)
    assert (store / "8x8-letterbox" / "thesis.txt").read_text() == "all of it"
