"""Images that lie elsewhere score as the same images in memory, bit for bit."""

import numpy as np
import pytest

from emoc_tf.data import pixels
from emoc_tf.data.views import ImageView
from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import models

SETS = np.array([[0, 5, 9], [31, 5, -1], [-1, -1, -1], [8, 7, 6], [2, 9, 0]])
MODES = ["set", "image", "expected", np.array([0, 1, 2, 3, 1])]


class Own:
    """The least that images may have. Asking for all of them at once is an error."""

    def __init__(self, images, most):
        self._images, self._most = images, most
        self.shape, self.dtype, self.rows = images.shape, images.dtype, set()

    def __len__(self):
        return len(self._images)

    def __getitem__(self, rows):
        assert isinstance(rows, np.ndarray) and rows.dtype.kind == "i"
        assert len(rows) <= self._most and (np.diff(rows) > 0).all()
        self.rows |= set(rows.tolist())
        return self._images[rows]


@pytest.fixture(scope="module")
def model():
    return models.make("dense")


def raw_images(model, count):
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (count, *model.input_shape[1:])).astype(np.uint8)


def elsewhere(tmp_path, model, count):
    """Yields array-likes, and an array in memory that holds the same."""
    raw = raw_images(model, count)
    np.save(tmp_path / "raw.npy", raw)
    np.save(tmp_path / "floats.npy", raw / np.float32(255))
    mapped = np.load(tmp_path / "raw.npy", mmap_mode="r")
    mean = raw[:4].mean(axis=0, dtype=np.float64)
    yield ImageView(mapped, mean=mean, factor=0.01), pixels.centred(raw, mean, 0.01)
    yield ImageView(Own(raw, 256)), raw.astype(np.float32)
    yield Own(raw / 255, 256), raw / 255
    yield mapped, raw
    yield np.load(tmp_path / "floats.npy", mmap_mode="r"), raw / np.float32(255)


def assert_equal_bits(found, want):
    assert np.asarray(found).tobytes() == np.asarray(want).tobytes()


def test_every_method_of_the_scorer(tmp_path, model):
    scorer = EMOCScorer(model)
    for images, array in elsewhere(tmp_path, model, 260):
        one, other = scorer.scores(images, images), scorer.scores(array, array)
        assert_equal_bits(one, other)
        assert_equal_bits(
            scorer.expected_scores(images, array[:3]), scorer.expected_scores(array, array[:3])
        )
        for labels in MODES:
            want = scorer.set_scores(array[:20], array, SETS, labels)
            assert_equal_bits(scorer.set_scores(array[:20], images, SETS, labels), want)
            for confidence in (0.95, None):
                found = scorer.select_set(images, images, SETS, labels, confidence, seed=2)
                assert found == scorer.select_set(array, array, SETS, labels, confidence, seed=2)


def test_the_literal_functions(tmp_path, model):
    sets = np.array([[0, 2], [1, -1]])
    mapped, own = list(elsewhere(tmp_path, model, 3))[::2][:2]
    for function, (images, array), *rest in (
        (reference.scores, mapped),
        (reference.expected_scores, own),
        (reference.set_scores, mapped, sets),
        (reference.set_scores, own, sets, "image"),
        (reference.set_scores, mapped, sets, np.array([2, 0])),
    ):
        assert_equal_bits(
            function(model, images, images, *rest), function(model, array, array, *rest)
        )
    assert_equal_bits(reference.outputs(model, images), reference.outputs(model, array))


def test_words_that_lie_elsewhere():
    model = models.make("words")
    words, scorer = models.inputs(model, 10), EMOCScorer(model)
    want = scorer.set_scores(words, words, SETS[[0, 3, 4]])
    for dtype in (np.uint8, np.int64, np.float32):
        images = Own(words.astype(dtype), 256)
        assert_equal_bits(scorer.set_scores(images, images, SETS[[0, 3, 4]]), want)
    bad = words.astype(np.float32)
    bad[7, 0] += 0.5
    with pytest.raises(ValueError, match="reference: expected integers for this model, got"):
        scorer.scores(Own(bad, 256), words)


def test_only_images_in_sets_are_read(model):
    images = Own(raw_images(model, 100), 256)
    EMOCScorer(model).set_scores(images._images[:8], images, SETS)
    assert images.rows == set(SETS[SETS >= 0].tolist())


@pytest.mark.parametrize("where", [0, 299])
def test_what_is_not_finite_is_named_by_its_place(model, where):
    array = raw_images(model, 300) / 255
    array[where, 1, 1, 0] = np.nan
    good = array[5:30]
    message = f"expected finite numbers, got nan in image {where}"
    scorer = EMOCScorer(model)
    for images in (Own(array, 256), array):
        with pytest.raises(ValueError, match=f"candidates: {message}"):
            scorer.scores(good, images)
        with pytest.raises(ValueError, match=f"reference: {message}"):
            scorer.scores(images, good)
        with pytest.raises(ValueError, match=f"images: {message}"):
            scorer.set_scores(good, images, np.array([[3, where]]))
        for confidence in (0.9, None):
            with pytest.raises(ValueError, match=f"reference: {message}"):
                scorer.select_set(images, good, SETS[[0, 3, 4]], confidence=confidence)
        with pytest.raises(ValueError, match=f"reference: {message}"):
            reference.scores(model, images, good[:1])


def test_shapes_and_dtypes_are_refused_at_once(model):
    scorer, good = EMOCScorer(model), raw_images(model, 30)
    for bad, message in (
        (Own(good[:, 1:], 0), r"non-empty array \(n, 5, 3, 1\), got shape \(30, 4, 3, 1\)"),
        (Own(good[:0], 0), r"non-empty array \(n, 5, 3, 1\), got shape \(0, 5, 3, 1\)"),
        (Own(good[0], 0), r"non-empty array \(n, 5, 3, 1\), got shape \(5, 3, 1\)"),
        (Own(good > 3, 0), "expected numbers, got dtype bool"),
    ):
        with pytest.raises(ValueError, match=f"reference: expected .*{message}|{message}"):
            scorer.scores(bad, good)
        with pytest.raises(ValueError, match=f"images: expected .*{message}|{message}"):
            scorer.set_scores(good, bad, SETS)
