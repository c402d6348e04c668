"""Models of other outputs of one operation: each has scores of its own."""

import numpy as np
import pytest

from emoc_tf.scoring import EMOCScorer
from tests.models.test_known_bodies import OTHER_OUTPUTS, SIGNALS, other_outputs
from tests.scoring import forward_mode, models


@pytest.mark.filterwarnings("ignore:scored exactly but slowly")
@pytest.mark.parametrize("kind", OTHER_OUTPUTS)
def test_scores_are_those_of_the_output_that_is_used(kind):
    pair = [models.randomised(model, seed) for seed, model in enumerate(other_outputs(kind))]
    scorers = [EMOCScorer(model) for model in pair]
    for model, scorer in zip(pair, scorers, strict=True):
        found = scorer.scores(SIGNALS[:3], SIGNALS[3:])
        expected = forward_mode.scores(model, SIGNALS[:3], SIGNALS[3:])
        np.testing.assert_allclose(found, expected, rtol=1e-4)
