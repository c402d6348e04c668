"""What scores will take, told beforehand."""

import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer, expectation
from tests.scoring import models


@pytest.mark.parametrize("name", ["convolutional", "words"])
def test_seconds_grow_with_images_and_pairs(name):
    scorer = EMOCScorer(models.make(name))
    one = scorer.expected_seconds(100, 1000)
    assert 0 < one < scorer.expected_seconds(200, 1000) < scorer.expected_seconds(200, 3000)
    part = expectation.Expectation.__new__(expectation.Expectation)
    part.jacobian, part.gradient, part.change = 3.0, 2.0, 0.5
    assert part.seconds(10, 4) == 10 * 3 + 4 * 2 + 40 * 0.5


def test_it_is_measured_once_and_changes_no_score(monkeypatch):
    model = models.make("convolutional")
    images, scorer = models.inputs(model, 6), EMOCScorer(model)
    before = scorer.scores(images, images)
    scorer.expected_seconds(10, 10)
    monkeypatch.setattr(expectation, "_measured", None)
    assert scorer.expected_seconds(10, 10) > 0
    np.testing.assert_array_equal(scorer.scores(images, images), before)
