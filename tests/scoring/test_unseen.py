"""Sets that may be of a class without an output, against a model whose head has really grown."""

import numpy as np
import pytest
import tensorflow as tf

from emoc_tf.models import structure
from emoc_tf.scoring import EMOCScorer, reference
from tests.scoring import models

SETS = np.array([[0, 1, 2], [2, 3, -1], [4, 1, 8], [-1, -1, -1], [8, 2, 0]])
UNSEEN = np.array([0.3, 1.0, 0.0, 0.5, 0.8])


def grown(model):
    """The model in float64 with one output more, which is 0 for all images."""
    found = structure.grow_head(reference.rebuild(model), 1, np.random.default_rng(0))
    head = found.layers[-1]
    weights = [weight.copy() for weight in head.get_weights()]
    for weight in weights:
        weight[..., -1] = 0
    head.set_weights(weights)
    return found


def new_changes(model, x, images, output="logits", regularizer=True, new_unit=False):
    """(x, image, output): the changes that an image of a new class makes, signed."""
    model64, larger = reference.rebuild(model), grown(model)
    num_classes = model.output_shape[-1]
    gradient = reference._loss_gradient_function(larger, regularizer)
    label = tf.constant(num_classes)
    gradients = np.array([gradient(tf.cast(image, tf.float64), label) for image in images])

    def jacobians(model):
        row = reference._row_function(model, output)
        return np.array([reference._jacobian(model, row, image) for image in x])

    if new_unit:
        rows = jacobians(larger)
        return np.einsum("xcp,np->xnc", rows, gradients)
    # The weights that the old model has: not the last column of the head's.
    old = np.concatenate(
        [
            (np.arange(np.prod(new.shape)) % new.shape[-1] < before.shape[-1])
            for new, before in zip(
                larger.trainable_variables, model64.trainable_variables, strict=True
            )
        ]
    )
    rows = jacobians(model64)
    return np.einsum("xcp,np->xnc", rows, gradients[:, old])


def literal(model, x, images, labels, output="logits", regularizer=True, new_unit=False):
    """(1 − π) times the score with known labels plus π times that under a new one."""
    known = reference.set_scores(model, x, images, SETS, labels, output, regularizer)
    changes = new_changes(model, x, images, output, regularizer, new_unit)
    new = np.zeros(len(SETS))
    for index, row in enumerate(SETS):
        own = changes[:, row[row >= 0]]
        own = own.sum(axis=1, keepdims=True) if labels == "joint" else own
        new[index] = np.abs(own).sum(axis=(1, 2)).mean()
    return (1 - UNSEEN) * known + UNSEEN * new


@pytest.mark.parametrize(
    ("labels", "output", "regularizer"),
    [
        ("set", "logits", True),
        ("image", "softmax", False),
        ("expected", "logits", False),
        ("joint", "softmax", True),
    ],
)
def test_scores(labels, output, regularizer):
    model = reference.rebuild(models.make("convolutional"))
    images = models.images(9, model.input_shape[1:]).astype(float)
    wanted = literal(model, images[:5], images, labels, output, regularizer)
    scorer = EMOCScorer(model, output, regularizer)
    found = scorer.set_scores(images[:5], images, SETS, labels, unseen=UNSEEN)
    np.testing.assert_allclose(found, wanted, rtol=1e-9)
    for offsets in (None, np.array([0, 0, 1, 0.5, 0]) * wanted.max()):
        total = wanted if offsets is None else wanted + offsets
        for confidence in (0.95, None):
            best = scorer.select_set(
                images[:5], images, SETS, labels, confidence, unseen=UNSEEN, offsets=offsets
            )
            assert best.index == total.argmax()
            assert best.score == pytest.approx(total.max(), rel=1e-9)


def test_sure_sets_need_no_other_pairs():
    model = models.make("convolutional", scale=2.0)
    images = models.images(9, model.input_shape[1:])
    scorer = EMOCScorer(model)
    plain = scorer.set_scores(images, images, SETS)
    np.testing.assert_array_equal(
        scorer.set_scores(images, images, SETS, unseen=np.zeros(5)), plain
    )
    for unseen, count in ((np.zeros(5), 6), (np.ones(5), 6), (np.full(5, 0.5), 12)):
        found = scorer.select_set(images, images, SETS, np.zeros(5, int), None, unseen=unseen)
        assert found.pairs == 9 * count


def test_elimination_keeps_its_promise_with_all_parts():
    model = models.make("convolutional", scale=1.0)
    images = models.images(300, model.input_shape[1:])
    rng = np.random.default_rng(1)
    sets, unseen = rng.integers(40, size=(50, 3)), rng.random(50)
    scorer = EMOCScorer(model)
    scores = scorer.set_scores(images, images, sets, unseen=unseen)
    offsets = rng.random(50) * scores.std()
    best, used = (scores + offsets).argmax(), []
    for seed in range(20):
        found = scorer.select_set(images, images, sets, seed=seed, unseen=unseen, offsets=offsets)
        used.append((found.index == best, found.pairs_evaluated / found.pairs))
    right, share = np.mean(used, axis=0)
    assert right >= 0.95
    assert share < 0.9
    twice = np.concatenate([sets, sets])
    more = np.r_[offsets, offsets + scores.max()]  # equal sets, but for what is added
    found = scorer.select_set(images, images, twice, unseen=np.r_[unseen, unseen], offsets=more)
    assert found.index == 50 + best


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("unseen", np.full(5, 1.1), "numbers in"),
        ("unseen", np.full(5, np.nan), "numbers in"),
        ("unseen", np.ones(4), "numbers in"),
        ("unseen", "new", "numbers in"),
        ("offsets", np.full(5, np.inf), "finite numbers"),
        ("offsets", np.ones((5, 1)), "finite numbers"),
    ],
)
def test_what_is_refused(name, value, expected):
    model = models.make("dense")
    images = models.images(9, model.input_shape[1:])
    with pytest.raises(ValueError, match=rf"{name}: expected \(5,\) {expected}"):
        EMOCScorer(model).select_set(images, images, SETS, **{name: value})
