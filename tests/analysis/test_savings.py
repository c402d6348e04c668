"""Labels saved to the same accuracy, against literal loops."""

import numpy as np
import pytest

from emoc_tf.analysis import savings
from emoc_tf.analysis.savings import labels_saved
from emoc_tf.analysis.statistics import expanded_level
from emoc_tf.records.run_record import read_runs
from tests.records.written import write


def grid(path, curves):
    """Returns the runs of `curves`: policy to (seeds, rows) accuracies."""
    for agent, seeds in curves.items():
        for seed, accuracies in enumerate(seeds):
            write(path, agent, seed, accuracies=accuracies)
    return read_runs(path)


def literal(labelled, policy, baseline):
    """Walks along the curves in small steps; no more exact than those."""
    fine = np.linspace(labelled[0], labelled[-1], 400_001)
    target = min(policy[-1], baseline[-1])
    there = [
        next(x for x, y in zip(fine, np.interp(fine, labelled, curve), strict=True) if y >= target)
        for curve in (policy, baseline)
    ]
    return there[1] - there[0]


def test_labels_saved_by_hand(tmp_path):
    curves = {
        "random": [(0.2, 0.4, 0.6)],
        "early": [(0.2, 0.6, 0.9)],  # there after one step of two
        "between": [(0.2, 0.5, 0.7)],  # half of the last step too early
        "late": [(0.2, 0.3, 0.4)],  # random is there a step before
        "equal": [(0.2, 0.4, 0.6)],
        "first": [(0.6, 0.1, 0.6)],  # at once
        "worse in the end": [(0.7, 0.1, 0.2)],  # to which random comes at once, too
    }
    runs = grid(tmp_path, curves)
    start, _, end = runs[0].steps["labelled"]
    step = (end - start) / 2
    found = {row.agent: row for row in labels_saved(runs, "random")}
    wanted = {
        "early": step, "between": step / 2, "late": -step, "equal": 0, "first": 2 * step,
        "worse in the end": 0,
    }  # fmt: skip
    assert {agent: row.labels for agent, row in found.items()} == pytest.approx(wanted)
    assert [row.agent for row in labels_saved(runs, "random")] == [
        "first", "early", "between", "equal", "worse in the end", "late",
    ]  # fmt: skip
    assert all(np.isnan([row.low, row.high]).all() for row in found.values())  # of one pair
    assert "random" not in found


def test_curves_of_chance_against_small_steps():
    rng = np.random.default_rng(0)
    labelled = np.cumsum(rng.integers(1, 30, 12)).astype(float)
    signs = set()
    for _ in range(40):
        policy, baseline = rng.normal(0, 1, (2, 12)) + 0.2 * np.arange(12)
        wanted = literal(labelled, policy, baseline)
        assert savings._saved(labelled, policy, baseline) == pytest.approx(wanted, abs=1e-2)
        assert savings._saved(labelled, baseline, policy) == pytest.approx(-wanted, abs=1e-2)
        signs.add(np.sign(wanted))
    assert signs >= {-1, 1}  # both ways were tried


def test_equal_curves_save_nothing_where_they_fall(tmp_path):
    fall = [(0.2, 0.7, 0.6), (0.5, 0.4, 0.3)]
    runs = grid(tmp_path, {"random": fall, "same": fall})
    assert [row.labels for row in labels_saved(runs, "random")] == [0]


def test_intervals_are_those_of_a_literal_bootstrap(tmp_path):
    rng = np.random.default_rng(1)
    curves = {
        agent: [tuple(np.round(np.sort(rng.uniform(0.2, 0.8, 3)), 3)) for _ in range(7)]
        for agent in ("random", "emoc")
    }
    runs = grid(tmp_path, curves)
    labelled = runs[0].steps["labelled"]
    (found,) = labels_saved(runs, "random", resamples=300)
    drawn = np.random.default_rng(0).choice(7, (300, 7))
    values = [np.array(curves[agent]) for agent in ("emoc", "random")]
    means = [[each[rows].mean(axis=0) for each in values] for rows in drawn]
    saved = [float(savings._saved(labelled, *pair)) for pair in means]
    outside = (1 - expanded_level(7)) / 2
    wanted = np.quantile(saved, [outside, 1 - outside])
    assert (found.low, found.high) == pytest.approx(tuple(wanted))
    assert found.low < found.labels < found.high
    assert found.pairs == 7


def test_only_pairs_count(tmp_path):
    curves = {"random": [(0.2, 0.4, 0.6), (0.0, 0.0, 0.0)], "emoc": [(0.2, 0.6, 0.8)]}
    runs = grid(tmp_path, curves)
    (row,) = labels_saved(runs, "random")
    step = runs[0].steps["labelled"][2] - runs[0].steps["labelled"][1]
    assert (row.pairs, row.labels) == (1, pytest.approx(step))


def test_without_test_data_nothing_is_said(tmp_path):
    curves = {"random": [(np.nan,) * 3], "emoc": [(np.nan,) * 3]}
    assert labels_saved(grid(tmp_path, curves), "random") == []
    with pytest.raises(ValueError, match=r"baseline: expected one of \['emoc', 'random'\]"):
        labels_saved(read_runs(tmp_path), "other")


def test_nothing_is_said_of_runs_that_have_one_count_in_common(tmp_path):
    late = (np.nan, np.nan, 0.6)
    runs = grid(tmp_path, {"random": [(0.2, 0.4, 0.6)], "emoc": [late]})
    assert labels_saved(runs, "random") == []


def test_runs_that_were_labelled_at_other_counts_are_read_off_between_their_steps(tmp_path):
    runs = grid(tmp_path, {"random": [(0.2, 0.4, 0.6)], "emoc": [(0.2, 0.6, 0.8)]})
    emoc = next(run for run in runs if run.agent == "emoc")
    start, middle, end = emoc.steps["labelled"]
    emoc.steps["labelled"] = np.array([start, middle + 2, end - 1])  # some were skipped
    (row,) = labels_saved(runs, "random")
    # random, read off where emoc ends, has 0.6 less one part of its last step.
    target = 0.6 - 0.2 / (end - middle)
    there = start + (target - 0.2) / 0.4 * (middle + 2 - start)
    assert row.labels == pytest.approx(end - 1 - there)


def test_runs_whose_labels_were_taken_back_save_nothing(tmp_path):
    runs = grid(
        tmp_path, {"random": [(0.2, 0.4, 0.6)], "a": [(0.2, 0.6, 0.9)], "b": [(0.2, 0.5, 1)]}
    )
    (corrected,) = [run for run in runs if run.agent == "b"]
    corrected.steps["labelled"][1] = corrected.steps["labelled"][0] - 1
    assert [row.agent for row in labels_saved(runs, "random")] == ["a"]
    assert labels_saved(runs, "b") == []
