import multiprocessing
import os
import pickle
import unicodedata

import numpy as np
import pytest

from emoc_tf.data import ImageFolder
from tests.data.pictures import PATHS, expected, make_folder, page_scripts, write

pytestmark = pytest.mark.filterwarnings("ignore:.*(left out|no longer in the folder)")


def test_a_folder_of_classes(folder):
    images = ImageFolder(folder, image_size=8)
    assert images.paths == PATHS
    assert images.class_names == ("cat", "dog")
    assert images.labels.tolist() == [-1, 0, 0, 1, 1, -1]
    assert images.labels.dtype == np.int64
    assert not images.labels.flags.writeable
    assert (images.shape, images.dtype, images.ndim) == ((6, 8, 8, 3), np.uint8, 4)
    assert len(images) == 6
    assert images.left_out == images.gone == images.added == ()
    assert images.root == folder
    assert all(len(digest) == 64 for digest in images.sha256)
    assert len(set(images.sha256)) == 6
    np.testing.assert_array_equal(images[:], expected(*range(6)))
    np.testing.assert_array_equal(np.asarray(images), expected(*range(6)))


@pytest.mark.parametrize("with_store", [False, True])
@pytest.mark.parametrize(
    "index",
    [
        0, -1, np.int64(3), slice(None), slice(1, 4), slice(None, None, -2), slice(9, 12),
        [4, 0, 4], [], np.array([], np.int64), np.array([-1, 2], np.int32),
        np.array([[0, 1], [2, 0]]),
        np.array([3], np.uint8), [True, False, False, True, True, False], np.zeros(6, bool),
    ],
    ids=str,
)  # fmt: skip
def test_indices_as_numpy_takes_them(folder, tmp_path, index, with_store):
    images = ImageFolder(folder, 8, store=tmp_path / "store" if with_store else None)
    array = expected(*range(6))
    wanted = array[np.asarray(index, np.int64) if isinstance(index, list) and not index else index]
    np.testing.assert_array_equal(images[index], wanted)
    assert images[index].dtype == np.uint8
    assert type(images[index]) is np.ndarray


@pytest.mark.parametrize(
    "index", [6, -7, [6], [0, -7], True, None, 1.0, [0.5], "a", (0, 1), ..., [True], np.array(1.5)]
)
@pytest.mark.parametrize("with_store", [False, True])
def test_indices_that_are_none(folder, tmp_path, index, with_store):
    images = ImageFolder(folder, 8, store=tmp_path / "store" if with_store else None)
    with pytest.raises(IndexError):
        images[index]


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled", "UNLABELLED", "UnLabeled"])
def test_the_rest(tmp_path, name):
    write(tmp_path / name / "cat" / "a.png", 0)
    write(tmp_path / "cat" / name / "a.png", 1)
    write(tmp_path / "cat.png", 2)
    labels = dict(zip((found := ImageFolder(tmp_path)).paths, found.labels, strict=True))
    assert labels == {f"{name}/cat/a.png": -1, f"cat/{name}/a.png": 0, "cat.png": -1}


def test_a_folder_without_any_label(tmp_path):
    for seed in range(3):
        write(tmp_path / f"{seed}.png", seed)
    images = ImageFolder(tmp_path)
    assert images.class_names == ()
    assert images.labels.tolist() == [-1, -1, -1]
    assert images.shape == (3, 96, 96, 3)


NAMES = ["ä b", "Zebra", "apple pie", "猫", "собака", "a", "10", "9", "🐱"]


def test_names_in_any_script(tmp_path):
    for seed, name in enumerate(NAMES):
        write(tmp_path / name / f"{name}.png", seed)
    images = ImageFolder(tmp_path)
    assert images.class_names == tuple(sorted(NAMES))
    assert [images.class_names[label] for label in images.labels] == [
        path.split("/")[0] for path in images.paths
    ]


@pytest.mark.parametrize("name", ["café", "Ångström", "ñandú"])
def test_composed_and_decomposed_names_are_one_class(tmp_path, name):
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    assert forms[0] != forms[1]
    for seed, form in enumerate(forms):
        write(tmp_path / form / "a.png", seed)
    write(tmp_path / forms[0] / "copy.png", 1)
    images = ImageFolder(tmp_path)
    assert images.class_names == (min(forms),)
    assert images.labels.tolist() == [0, 0]
    assert "another label" not in images.left_out_text()


@pytest.mark.parametrize(
    "name",
    [".git/a.png", ".a.png", "cat/.DS_Store", "__MACOSX/cat/a.png", "cat/Thumbs.db", "desktop.ini",
     "cat/._a.png", "cat/.ipynb_checkpoints/a.png", "@eaDir/a.png"],
)  # fmt: skip
def test_what_systems_leave_behind_is_passed_over(folder, name):
    write(folder / "z.png", 99)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "z.png").rename(folder / name)
    images = ImageFolder(folder)
    assert images.paths == PATHS
    assert images.left_out == ()


def reasons(images):
    return dict(images.left_out)


def test_one_bad_file_is_told_and_no_more(folder, capsys):
    (folder / "cat" / "notes.txt").write_text("hello")
    (folder / "cat" / "empty.jpg").touch()
    (folder / "dog" / "half.png").write_bytes((folder / "dog" / "a.png").read_bytes()[:-80])
    (folder / "dog" / "line\nbreak.png").write_bytes(b"x")
    (folder / "no class").mkdir()
    (folder / "no class" / "page.html").write_text("<html>")
    os.mkfifo(folder / "pipe.png")
    with pytest.warns(UserWarning, match=r"6 files are left out.*cat/empty.jpg.: empty"):
        images = ImageFolder(folder, 8)
    assert images.paths == PATHS
    assert images.class_names == ("cat", "dog")
    assert [path for path, _ in images.left_out] == [
        "cat/empty.jpg", "cat/notes.txt", "dog/half.png", "dog/line\nbreak.png",
        "no class/page.html", "pipe.png",
    ]  # fmt: skip
    assert reasons(images)["cat/empty.jpg"] == "empty file"
    assert reasons(images)["dog/half.png"].startswith("broken")
    images.print_left_out()
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_names_that_are_no_text(folder):
    with open(os.fsencode(folder) + b"/cat/\xe4.png", "wb") as file:
        file.write((folder / "y.png").read_bytes())
    images = ImageFolder(folder)
    assert images.paths == PATHS
    assert "UTF-8" in images.left_out[0].reason
    images.left_out_text().encode()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_links_out_of_the_folder_are_not_followed(folder, tmp_path, kind):
    write(tmp_path / "elsewhere" / "z.png", 77)
    target = tmp_path / "elsewhere" / ("z.png" if kind == "file" else "")
    (folder / "cat" / "link").symlink_to(target)
    images = ImageFolder(folder)
    assert images.paths == PATHS
    assert "out of the folder" in reasons(images)["cat/link"]


def test_links_inside_the_folder(folder):
    (folder / "bird").mkdir()
    (folder / "bird" / "z.png").symlink_to(folder / "y.png")
    (folder / "bird" / "all").symlink_to(folder)
    (folder / "bird" / "nothing.png").symlink_to(folder / "nothing.png")
    images = ImageFolder(folder)
    assert images.class_names == ("bird", "cat", "dog")
    assert "bird/z.png" in images.paths  # the labelled one
    assert set(reasons(images)) == {"y.png", "bird/all", "bird/nothing.png"}


def test_a_folder_that_is_a_link(folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    images = ImageFolder(tmp_path / "link", 8)
    assert images.paths == PATHS
    np.testing.assert_array_equal(images[2], expected(2)[0])


@pytest.mark.parametrize(
    ("places", "kept", "name"),
    [
        (["b.png", "a.png"], "a.png", None),
        (["a.png", "cat/z.png"], "cat/z.png", "cat"),
        (["unlabelled/a.png", "cat/z.png", "cat/b.png"], "cat/b.png", "cat"),
        (["cat/b.png", "dog/a.png"], "cat/b.png", None),
        (["a.png", "cat/b.png", "dog/a.png", "cat/c.png"], "cat/b.png", None),
    ],
)
def test_copies(tmp_path, places, kept, name):
    for place in places:
        write(tmp_path / place, 0)
    for seed, class_name in enumerate(["cat", "dog"]):
        write(tmp_path / class_name / "other.png", 10 + seed)
    images = ImageFolder(tmp_path)
    labels = dict(zip(images.paths, images.labels, strict=True))
    assert set(labels) == {kept, "cat/other.png", "dog/other.png"}
    assert labels[kept] == (-1 if name is None else images.class_names.index(name))
    assert set(reasons(images)) == set(places) - {kept}
    differ = len({place.split("/")[0] for place in places} & {"cat", "dog"}) > 1
    for reason in reasons(images).values():
        assert f"the same image as {kept}" in reason
        assert ("another label (cat, dog)" in reason) == differ


def test_nothing_there(folder, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a folder of images.*not there"):
        ImageFolder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"path: expected at least one usable image in .*got none$"
    ):
        ImageFolder(tmp_path / "empty")
    (tmp_path / "empty" / "a.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"1 file is left out, such as 'a.jpg': not a JPEG"):
        ImageFolder(tmp_path / "empty")
    for path in (None, 3, [folder]):
        with pytest.raises(ValueError, match="path: expected a path, got"):
            ImageFolder(path)
    with pytest.raises(ValueError, match="store: expected a folder, got"):
        ImageFolder(folder, store=folder / "y.png")
    with pytest.raises(ValueError, match="image_size: expected"):
        ImageFolder(folder, 0)
    with pytest.raises(ValueError, match="fit: expected"):
        ImageFolder(folder, 8, "stretch")


@pytest.mark.parametrize("change", ["deleted", "another", "truncated"])
def test_files_that_change_are_noticed(folder, change):
    images = ImageFolder(folder, 8)
    file = folder / PATHS[2]
    if change == "deleted":
        file.unlink()
    elif change == "another":
        write(file, 1234)
    else:
        file.write_bytes(file.read_bytes()[:-20])
    for index in (2, slice(None), [2, 0]):
        with pytest.raises(ValueError, match=r"images: .*cat/deep/er/a.png is not what it was"):
            images[index]
    np.testing.assert_array_equal(images[[0, 1]], expected(0, 1))


def _read(images, queue):
    queue.put(images[[1, 4]])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("with_store", [False, True])
def test_other_processes_read_too(folder, tmp_path, method, with_store):
    images = ImageFolder(folder, 8, store=tmp_path / "store" if with_store else None)
    np.testing.assert_array_equal(images[0], expected(0)[0])
    assert len(pickle.dumps(images)) < 5000
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=_read, args=(images, queue))
    process.start()
    np.testing.assert_array_equal(queue.get(timeout=60), expected(1, 4))
    process.join()


def test_progress_is_told(folder):
    seen = []
    ImageFolder(folder, 8, progress=lambda *what: seen.append(what))
    assert seen == [("reading", 6, 6), ("decoding", 6, 6)]


def test_the_script_of_the_page(tmp_path, monkeypatch, capsys):
    make_folder(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    exec(page_scripts()[0], names := {})
    assert names["images"].shape == (6, 96, 96, 3)
    assert capsys.readouterr().out == "nothing is left out\n"
    assert (tmp_path / "photos_decoded").is_dir()
