"""Sketched scores against exact ones, with all directions, and against literal cutting."""

import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, pairs, reference
from tests.scoring import models
from tests.scoring.sketches import drawn


@pytest.fixture(autouse=True)
def small(monkeypatch):
    drawn.small_stages_are_cut(monkeypatch)
    monkeypatch.setattr(pairs, "GRADIENT_BATCH", 4)
    monkeypatch.setattr(pairs, "REFERENCE_BATCH", 4)
    monkeypatch.setattr(pairs, "BLOCK", 8)


def made(name, output="logits", regularizer=True):
    """Returns a model in float64, a scorer with sketches, reference images and candidates."""
    model = reference.rebuild(models.make(name))
    images = models.inputs(model, 11)
    images = images if images.dtype.kind == "i" else images.astype(np.float64)
    scorer = EMOCScorer(model, output, regularizer, method="sketch", memory_budget=1 << 18)
    return model, scorer, images[:5], images[5:]


KINDS = [
    ("dense", "logits", True),
    ("convolutional", "logits", True),
    ("dilated", "softmax", False),
    ("unusual", "logits", True),
    ("separable", "softmax", True),
    ("signals", "logits", True),
    ("normalised", "logits", True),
    ("words", "logits", True),
    ("few_positions", "logits", True),
    ("unknown", "logits", True),
    ("headless_training", "logits", True),
]


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize(("name", "output", "regularizer"), KINDS)
def test_all_directions_lose_nothing(name, output, regularizer, monkeypatch):
    given = drawn.use(monkeypatch, 1.0)
    model, scorer, x, candidates = made(name, output, regularizer)
    labels = np.arange(len(candidates)) % model.output_shape[-1]
    exact = EMOCScorer(model, output, regularizer)
    sets = np.array([[0, 1, 2], [3, -1, 4], [5, 0, 0]])
    found = [
        scorer.scores(x, candidates, labels),
        scorer.expected_scores(x, candidates),
        scorer.set_scores(x, candidates, sets),
        scorer.set_scores(x, candidates, sets, "joint"),
        scorer.set_scores(x, candidates, sets, unseen=np.array([0.0, 0.5, 1.0])),
    ]
    right = [
        exact.scores(x, candidates, labels),
        exact.expected_scores(x, candidates),
        exact.set_scores(x, candidates, sets),
        exact.set_scores(x, candidates, sets, "joint"),
        exact.set_scores(x, candidates, sets, unseen=np.array([0.0, 0.5, 1.0])),
    ]
    for have, want in zip(found, right, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-9)
    assert scorer.sketch.error < 1e-9
    assert bool(given) == (name != "dense")


@pytest.mark.parametrize(
    ("name", "output", "regularizer"),
    [
        ("convolutional", "logits", True),
        ("few_positions", "softmax", True),
        ("separable", "logits", True),
        ("normalised", "logits", True),
        ("unusual", "logits", False),
    ],
)
def test_fewer_directions_are_a_projection(name, output, regularizer, monkeypatch):
    given = drawn.use(monkeypatch, 0.4)
    model, scorer, x, candidates = made(name, output, regularizer)
    labels = np.arange(len(candidates)) % model.output_shape[-1]
    found = scorer.scores(x, candidates, labels)
    literal = drawn.scores(model, x, candidates, labels, given, output, regularizer)
    np.testing.assert_allclose(found, literal, rtol=1e-9)
    exact = EMOCScorer(model, output, regularizer).scores(x, candidates, labels)
    assert np.abs(found / exact - 1).max() > 1e-3


def test_all_kinds_of_cuts_are_met(monkeypatch):
    kinds = set()
    for name in ("separable", "few_positions", "normalised", "convolutional"):
        given = drawn.use(monkeypatch, 0.4)
        _, scorer, x, candidates = made(name)
        scorer.scores(x, candidates)
        kinds |= {cut.kind for cut, _ in given}
    assert kinds == {"inputs", "both", "rows"}
