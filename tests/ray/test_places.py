"""Images on a disk are told apart by the file that lies at their place."""

import os

import numpy as np

from emoc_tf.scoring.ray_images import Receiver, Sender


def test_a_file_in_the_place_of_another_one_is_sent_anew(tmp_path):
    sender, receiver = Sender(), Receiver()
    for value in (1, 2):
        np.save(tmp_path / "new.npy", np.full((4, 3), value, np.float32))
        os.replace(tmp_path / "new.npy", tmp_path / "images.npy")
        sent = sender._source(np.load(tmp_path / "images.npy", mmap_mode="r"), fixed=False)
        assert sent.place is not None
        np.testing.assert_array_equal(receiver._source(sent), value)


def test_what_is_written_into_a_private_map_counts(tmp_path, monkeypatch):
    monkeypatch.setattr("emoc_tf.scoring.ray_images._put", lambda source: source.copy())
    np.save(tmp_path / "images.npy", np.zeros((4, 3), np.float32))
    images, sender = np.load(tmp_path / "images.npy", mmap_mode="c"), Sender()
    before = sender._source(images, fixed=False)
    assert sender._source(images, fixed=False) is before
    images[1] = 5
    assert sender._source(images, fixed=False).key != before.key
