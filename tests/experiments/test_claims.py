"""What is counted against the paper's sentences, on records counted by hand."""

import re

import numpy as np
import pytest

from emoc_tf.analysis.measures import Measure
from emoc_tf.records.run_record import RunRecord
from tests import benchmark


@pytest.fixture(scope="module")
def claims():
    return benchmark("claims")


def test_the_initialisations_share_of_the_variance(claims):
    measure = Measure(lambda run: run.steps["test_accuracy"][-1], "last", 3)

    def groups(values):
        return {
            str(policy): [record(s, (0, 0, value)) for s, value in enumerate(row)]
            for policy, row in enumerate(values)
        }

    # Policies that differ by a constant share everything.
    alike = groups([[0.1, 0.5, 0.3], [0.2, 0.6, 0.4]])
    assert claims.shared_variance(alike, measure) == pytest.approx(1)
    # Shrout and Fleiss, table 2: six targets by four judges, ICC(3,1) = 0.71.
    judges = np.transpose(
        [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
    )
    assert claims.shared_variance(groups(judges), measure) == pytest.approx(0.71, abs=0.005)


def record(seed=0, accuracies=(0.1, 0.2, 0.3), known=(0.5, 0.4, 0.3), queried=(5, 1)):
    steps = {
        "step": np.arange(3.0),
        "test_accuracy": np.array(accuracies),
        "known_accuracy": np.array(known),
        "queried_class": np.array([np.nan, *queried]),
    }
    classes = (5, 7, 1, 2)
    settings = {"known_classes": 2, "sampler": "single_class"}
    return RunRecord("any", seed, settings, {}, None, steps, {}, classes, np.zeros((3, 4)))


def test_first_places_and_tests_step_by_step(claims):
    emoc = [0.6, 0.6, 0.6], [0.5, 0.5, 0.5]
    other = [0.1, 0.6, 0.7], [0.2, 0.5, 0.55]  # the first initialisation ties, the second differs
    groups = {
        "emoc": [record(s, (0, emoc[0][s], emoc[1][s])) for s in range(3)],
        "other": [record(s, (0, other[0][s], other[1][s])) for s in range(3)],
    }
    found = claims.step_by_step(groups, "emoc")
    # Step 1: emoc is first in seeds 0 and 1, other in 1 and 2; step 2: in 0 and 1; 1 and 2.
    assert found["emoc"][:2] == (2, 2)
    assert found["other"] == (2, 2, 0, 0)
    groups["lower"] = [record(s, (0, 0.6, 0.4 + 0.001 * s)) for s in range(3)]
    assert claims.step_by_step(groups, "emoc")["lower"] == (0, 2, 1, 0)
    assert claims.step_by_step(groups, "lower")["emoc"][2:] == (0, 1)
    with pytest.raises(ValueError, match="agent: expected one of"):
        claims.step_by_step(groups, "none")


def test_shares_of_queries(claims):
    # 5 and 7 are known at the start; 1 is new once, then found; 2 is new.
    runs = [record(queried=(5, 1)), record(queried=(1, 1)), record(queried=(2, 7))]
    np.testing.assert_allclose(claims.query_shares(runs), [2 / 6, 3 / 6, 1 / 6])


def test_retention(claims):
    runs = [record(known=(0.5, 0.9, 0.3)), record(1, known=(0.6, 0.9, 0.5))]
    baseline = [record(known=(0.5, 0.1, 0.4)), record(1, known=(0.6, 0.1, 0.8))]
    *numbers, ends = claims.retention(runs, baseline)
    np.testing.assert_allclose(numbers, [0.55, -0.15, -0.2, -0.2])
    assert np.isnan(ends).all()  # two pairs make no interval


def test_tables_are_printed(claims, capsys):
    groups = {
        name: [record(s, (0.1, 0.2, level + s / 10)) for s in range(2)]
        for name, level in (("random", 0.3), ("emoc", 0.4))
    }
    for group in groups.values():
        for run in group:
            run.steps.update(
                {"labelled": np.array([4.0, 5, 6]), "discovered_classes": np.arange(3.0)}
            )
    claims.show(groups, "emoc")
    printed = capsys.readouterr().out
    assert "2 initialisations of 2 policies, 2 steps" in printed
    assert "0.500" in printed
    assert "queries: first classes" in printed
    # Without random nothing is said against it, and shares of classes are of sets of one class.
    for run in groups["emoc"]:
        run.configuration["sampler"] = "minibatch-cluster"
    claims.show({"emoc": groups["emoc"]}, "emoc")
    printed = capsys.readouterr().out
    assert "queries: first classes" not in printed
    assert re.search(r"emoc +0.500 +−0.200 +−0.200 +– *\n", printed)
