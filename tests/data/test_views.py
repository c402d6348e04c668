"""Views read what an array in memory would give, bit for bit, and nothing before."""

import copy
import pickle

import numpy as np
import pytest

from emoc_tf.data import pixels, views
from emoc_tf.data.views import ImageView

RAW = np.random.default_rng(0).integers(0, 256, (11, 4, 3, 2)).astype(np.uint8)
MEAN = RAW[:5].mean(axis=0, dtype=np.float64)
MASK = np.arange(11) % 3 == 1


class Source:
    """The least that images may have; what is read is written down."""

    def __init__(self, images):
        self._images, self.shape, self.dtype = images, images.shape, images.dtype
        self.rows = []

    def __len__(self):
        return len(self._images)

    def __getitem__(self, rows):
        assert isinstance(rows, np.ndarray) and rows.dtype.kind == "i" and rows.ndim == 1
        assert (np.diff(rows) > 0).all()
        self.rows += list(rows)
        return self._images[rows]


def mapped(tmp_path, images, mode="r"):
    np.save(tmp_path / "images.npy", images)
    return np.load(tmp_path / "images.npy", mmap_mode=mode)


def sources(tmp_path):
    whole = mapped(tmp_path, RAW)
    return {"array": RAW, "map": whole, "part": np.asarray(whole)[:], "own": Source(RAW),
            "view": ImageView(RAW), "list": RAW.astype(np.float64).tolist(),
            "float16": RAW.astype(np.float16), "big-endian": RAW.astype(">f8")}  # fmt: skip


KEYS = [
    *(3, -1, np.int64(4), slice(None), slice(2, 9, 3), slice(None, None, -1), slice(5, 5)),
    *([], [4, 1, 4, -2], np.array([[1, 2], [0, 1]]), np.array([7, 0], np.uint8), MASK, range(3)),
]


@pytest.mark.parametrize("factor", [None, 1.0, 255.0, 127.5])
def test_reads_what_the_array_would_hold(tmp_path, factor, monkeypatch):
    monkeypatch.setattr(views, "_AT_ONCE", 60)  # two images
    for source in sources(tmp_path).values():
        raw = np.asarray(source) if not isinstance(source, Source) else RAW
        if factor is None:
            view, want = ImageView(source), raw.astype(np.float32)
        else:
            view, want = ImageView(source, None, MEAN, factor), pixels.centred(raw, MEAN, factor)
        assert (view.shape, view.ndim, view.dtype, len(view)) == (want.shape, 4, np.float32, 11)
        for key in KEYS:
            assert view[key].dtype == np.float32
            assert view[key].tobytes() == want[key].tobytes()
            assert view[key].shape == want[key].shape
        np.testing.assert_array_equal(np.asarray(view), want)
        np.testing.assert_array_equal(list(view), want)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_mean_is_subtracted_in_its_own_precision(dtype):
    for raw in (RAW, RAW.astype(np.float32) / 7):
        view = ImageView(raw, mean=MEAN.astype(dtype), factor=127.5)
        want = pixels.centred(raw, MEAN.astype(dtype), 127.5)
        assert view[:].tobytes() == want.tobytes()


@pytest.mark.parametrize("some", [[5, 2, 9], MASK, slice(1, 8, 2), [], np.array([3, 3]), [-1]])
def test_parts_of_views_are_views(some):
    source = Source(RAW)
    for view in (ImageView(source, some, MEAN), ImageView(source, mean=MEAN).take(some)):
        want = pixels.centred(RAW, MEAN, 1)[some]
        part, rest = view.take(np.arange(len(view))[::-1]), view.take(slice(1, None))
        assert not source.rows
        assert view.shape == want.shape
        np.testing.assert_array_equal(view[:], want)
        np.testing.assert_array_equal(part[:], want[::-1])
        np.testing.assert_array_equal(rest[:], want[1:])
        source.rows.clear()


def test_only_what_is_asked_for_is_read_and_once():
    source = Source(RAW)
    ImageView(source, [8, 3, 5, 3])[[0, 3, 1, 1]]
    assert source.rows == [3, 8]


def test_images_that_are_not_there():
    view = ImageView(RAW, [1, 2, 3])
    for key in (3, -4, [0, 3], slice("a"), MASK, 1.0, "a", (0, 1), np.array([0.5])):
        with pytest.raises((IndexError, TypeError)) as error:
            view[key]
        assert error.type is (TypeError if isinstance(key, slice) else IndexError)
    for key in ([3], [-4], MASK):
        with pytest.raises(IndexError):
            view.take(key)
        with pytest.raises(IndexError):
            ImageView(RAW[:3], key)


def test_nothing_can_be_written_through(tmp_path):
    images = RAW.astype(np.float32)
    rows, mean = np.array([0, 1]), MEAN.copy()
    for view in (ImageView(images, rows, mean), ImageView(images, rows)):
        before = view[:]
        view[:][:], view[0][:] = 7, 7
        rows[:], mean[:] = 5, 9
        np.testing.assert_array_equal(view[:], before)
        rows[:] = 0, 1
        with pytest.raises(TypeError):
            view[0] = 0
    others = pickle.loads(pickle.dumps(view)), copy.deepcopy(view), view.take([0])
    for each in (view, *others):
        arrays = [value for value in vars(each).values() if isinstance(value, np.ndarray)]
        assert arrays
        assert not any(array.flags.writeable for array in arrays)


def test_a_source_that_hands_out_its_own_memory_is_safe():
    class Own(Source):
        def __getitem__(self, rows):
            return self._images[rows[0] : rows[-1] + 1]

    images = RAW.astype(np.float32)
    ImageView(Own(images))[2:5][:] = 0
    np.testing.assert_array_equal(images, RAW)


def test_pickled_with_its_images_or_the_name_of_their_file(tmp_path):
    large = np.random.default_rng(1).integers(0, 256, (4000, 4, 3, 2)).astype(np.uint8)
    whole = mapped(tmp_path, large)
    for source in (
        whole,
        whole[1111:],
        np.asarray(whole)[3000:],
        large[:9],
        whole[::2],
        Source(RAW),
    ):
        view = ImageView(source, [4, 0, 1])
        again = pickle.loads(pickle.dumps(view))
        np.testing.assert_array_equal(again[:], view[:])
        np.testing.assert_array_equal(copy.deepcopy(view)[:], view[:])
    assert len(pickle.dumps(ImageView(whole[5:]).take([3]))) < 5000
    changed = mapped(tmp_path, large, "c")  # whose changes are in no file
    changed[:] = 1
    assert pickle.loads(pickle.dumps(ImageView(changed)))[:].max() == 1


def test_what_is_no_view():
    for bad in (RAW.astype(np.int64), RAW > 3, np.uint8(3), ["a"], RAW.astype(complex)):
        with pytest.raises(ValueError, match=r"images: expected images .* uint8 or floating, got"):
            ImageView(bad)
    for mean in (MEAN[0], np.full_like(MEAN, np.nan)):
        with pytest.raises(ValueError, match=r"mean: expected a finite image of shape \(4, 3, 2\)"):
            ImageView(RAW, mean=mean)
    for mean, factor in ((MEAN, np.inf), (MEAN, "2"), (None, 2.0), (MEAN, None)):
        with pytest.raises(ValueError, match="factor: expected a finite number"):
            ImageView(RAW, mean=mean, factor=factor)
    with pytest.raises(ValueError, match="indices: expected shape"):
        ImageView(RAW, [[1, 2]])
    with pytest.raises(ValueError, match="copy: expected None or True"):
        ImageView(RAW).__array__(copy=False)  # NumPy 1 does not hand it on


def test_a_source_that_returns_something_else():
    class Wrong(Source):
        def __getitem__(self, rows):
            return self.change(super().__getitem__(rows))

    for change in (lambda x: x[:-1], lambda x: x[..., 0], lambda x: x / 255, lambda x: None):
        source = Wrong(RAW)
        source.change = change
        with pytest.raises(ValueError, match=r"images: expected uint8 of shape \(2, 4, 3, 2\)"):
            ImageView(source)[:2]


def test_what_is_in_memory(tmp_path):
    whole = mapped(tmp_path, RAW)
    for images in (whole, whole[2:], np.asarray(whole), np.asarray(whole)[1:][::2], Source(RAW),
                   ImageView(RAW)):  # fmt: skip
        assert not views.in_memory(images)
        assert views.is_array_like(images)
    for images in (RAW, RAW[2:], whole[[1, 2]], whole + 1):
        assert views.in_memory(images)
    assert not views.is_array_like([1, 2])
