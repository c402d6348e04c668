"""What every learner has to keep to, as a test class to inherit."""

import abc
from typing import Any

import keras
import numpy as np

from emoc_tf.models import structure
from emoc_tf.models.own_learner import LearnerLike, OwnLearner

ITERATIONS = 60
_SHAPE, _CLASSES = (3, 3, 1), 3
_SEED = np.array([3, 4], np.int32)
_EVERY = np.arange(36)


def make_images() -> np.ndarray:
    """Returns 36 images of three classes in turn, which are easy to tell."""
    rng = np.random.default_rng(0)
    centres = 2 * rng.normal(size=(_CLASSES, *_SHAPE))
    noise = 0.3 * rng.normal(size=(len(_EVERY), *_SHAPE))
    return (centres[_EVERY % _CLASSES] + noise).astype(np.float32)


def make_labels() -> np.ndarray:
    """Returns the columns of these images."""
    return _EVERY % _CLASSES


def make_model(outputs: int = _CLASSES) -> keras.Model:
    """Returns a small model with dropout, the same each time."""
    layers, initializers = keras.layers, keras.initializers
    image = keras.Input(_SHAPE)
    x = layers.Flatten()(image)
    x = layers.Dense(8, "relu", kernel_initializer=initializers.GlorotUniform(seed=1))(x)
    x = layers.Dropout(0.1, seed=2)(x)
    head = layers.Dense(outputs, kernel_initializer=initializers.GlorotUniform(seed=3))
    return keras.Model(image, head(x))


class ByIndex:
    """Images that are no array: to be read by arrays of integers."""

    def __init__(self, images: np.ndarray) -> None:
        self._images, self.shape, self.dtype = images, images.shape, images.dtype

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, indices: Any) -> np.ndarray:
        if not isinstance(indices, np.ndarray) or indices.dtype.kind not in "iu":
            raise AssertionError(f"images: expected to be read by integer arrays, got {indices!r}")
        return self._images[indices]

    def __array__(self, *args: Any, **kwargs: Any) -> np.ndarray:
        raise AssertionError("images: expected to be read by index, got read as a whole")


class LearnerContract(abc.ABC):
    """Tests of a learner: inherit, give `make_learner`, and let pytest collect the class.

    A learner passes if it trains the model that it was given; if what it learns is a function of
    seed, weights, its arrays, and images and labels at `old` and `novel`; if it leaves these as
    they were; if it copes with old images alone, novel ones alone, and a head that grows or
    shrinks; and if another one resumes with its arrays, bit for bit.

    Example:
        >>> from emoc_tf.models import FitLearner
        >>> from emoc_tf.testing import LearnerContract
        >>> class TestMine(LearnerContract):  # pytest collects it
        ...     def make_learner(self, model, images):
        ...         return FitLearner.maker("sgd", epochs=1)(model, images)
        >>> len([name for name in dir(TestMine) if name.startswith("test_")])
        10
    """

    @abc.abstractmethod
    def make_learner(self, model: keras.Model, images: np.ndarray) -> LearnerLike:
        """Returns a new learner."""

    def _make(self, images: Any = None, model: keras.Model | None = None) -> OwnLearner:
        """Returns a learner as an exploration wraps it."""
        images = make_images() if images is None else images
        return OwnLearner(self.make_learner, make_model() if model is None else model, images)

    def test_the_model_learns(self) -> None:
        """The loss falls, from old images alone."""
        model = make_model()
        before = _loss(model, make_labels())
        self._make(model=model).train(ITERATIONS, _SEED, make_labels(), _EVERY, None)
        _check_lower(_loss(model, make_labels()), before, "after training")

    def test_novel_images_are_learnt(self) -> None:
        """Among old ones, and where no image was labelled before."""
        for old in (_EVERY[:24], _EVERY[:0]):
            model, labels, novel = make_model(), make_labels(), _EVERY[24:]
            before = _loss(model, labels, novel)
            self._make(model=model).train(ITERATIONS, _SEED, labels, old, novel)
            _check_lower(_loss(model, labels, novel), before, f"among {len(old)} old images")

    def test_equal_seeds_learn_the_same(self) -> None:
        """Two learners, twice each."""
        found = []
        for _ in range(2):
            model = make_model()
            learner = self._make(model=model)
            for step in range(2):
                learner.train(5, _SEED + np.int32(step), make_labels(), _EVERY[:24], _EVERY[24:])
            found.append(model)
        _check_equal(*found, "train: expected the same weights for equal seeds")

    def test_labels_are_read_where_there_are_some(self) -> None:
        """Others, below 0 or anything, make no difference."""
        found = []
        for other in (-2, 1):
            model, labels = make_model(), np.full(len(_EVERY), other)
            labels[:20] = make_labels()[:20]
            self._make(model=model).train(5, _SEED, labels, _EVERY[:10], _EVERY[10:20])
            found.append(model)
        _check_equal(*found, "train: expected labels read at old and novel only")

    def test_images_and_labels_are_left_as_they_were(self) -> None:
        """And so are the indices."""
        arrays = [make_images(), make_labels(), _EVERY[:24].copy(), _EVERY[24:].copy()]
        before = [array.copy() for array in arrays]
        images, *others = arrays
        self.make_learner(make_model(), images).train(5, _SEED.copy(), *others)
        for name, old, new in zip(
            ("images", "labels", "old", "novel"), before, arrays, strict=True
        ):
            np.testing.assert_array_equal(old, new, f"train: expected {name} left as they were")

    def test_images_are_read_by_index(self) -> None:
        """They may be larger than memory: what is learnt is the same as from an array."""
        found = []
        for images in (make_images(), ByIndex(make_images())):
            model = make_model()
            self._make(images, model).train(5, _SEED, make_labels(), _EVERY[:24], _EVERY[24:])
            found.append(model)
        _check_equal(*found, "train: expected the same weights from images that are no array")

    def test_no_iterations_train_nothing(self) -> None:
        """As where a model that is trained already is handed in."""
        model = make_model()
        self._make(model=model).train(0, _SEED, make_labels(), _EVERY, None)
        _check_equal(make_model(), model, "train: expected weights left alone by 0 iterations")

    def test_growth(self) -> None:
        """Old outputs are as they were, a new one is learnt."""
        model, labels = make_model(_CLASSES - 1), make_labels()
        learner = self._make(model=model)
        old, novel = _EVERY[labels < 2], _EVERY[labels == 2]
        learner.train(5, _SEED, labels, old, None)
        before = model.get_weights()
        grown = structure.grow_head(model, 1, np.random.default_rng(0))
        learner.replace_model(grown)
        for weight, new in zip(before, grown.get_weights(), strict=True):
            kept = new[tuple(slice(size) for size in weight.shape)]
            np.testing.assert_array_equal(weight, kept, "replace_model: expected weights kept")
        loss = _loss(grown, labels)
        learner.train(ITERATIONS, _SEED, labels, old, novel)
        _check_lower(_loss(grown, labels), loss, "after growth")

    def test_shrinking(self) -> None:
        """An output less; other labels, so that there is something to learn."""
        model, labels = make_model(), make_labels()
        learner = self._make(model=model)
        learner.train(5, _SEED, labels, _EVERY, None)
        smaller = structure.select_outputs(model, [0, 2])
        weights = smaller.get_weights()
        learner.replace_model(smaller)
        for old, new in zip(weights, smaller.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new, "replace_model: expected weights kept")
        used, labels = _EVERY[labels != 1], 1 - labels // 2
        loss = _loss(smaller, labels, used)
        learner.train(ITERATIONS, _SEED, labels, used, None)
        _check_lower(_loss(smaller, labels, used), loss, "after shrinking")

    def test_another_learner_resumes(self) -> None:
        """Bit for bit, with the arrays alone; before growth and after."""
        model, labels = make_model(_CLASSES - 1), make_labels()
        learner = self._make(model=model)
        old, last = _EVERY[labels < 2], _EVERY[labels == 2]
        for novel in (None, last):
            learner.train(5, _SEED, labels, old, novel)
            arrays = {name: array.copy() for name, array in learner.get_arrays().items()}
            twin = make_model(model.output_shape[-1])
            other = self._make(model=twin)
            other.set_arrays(arrays)
            for each in (learner, other):
                each.train(5, _SEED + np.int32(1), labels, old[:12], old[12:])
            _check_equal(model, twin, "set_arrays: expected the same weights after resuming")
            model = structure.grow_head(model, 1, np.random.default_rng(0))
            learner.replace_model(model)


def _loss(model: keras.Model, labels: np.ndarray, members: np.ndarray = _EVERY) -> float:
    """Returns the mean cross-entropy of some images."""
    logits = model(make_images()[members], training=False)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return float(loss(labels[members], logits))


def _check_lower(found: float, before: float, when: str) -> None:
    if not found < before:
        raise AssertionError(
            f"train: expected a lower loss {when}, got {found:.4f}, {before:.4f} before"
        )


def _check_equal(one: keras.Model, other: keras.Model, expected: str) -> None:
    for first, second in zip(one.get_weights(), other.get_weights(), strict=True):
        if first.tobytes() != second.tobytes():
            raise AssertionError(f"{expected}, got others")
