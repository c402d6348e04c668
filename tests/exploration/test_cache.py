"""What frozen layers compute of a data set is computed once, for all episodes and processes."""

import errno
import logging
import os
import threading
import time

import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig, ImageData
from emoc_tf.data.whole import Whole
from emoc_tf.exploration import Exploration
from emoc_tf.models import kept_outputs, register_network
from emoc_tf.registries import NETWORKS
from emoc_tf.storage.locks import FolderLock

SHAPE = (4, 4, 3)
COUNT, TESTED = 300, 40


def made(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(count, *SHAPE)).astype(np.uint8)
    return ImageData(images, np.arange(count) % 4, list("abcd"))


DATA = made(COUNT, 0), made(TESTED, 1)


def network(shape, num_classes, weight_decay, seeds):
    image = keras.Input(shape)
    frozen = keras.layers.Dense(
        6, "relu", kernel_initializer=keras.initializers.HeNormal(seed=3), trainable=False
    )
    begin = keras.initializers.RandomNormal(0, 0.01, seed=seeds[0])
    head = keras.layers.Dense(num_classes, kernel_initializer=begin)
    return keras.Model(image, head(frozen(keras.layers.Flatten()(image))))


@pytest.fixture(autouse=True)
def registered():
    network.plain_pixels = True
    register_network("frozen", network)
    yield
    del NETWORKS["frozen"]


def outcomes(cache_dir, seed=0, data=DATA, model=None, **settings):
    config = ExplorationConfig(
        network="frozen", cache_dir=None if cache_dir is None else str(cache_dir), known_classes=2,
        novel_classes=2, initial_per_class=5, pool_per_class=20, num_candidate_sets=5, set_size=3,
        sampler="minibatch-cluster", pretrain_iterations=10, update_iterations=5, **settings,
    )  # fmt: skip
    one = Exploration(config, data=data, model=model)
    found = [one.reset(seed).to_dict()] + [one.advance(0).to_dict() for _ in range(2)]
    return one, found


def test_all_images_are_computed_once_and_other_episodes_find_them(tmp_path, seen):
    one, first = outcomes(tmp_path / "made" / "new")
    assert sum(seen) == COUNT + TESTED
    assert len(list((tmp_path / "made" / "new").iterdir())) == 2  # no lock is left
    seen.clear()
    same, again = outcomes(tmp_path / "made" / "new")
    outcomes(tmp_path / "made" / "new", seed=1)
    assert again == first
    # The first batch of each file is compared with today's.
    assert sum(seen) == 2 * (256 + TESTED)
    own, expected = outcomes(None)
    assert expected == first
    np.testing.assert_array_equal(own.state.features, one.state.features)
    np.testing.assert_array_equal(same.state.pool.images[:], one.state.pool.images[:])
    np.testing.assert_array_equal(own.state.pool.images[:], one.state.pool.images[:])


def test_what_a_killed_process_left_goes(tmp_path):
    left = tmp_path / ".frozen-0.npy.1-0a1b2c3d"
    left.write_bytes(b"half")
    outcomes(tmp_path)
    assert not left.exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_other_images_have_other_files(tmp_path, seen):
    outcomes(tmp_path)
    seen.clear()
    images = DATA[0].images.copy()
    images[-1, 0, 0, 0] ^= 1  # in no first batch
    changed = ImageData(images, DATA[0].labels, DATA[0].class_names)
    outcomes(tmp_path, data=(changed, DATA[1]))
    assert sum(seen) == COUNT + 256 - 256 + TESTED
    assert len(list(tmp_path.iterdir())) == 3


def test_a_broken_file_is_made_anew(tmp_path, seen):
    _, expected = outcomes(tmp_path)
    for file in tmp_path.iterdir():
        content = bytearray(file.read_bytes())
        content[-TESTED * 24] ^= 1  # in the first batch of the smaller one
        file.write_bytes(content[: -(10 if len(content) > 5000 else 0) or None])
    seen.clear()
    _, found = outcomes(tmp_path)
    assert found == expected
    assert sum(seen) >= COUNT + TESTED


def test_machines_of_two_kinds_have_a_file_each_and_take_none_away(tmp_path, seen):
    """The second kind is acted: its first images do not give what lies there."""
    _, expected = outcomes(tmp_path)
    other = {file.name: np.load(file) for file in tmp_path.iterdir()}
    for name, features in other.items():
        features[0, 0] += 1
        np.save(tmp_path / name, features)
    for _ in range(2):
        seen.clear()
        _, found = outcomes(tmp_path)
        assert found == expected
    assert sum(seen) == 256 + TESTED  # the second time it finds its own
    assert len(list(tmp_path.iterdir())) == 4
    for name, features in other.items():
        np.testing.assert_array_equal(np.load(tmp_path / name), features)


def test_a_folder_that_cannot_be_written_to_costs_time_and_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match=r"cache_dir: what frozen layers .* cannot be kept in "):
        _, found = outcomes(tmp_path / "file" / "folder")
    assert found == outcomes(None)[1]


def test_a_disk_without_room_costs_time_and_no_process(tmp_path, monkeypatch):
    def no_room(file, start, size):
        assert start == 0 and size > 40 * 24
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.warns(UserWarning, match="cache_dir: what frozen layers .*No space left on device"):
        _, found = outcomes(tmp_path)
    assert found == outcomes(None)[1]
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(kept_outputs, "IN_MEMORY", 0)
    with pytest.raises(OSError, match=r"frozen layers: expected room .* GiB, .*; set TMPDIR"):
        outcomes(None)
    unsupported = OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(unsupported))
    assert outcomes(None)[1] == found


def test_what_takes_long_is_told(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "emoc_tf")
    outcomes(tmp_path / "short")
    assert not caplog.messages
    monkeypatch.setattr(kept_outputs, "LONG", -1)
    outcomes(tmp_path / "long")
    (line,) = caplog.messages  # the test images are one part
    assert line.startswith(f"computing what frozen layers make of {COUNT} images, once: some ")


def test_a_first_part_that_takes_long_promises_nothing_of_the_others(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "emoc_tf")
    seconds = iter([0.0, 100.0, 101.0, 102.0, 103.0, 104.0])  # the first part takes 100
    monkeypatch.setattr(kept_outputs.time, "monotonic", lambda: next(seconds))
    every = np.arange(40.0)[:, None]

    def parts(images):
        for start in range(0, 40, 10):
            if not start:
                kept_outputs.time.monotonic()
            yield start, images[start : start + 10]

    found = kept_outputs._fill(parts, every, lambda shape, dtype: np.empty(shape, dtype))
    np.testing.assert_array_equal(found, every)
    assert not caplog.messages


def test_who_is_waited_for_is_told(tmp_path, caplog):
    caplog.set_level(logging.INFO, "emoc_tf")
    held = FolderLock(tmp_path)
    assert held.acquire()
    waiting = threading.Thread(target=outcomes, args=(tmp_path,))
    waiting.start()
    until = time.monotonic() + 60
    while not caplog.messages and time.monotonic() < until:
        time.sleep(0.01)
    held.release()
    waiting.join()
    assert caplog.messages[0].startswith(f"waiting for process {os.getpid()} on ")
    assert len(list(tmp_path.iterdir())) == 2


def test_only_networks_of_plain_pixels_have_a_cache(tmp_path):
    network.plain_pixels = False
    one, _ = outcomes(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert one.episode.mean is not None  # the mean image is another one in each episode


def test_a_model_of_ones_own_has_a_cache_too(tmp_path, seen):
    model = network(SHAPE, 2, 0.0, [7])
    floats = tuple(ImageData(p.images / np.float32(255), p.labels, p.class_names) for p in DATA)
    for data in (DATA, floats):
        seen.clear()
        one, first = outcomes(tmp_path, data=data, model=model)
        assert sum(seen) == COUNT + TESTED
        seen.clear()
        outcomes(tmp_path, seed=1, data=data, model=model)
        assert sum(seen) == 256 + TESTED  # each file is compared with today's first batch
        own, expected = outcomes(None, data=data, model=model)
        assert expected == first
        np.testing.assert_array_equal(own.state.features, one.state.features)
        np.testing.assert_array_equal(own.state.pool.images, one.state.pool.images[:])
    assert len(list(tmp_path.iterdir())) == 4
    model.layers[-2].trainable = True
    outcomes(tmp_path / "none", model=model, learning_rate=1e-6)  # nothing is frozen
    assert not (tmp_path / "none").exists()


def test_the_folder_is_no_setting_of_a_run():
    config = ExplorationConfig(cache_dir="here")
    assert "cache_dir" not in config.record()
    assert not config.differences(ExplorationConfig(cache_dir="there").record())


def test_another_mean_is_another_whole(tmp_path):
    images = DATA[0].images
    digests = {
        Whole(images, None, 1.0, tmp_path).digest,
        Whole(images, np.zeros(SHAPE), 1.0, tmp_path).digest,
        Whole(images, np.zeros(SHAPE), 2.0, tmp_path).digest,
        Whole(images[::-1].copy(), None, 1.0, tmp_path).digest,
    }
    assert len(digests) == 4


def test_old_files_go(tmp_path, monkeypatch):
    monkeypatch.setattr(kept_outputs, "FILES_OF_WHOLES", 2)
    outcomes(tmp_path)
    outcomes(tmp_path, data=(made(COUNT, 5), DATA[1]))
    assert len(list(tmp_path.iterdir())) == 2
