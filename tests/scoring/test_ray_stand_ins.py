"""What stands in a scorer where a cluster computes has all that the scorer asks of it."""

import ast
import inspect

import pytest

from emoc_tf.scoring import ray_scorer, scorer
from emoc_tf.scoring.scored_part import ScoredPart
from emoc_tf.scoring.sketches.sketch import Sketch
from tests.scoring import models


def asked_of(name):
    """Returns the attributes that `EMOCScorer` takes of one of its own."""
    tree = ast.parse(inspect.getsource(scorer))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr == name
    }


@pytest.mark.parametrize("method", ["exact", "sketch"])
def test_a_cluster_answers_all_that_a_scorer_asks(method):
    one = scorer.EMOCScorer(models.dense(), method=method)
    part = ray_scorer._Part(one._part, one)
    assert asked_of("_part") >= {"inputs", "logits", "check_masks"}
    assert not [name for name in asked_of("_part") if not hasattr(part, name)]
    assert isinstance(one._part, ScoredPart)
    if method == "sketch":
        assert isinstance(one._sketch, Sketch)
        sketch = ray_scorer._Sketch(one._sketch)
        assert asked_of("_sketch") >= {"apply", "report"}
        assert not [name for name in asked_of("_sketch") if not hasattr(sketch, name)]
