"""What frozen layers had computed when the process was interrupted or killed is taken up."""

import errno
import itertools
import shutil

import numpy as np
import pytest

from emoc_tf.data.views import ImageView
from emoc_tf.models import forward, kept_outputs, trained_part, unfinished
from emoc_tf.models.trained_part import TrainedPart
from emoc_tf.storage.system_locks import lock
from tests.models.test_kept_outputs import folder
from tests.models.test_prefix import SHAPE, frozen, pooled

COUNT, BATCH = 30, 4


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(forward, "MOST_NUMBERS", BATCH * int(np.prod(SHAPE)))


@pytest.fixture
def images(tmp_path):
    return ImageView(folder(tmp_path, COUNT))


def before(monkeypatch, call, happens):
    """Lets something happen before a call of the frozen layers, counted from 0."""
    compile_prefix, calls = trained_part.compile_prefix, itertools.count()

    def compiled(model):
        run = compile_prefix(model)

        def counting(images):
            if next(calls) == call:
                happens()
            return run(images)

        return counting

    monkeypatch.setattr(trained_part, "compile_prefix", compiled)


def stop():
    raise KeyboardInterrupt


def interrupt(model, images, monkeypatch):
    """Stops the computation when five batches are done."""
    with monkeypatch.context() as patch:
        before(patch, 5, stop)
        with pytest.raises(KeyboardInterrupt):
            _ = TrainedPart(model, images).inputs


def files(tmp_path):
    return sorted(path.name for path in (tmp_path / "store").glob("*/.frozen*"))


def expected(images, model):
    return model.layers[2](model.layers[1](images[:], training=False)).numpy()


def test_what_was_computed_before_an_interruption_is_taken_up(tmp_path, images, monkeypatch, seen):
    model = pooled(frozen())
    interrupt(model, images, monkeypatch)
    assert len(files(tmp_path)) == 2
    seen.clear()
    found = np.array(TrainedPart(model, images).inputs)
    assert sum(seen) == BATCH + COUNT - 5 * BATCH  # the first batch is compared
    assert not files(tmp_path)
    seen.clear()
    np.testing.assert_array_equal(TrainedPart(model, images).inputs, found)
    assert seen == [BATCH]
    shutil.rmtree(tmp_path / "store")
    images = ImageView(folder(tmp_path, COUNT))
    np.testing.assert_array_equal(TrainedPart(model, images).inputs, found)


@pytest.mark.parametrize("call", [3, 7])
def test_what_a_killed_process_noted_is_taken_up(tmp_path, images, monkeypatch, seen, call):
    """At a kill files are as they are: some rows may be there that no note tells of."""
    model, here = pooled(frozen()), tmp_path / "store"
    monkeypatch.setattr(unfinished, "SECONDS", -1)
    with monkeypatch.context() as patch:
        before(patch, call, lambda: shutil.copytree(here, tmp_path / "copy"))
        found = np.array(TrainedPart(model, images).inputs)
    shutil.rmtree(here)
    shutil.move(tmp_path / "copy", here)
    (part,) = here.glob("*/.frozen-*.npy.part")
    rows = np.load(part, mmap_mode="r+")
    rows[call * BATCH :] = 7
    rows.flush()
    seen.clear()
    again = TrainedPart(model, ImageView(folder(tmp_path, COUNT))).inputs
    np.testing.assert_array_equal(again, found)
    assert sum(seen) == BATCH + COUNT - call * BATCH
    assert not files(tmp_path)


@pytest.mark.parametrize("damage", ["bits", "rows", "file", "count"])
def test_what_does_not_fit_is_computed_anew(tmp_path, images, monkeypatch, seen, damage):
    model = pooled(frozen())
    interrupt(model, images, monkeypatch)
    (part,) = (tmp_path / "store").glob("*/.frozen-*.npy.part")
    rows = part.with_name(f"{part.name}.rows")
    assert rows.read_text() == f"{5 * BATCH}\n"
    if damage == "bits":
        changed = np.load(part, mmap_mode="r+")
        changed[1] += 1
        changed.flush()
    elif damage == "rows":
        rows.write_text("many")
    elif damage == "file":
        part.write_bytes(part.read_bytes()[:150])
    else:
        np.save(part.with_suffix(".npy"), np.load(part)[:-1])
        part.with_suffix(".npy").replace(part)
    seen.clear()
    np.testing.assert_allclose(
        TrainedPart(model, images).inputs, expected(images, model), rtol=1e-5
    )
    assert sum(seen) == COUNT + (0 if damage in ("rows", "file") else BATCH)
    assert not files(tmp_path)


def test_another_process_at_the_same_images_is_left_alone(tmp_path, images, monkeypatch):
    model = pooled(frozen())
    interrupt(model, images, monkeypatch)
    (part,) = (tmp_path / "store").glob("*/.frozen-*.npy.part")
    content = part.read_bytes()
    with open(part, "ab") as other:
        assert lock(other.fileno())
        found = TrainedPart(model, images).inputs
        np.testing.assert_allclose(found, expected(images, model), rtol=1e-5)
    assert part.read_bytes() == content
    assert len(files(tmp_path)) == 2


def test_of_parts_in_any_order_the_first_rows_count(tmp_path):
    with pytest.raises(KeyboardInterrupt), unfinished.unfinished(tmp_path / "it.npy") as one:
        assert one.begin(20, 4, stop) == 0
        array = one.room((20, 2), np.dtype(np.float32))
        for start in (8, 4, 16, 0):
            array[start : start + 4] = start
            one.add(start, start + 4)
        raise KeyboardInterrupt
    with unfinished.unfinished(tmp_path / "it.npy") as one:
        assert one.begin(20, 4, lambda: np.zeros((4, 2), np.float32)) == 12
        array = one.room((20, 2), np.dtype(np.float32))
        array[12:] = 12
        one.finish(tmp_path / "it.npy")
    np.testing.assert_array_equal(
        np.load(tmp_path / "it.npy")[:, 0], np.repeat([0, 4, 8, 12, 12], 4)
    )
    assert [path.name for path in tmp_path.iterdir()] == ["it.npy"]


def test_a_whole_array_that_got_no_name_ends_with_its_last_batch(tmp_path):
    def interrupted():
        with unfinished.unfinished(tmp_path / "it.npy") as one:
            begin = one.begin(10, 4, lambda: np.ones((4, 2), np.float32))
            one.room((10, 2), np.dtype(np.float32))[:] = 1
            for start in range(begin, 10, 4):
                one.add(start, min(start + 4, 10))
            found.append(begin)
            raise KeyboardInterrupt

    found = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    assert found == [0, 8]


def test_what_nobody_takes_up_goes_in_time(tmp_path, images, monkeypatch):
    base = frozen()
    model = pooled(base)
    for factor in (1, 2, 2, 2, 2):
        kernel = base.get_layer("first").kernel
        kernel.assign(kernel * factor)
        with monkeypatch.context() as patch:
            if factor == 1:
                before(patch, 5, stop)
            try:
                _ = TrainedPart(model, images).inputs
            except KeyboardInterrupt:
                continue
    assert not files(tmp_path)
    assert len(list((tmp_path / "store").glob("*/frozen-*"))) == 3


@pytest.mark.parametrize("call", [0, 1])
def test_a_second_interruption_before_anything_is_computed_loses_nothing(
    tmp_path, images, monkeypatch, seen, call
):
    """While the first batch is compared, and before there is another one."""
    model = pooled(frozen())
    for stopped in (5, call):
        with monkeypatch.context() as patch:
            before(patch, stopped, stop)
            with pytest.raises(KeyboardInterrupt):
                _ = TrainedPart(model, images).inputs
    assert len(files(tmp_path)) == 2
    seen.clear()
    found = TrainedPart(model, images).inputs
    assert sum(seen) == BATCH + COUNT - 5 * BATCH
    np.testing.assert_allclose(found, expected(images, model), rtol=1e-5)


def test_an_interruption_before_anything_was_computed_leaves_nothing(tmp_path, images, monkeypatch):
    before(monkeypatch, 0, stop)
    with pytest.raises(KeyboardInterrupt):
        _ = TrainedPart(pooled(frozen()), images).inputs
    assert not files(tmp_path)


def test_a_disk_too_full_for_a_note_ends_nothing(tmp_path, images, monkeypatch, seen):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    model = pooled(frozen())
    monkeypatch.setattr(unfinished, "SECONDS", -1)
    monkeypatch.setattr(unfinished.atomic, "write_text", full)
    found = TrainedPart(model, images).inputs
    assert sum(seen) == COUNT
    np.testing.assert_allclose(found, expected(images, model), rtol=1e-5)
    assert not files(tmp_path)


def test_where_there_are_no_locks_what_another_machine_is_at_stays(tmp_path, monkeypatch):
    def none(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    part = tmp_path / ".it.npy.part"
    part.write_bytes(b"rows")
    monkeypatch.setattr(unfinished, "lock", none)
    with unfinished.unfinished(tmp_path / "it.npy") as one:
        assert one.path != part
    assert part.read_bytes() == b"rows"
    part.unlink()
    with unfinished.unfinished(tmp_path / "it.npy"):
        assert not part.exists()


def test_old_files_that_vanish_while_they_are_looked_at_cost_nothing(
    tmp_path, images, monkeypatch, seen
):
    model = pooled(frozen())
    gone = kept_outputs.left_over
    monkeypatch.setattr(
        kept_outputs, "left_over", lambda folder, names: [*gone(folder, names), folder / "gone"]
    )
    _ = TrainedPart(model, images).inputs
    assert sum(seen) == COUNT


def test_what_may_not_be_written_to_is_left_alone(tmp_path):
    """Such as a file that another user's process left; a folder may not be opened by anybody."""
    (tmp_path / ".it.npy.part").mkdir()
    with unfinished.unfinished(tmp_path / "it.npy") as one:
        assert one.begin(4, 4, stop) == 0
        one.room((4, 2), np.dtype(np.float32))[:] = 3
        one.finish(tmp_path / "it.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "it.npy"), np.full((4, 2), 3))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".it.npy.part", "it.npy"]


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EIO])
def test_what_nobody_took_up_yet_makes_room(tmp_path, images, monkeypatch, seen, reason):
    base = frozen()
    model, kernel = pooled(base), base.get_layer("first").kernel
    interrupt(model, images, monkeypatch)
    (part,) = (tmp_path / "store").glob("*/.frozen-*.npy.part")
    kernel.assign(2 * kernel)

    def reserve(_):
        if part.exists():
            raise OSError(reason, "that is why")

    monkeypatch.setattr(unfinished, "reserve", reserve)
    seen.clear()
    found = TrainedPart(model, images).inputs
    np.testing.assert_allclose(found, expected(images, model), rtol=1e-5)
    kept = list((tmp_path / "store").glob("*/frozen-*"))
    if reason == errno.ENOSPC:
        assert (sum(seen), len(kept), files(tmp_path)) == (COUNT, 1, [])
    else:
        assert (len(kept), len(files(tmp_path))) == (0, 2)
