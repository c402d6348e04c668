"""Copies of images on other machines: told from those that are meant, and from each other."""

import logging
import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest

from emoc_tf.data import ImageFolder
from emoc_tf.scoring import ray_images
from emoc_tf.scoring.ray_images import Receiver, Sender, UnseenError
from tests.data.pictures import make_folder


@pytest.fixture(autouse=True)
def acted(monkeypatch):
    """Ray as far as it is asked here."""
    ray = SimpleNamespace(cloudpickle=pickle, put=lambda thing: thing, get=lambda thing: thing)
    monkeypatch.setattr(ray_images, "ray", lambda: ray)


@pytest.fixture
def file(tmp_path):
    """A file of 1,000 images of 8 bytes."""
    path = tmp_path / "images.npy"
    np.save(path, np.random.default_rng(0).integers(1, 255, (1000, 8)).astype(np.uint8))
    return path


def sent_of(file):
    sender = Sender()
    return sender, sender._source(np.load(file, mmap_mode="r"), fixed=False)


def change(file, rows):
    """Another machine's copy lies at the same place: here the file itself is another one."""
    images = np.load(file)
    images[rows] = 0
    np.save(file.parent / "copy.npy", images)
    os.replace(file.parent / "copy.npy", file)


def refused(sent):
    with pytest.raises(UnseenError) as raised:
        Receiver()._source(sent)
    return raised.value


def test_a_copy_of_the_same_images_is_read(file):
    _, sent = sent_of(file)
    change(file, [])
    np.testing.assert_array_equal(Receiver()._source(sent), np.load(file))


@pytest.mark.parametrize("row", [0, 1, 250, 501, 998, 999])
def test_any_image_of_a_small_file_that_differs_is_found(file, row):
    _, sent = sent_of(file)
    change(file, [row])
    error = refused(sent)
    first, last = row - row % 4, row - row % 4 + 3  # they are compared some at a time
    assert error.reason == f"has other images (one of images {first} to {last})"


@pytest.mark.parametrize(
    "rows",
    [slice(501, 999), slice(1, 500), slice(3, 997, 40), slice(100, 130)],
    ids=["half synced", "the other half", "here and there", "a piece"],
)
def test_a_large_file_of_which_a_part_differs_is_found(file, monkeypatch, rows):
    monkeypatch.setattr(ray_images, "_WHOLE", 100)
    _, sent = sent_of(file)
    assert len(sent.compared) < 270
    change(file, rows)
    error = refused(sent)
    assert int(error.reason.split()[-1].rstrip(")")) in range(1000)[rows]


def test_it_is_told_which_machine_file_and_image_and_what_to_do(file, monkeypatch, caplog):
    monkeypatch.setattr(ray_images, "_put", np.asarray)
    monkeypatch.setattr(ray_images.socket, "gethostname", lambda: "machine7")
    sender, sent = sent_of(file)
    change(file, [12])
    with caplog.at_level(logging.WARNING):
        sender.send_whole(refused(sent))
    (line,) = caplog.messages
    assert "machine7 has other images (one of images 12 to 15) at " + str(file) in line
    assert "a copy that is made anew there" in line


@pytest.mark.parametrize("copy", ["none", "too short", "of another kind"])
def test_what_is_no_copy_is_not_seen(file, monkeypatch, caplog, copy):
    monkeypatch.setattr(ray_images, "_put", np.asarray)
    sender, sent = sent_of(file)
    content = file.read_bytes()
    file.unlink()
    if copy != "none":
        file.write_bytes(content[:4000] if copy == "too short" else bytes(len(content)))
    error = refused(sent)
    with caplog.at_level(logging.WARNING):
        sender.send_whole(error)
    expected = "has other images" if copy == "of another kind" else "does not see where they lie ("
    assert expected in error.reason
    assert str(file) in caplog.text


def test_a_store_that_was_half_copied_is_found(tmp_path):
    folder = ImageFolder(make_folder(tmp_path / "images"), image_size=8, store=tmp_path / "store")
    sent = Sender()._source(folder, fixed=True)
    np.testing.assert_array_equal(Receiver()._source(sent), folder[:])
    (binary,) = (tmp_path / "store").rglob("images.bin")
    content = bytearray(binary.read_bytes())
    middle = 8 * 8 * 3
    content[middle : middle + 100] = bytes(100)
    binary.unlink()
    binary.write_bytes(content)
    assert refused(sent).reason == "has other images (image 1)"


class Held:
    """An array-like that no other process can have."""

    def __init__(self, images):
        self.images, self.shape, self.dtype = images, images.shape, images.dtype

    def __getitem__(self, rows):
        return self.images[rows]

    def __getstate__(self):
        raise TypeError("it stays here")


def test_what_is_sent_whole_is_sent_again_when_it_has_changed():
    sender, held = Sender(), Held(np.zeros((5, 2), np.float32))
    first = sender._source(held, fixed=False)
    assert sender._source(held, fixed=False) is first
    held.images[3] = 1
    again = sender._source(held, fixed=False)
    assert again.key != first.key
    np.testing.assert_array_equal(again.held[0], held.images)
