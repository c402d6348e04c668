"""Images as the page shows them: of the very files that they are of, and made once."""

import threading
import time

import pytest
from PIL import Image

from emoc_tf.annotation import album
from emoc_tf.annotation.album import Album
from emoc_tf.data import ImageFolder, decoding
from tests.annotation import desks
from tests.data import pictures


@pytest.fixture
def made(tmp_path):
    desks.write_pictures(tmp_path, 4)
    paths = [f"{i}.png" for i in range(4)]
    keys = [desks.key_of_file(tmp_path / path) for path in paths]
    found = Album(tmp_path, paths, keys, tmp_path / "thumbnails")
    yield found
    found.close()


def replaced(path, how):
    if how == "another image":
        pictures.write(path, 99)
    elif how == "another size":
        pictures.write(path, 99, (9, 5))
    elif how == "a text":
        path.write_text("nothing that can be shown")
    elif how == "cut off":
        path.write_bytes(path.read_bytes()[:-20])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "a longer file":
        path.write_bytes(path.read_bytes() + b"more")


WAYS = ["another image", "another size", "a text", "cut off", "empty", "a longer file"]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("size", ["small", "large"])
def test_a_file_that_was_replaced_is_not_shown_and_not_kept(tmp_path, made, how, size):
    replaced(tmp_path / "1.png", how)
    with pytest.raises(decoding.ChangedError):
        made.jpeg(1, size)
    made.prepare(made.keys, 60)
    assert not list((tmp_path / "thumbnails").glob(f"**/{made.keys[1]}*"))
    pictures.write(tmp_path / "1.png", 1)  # it is back
    assert made.jpeg(1, size)


@pytest.mark.parametrize("how", WAYS)
def test_what_was_made_of_the_file_of_then_is_shown_on(tmp_path, made, how):
    before = made.jpeg(1, "small")
    replaced(tmp_path / "1.png", how)
    assert made.jpeg(1, "small") == before
    with pytest.raises(decoding.ChangedError):
        made.jpeg(1, "large")


def test_two_files_that_changed_places_are_not_taken_for_each_other(tmp_path, made):
    (tmp_path / "0.png").rename(tmp_path / "x.png")
    (tmp_path / "1.png").rename(tmp_path / "0.png")
    (tmp_path / "x.png").rename(tmp_path / "1.png")
    for index in (0, 1):
        with pytest.raises(decoding.ChangedError):
            made.jpeg(index, "small")


def test_a_page_is_told_what_became_of_a_file(tmp_path):
    desks.write_pictures(tmp_path, 3)
    found = desks.service(tmp_path, count=3, sets=[])
    replaced(tmp_path / "0.png", "another image")
    (tmp_path / "1.png").unlink()
    browser = desks.client(found)
    assert [desks.image(browser, f"{i}/small").status_code for i in range(3)] == [410, 404, 200]


@pytest.mark.filterwarnings("ignore:.* left out")
def test_small_images_in_the_folder_of_images_are_none_of_it(tmp_path, made):
    assert made.jpeg(0, "small")
    assert ImageFolder(tmp_path, 8).paths == tuple(made.paths)


def test_sets_are_told_when_their_images_are_small(tmp_path, monkeypatch):
    """However long that takes: the page shows a grid at once."""
    desks.write_pictures(tmp_path, 6)
    decode = decoding.decode

    def slow(*arguments):
        time.sleep(0.05)
        return decode(*arguments)

    monkeypatch.setattr(album.decoding, "decode", slow)
    found = desks.service(tmp_path, count=6, sets=desks.offers([0, 1, 2], [3, 4, 5]))
    browser = desks.client(found)
    monkeypatch.setattr(album.decoding, "decode", None)
    shown = desks.state(browser)["set"]["images"]
    assert all(desks.image(browser, f"{i}/small").status_code == 200 for i, _ in shown)


def test_how_far_it_is_is_told_while_nothing_is_shown(tmp_path, monkeypatch):
    Image.new("RGB", (40, 30)).save(tmp_path / "0.png")
    found = desks.service(tmp_path, count=1, sets=[])
    monkeypatch.setattr(album, "_OFTEN", 0.01)
    go = threading.Event()
    decode = decoding.decode
    monkeypatch.setattr(album.decoding, "decode", lambda *a: go.wait(60) and decode(*a))
    told = threading.Thread(
        target=found.worker.tell, args=("sets",),
        kwargs={"sets": desks.offers([0]), "generation": 0, "exhausted": True},
    )  # fmt: skip
    told.start()
    browser, end = desks.client(found), time.monotonic() + 60
    while desks.state(browser)["worker"]["phase"] != "making images small":
        assert time.monotonic() < end
    state = desks.state(browser)
    assert (state["set"], state["worker"]["done"], state["worker"]["total"]) == (None, 0, 1)
    go.set()
    told.join()
    assert desks.state(browser)["set"]


def test_an_image_that_is_asked_for_by_several_is_made_once(tmp_path, made, monkeypatch):
    go, begun, decode = threading.Event(), [], decoding.decode

    def counted(*arguments):
        begun.append(arguments)
        go.wait(60)
        return decode(*arguments)

    monkeypatch.setattr(album.decoding, "decode", counted)
    found = []
    asking = [threading.Thread(target=lambda: found.append(made.jpeg(2, "small")))
              for _ in range(5)]  # fmt: skip
    for each in asking:
        each.start()
    time.sleep(0.1)
    go.set()
    for each in asking:
        each.join()
    assert len(begun) == 1 and len(found) == 5 and len(set(found)) == 1
