import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from emoc_tf.analysis import measures, statistics
from emoc_tf.records.run_record import read_runs
from tests.records.written import CONFIG, write

LEVELS = {"min": 0.5, "max": 0.62}


def grid(path, curves, discovered=None):
    """Returns the runs of `curves`: policy to (seeds, 3) accuracies."""
    for agent, seeds in curves.items():
        for seed, accuracies in enumerate(seeds):
            write(path, agent, seed, accuracies=accuracies, discovered=discovered)
    return read_runs(path)


def test_areas_by_hand():
    assert measures.normalised_area(np.array([10, 20, 40]), np.array([0.0, 1.0, 1.0])) == (
        pytest.approx((5 + 20) / 30)
    )
    assert measures.normalised_area(np.array([5, 6]), np.array([0.3, 0.3])) == pytest.approx(0.3)


def test_summaries_by_hand(tmp_path):
    curves = {"random": [(0.4, 0.5, 0.7), (0.4, 0.6, 0.8)], "emoc": [(0.4, 0.9, 0.9)]}
    best, second = measures.summarise(grid(tmp_path, curves))
    assert (best.agent, best.runs, second.agent, second.runs) == ("emoc", 1, "random", 2)
    assert second.final_accuracy.mean == pytest.approx(0.75)
    assert second.final_accuracy.standard_error == pytest.approx(0.05)
    assert second.final_accuracy.text(2) == "0.75±0.05"
    assert best.final_accuracy.text(2) == "0.90"
    assert second.accuracy_area.mean == pytest.approx((0.525 + 0.6) / 2)
    assert best.discovery_area.mean == pytest.approx(1.0)
    assert best.final_discovered.mean == 2
    assert best.selection_seconds.mean == pytest.approx(0.75)  # row 0 is no selection
    assert best.update_seconds.mean == pytest.approx(2.0)


def test_paired_differences_by_hand(tmp_path):
    curves = {
        "random": [(0.4, 0.5, 0.5 + 0.01 * seed) for seed in range(6)],
        "emoc": [(0.4, 0.5, 0.6 + 0.02 * seed) for seed in range(6)],
        "max": [(0.4, 0.5, 0.5 - 0.01 * seed) for seed in range(2, 4)],
    }
    runs = grid(tmp_path, curves)  # max has the seeds 0 and 1
    rows = statistics.paired_differences(runs, "random", "final_accuracy")
    assert [(row.agent, row.baseline, row.pairs) for row in rows] == [
        ("emoc", "random", 6),
        ("max", "random", 2),
    ]
    emoc, most = rows
    assert emoc.mean == pytest.approx(0.125)  # 0.10, 0.11, ..., 0.15
    assert 0.10 <= emoc.low < 0.125 < emoc.high <= 0.15
    assert emoc.p == 2 / 2**6  # all six of one sign
    assert emoc.p_corrected == 2 / 2**6  # the only one with enough pairs to be tested
    assert most.mean == pytest.approx(((0.48 - 0.5) + (0.47 - 0.51)) / 2)
    assert np.isnan(most.low)
    assert np.isnan(most.high)
    assert most.p == 2 / 2**2
    assert np.isnan(most.p_corrected)
    assert statistics.least_p(rows) == 2 / 2**6
    assert np.isnan(statistics.least_p([most]))
    back = statistics.paired_differences(runs, "emoc", "final_accuracy")
    other = next(row for row in back if row.agent == "random")
    assert (other.mean, other.low, other.high) == pytest.approx((-0.125, -emoc.high, -emoc.low))
    for name, message in (("baseline", "best"), ("measure", "fame")):
        with pytest.raises(ValueError, match=f"{name}: expected one of .*, got '{message}'"):
            statistics.paired_differences(
                runs, **{"baseline": "random", "measure": "final_accuracy", name: message}
            )


def test_a_policy_without_values_makes_no_other_ones_test_harder(tmp_path):
    curves = {
        "random": [(0.4, 0.5, 0.5)] * 6,
        "emoc": [(0.4, 0.5, 0.6 + 0.01 * seed) for seed in range(6)],
        "max": [(0.4, 0.5, np.nan)] * 6,
    }
    emoc, most = statistics.paired_differences(grid(tmp_path, curves), "random", "final_accuracy")
    assert (emoc.is_tested, most.is_tested) == (True, False)
    assert emoc.p_corrected == emoc.p == 2 / 2**6
    assert statistics.least_p([emoc, most]) == 2 / 2**6
    assert np.isnan(most.p_corrected)


def test_wilcoxon_by_hand():
    assert statistics.wilcoxon_p(np.arange(1.0, 10)) == 2 / 2**9
    # Ranks 1 to 5 with the least one negative: W = 1, two-sided P(W <= 1) = 2 · 2 / 2^5.
    assert statistics.wilcoxon_p(np.array([-1.0, 2, 3, 4, 5])) == pytest.approx(4 / 32)
    assert statistics.wilcoxon_p(np.zeros(9)) == 1
    # Zeros are left out; equal up to rounding is equal: of four signs, all one way.
    ties = np.array([0.1, 0.3 - 0.2, 0.5 - 0.4, 0.1, 0, 1e-17])
    assert statistics.wilcoxon_p(ties) == pytest.approx(2 / 2**4)


def test_holm_by_hand():
    corrected = statistics.holm_correction([0.01, 0.04, 0.03, 0.005])
    # Ordered 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, never less than the one before.
    assert corrected == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm_correction([0.9, 0.8]) == [1, 1]
    assert statistics.holm_correction([]) == []


def test_intervals_contain_what_they_say():
    """Under normal noise, with 9 pairs; the same interval without widening holds 0.90."""
    rng = np.random.default_rng(0)
    ends = [statistics.interval(rng.normal(size=9), resamples=999) for _ in range(600)]
    held = np.mean([low <= 0 <= high for low, high in ends])
    assert stats.binomtest(round(held * 600), 600, 0.945).pvalue > 0.01, held
    assert np.isnan(statistics.interval(np.arange(4.0))).all()
    assert np.isnan(statistics.interval(np.full(5, 0.5))).all()
    assert statistics.interval(np.arange(9.0)) == statistics.interval(np.arange(9.0))


def penalties_of(path, curves):
    agents, matrix = statistics.penalties(grid(path, curves), "test_accuracy")
    return dict(zip(agents, matrix, strict=True)), agents


def test_penalties_by_hand(tmp_path):
    # emoc − random is 0.1 ± 0.01 at step 1 and 0 ± 0.1 at step 2: better at one of two steps.
    random = [(0.4, 0.5, 0.5)] * 3
    emoc = [(0.4, 0.59, 0.4), (0.4, 0.6, 0.5), (0.4, 0.61, 0.6)]
    least = [(0.4, 0.1, 0.2)] * 2  # two seeds in common: not compared
    rows, agents = penalties_of(tmp_path, {"random": random, "emoc": emoc, "max": least})
    assert agents[0] == "emoc"
    assert rows["emoc"][agents.index("random")] == 0.5
    assert rows["random"][agents.index("emoc")] == 0
    assert np.isnan(rows["max"]).all()
    assert np.isnan([rows[agent][i] for i, agent in enumerate(agents)]).all()


def test_penalties_are_those_of_paired_t_tests(tmp_path):
    rng, steps = np.random.default_rng(3), 40
    values = {name: rng.normal(level, 0.1, (5, steps + 1)) for name, level in LEVELS.items()}
    for name, seeds in values.items():
        for seed, curve in enumerate(seeds):
            config = CONFIG.replace(max_steps=steps)
            write(tmp_path, name, seed, config, accuracies=curve, rows=steps + 1)
    agents, matrix = statistics.penalties(read_runs(tmp_path), "test_accuracy")
    assert agents == ["max", "min"]
    for i, j in ((0, 1), (1, 0)):
        found = stats.ttest_1samp((values[agents[i]] - values[agents[j]])[:, 1:], 0)
        assert matrix[i, j] == ((found.pvalue < 0.05) & (found.statistic > 0)).mean()
    assert 0.1 < matrix[0, 1] < 0.9


def test_a_difference_without_spread_is_one(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows, agents = penalties_of(
            tmp_path, {"min": [(0.4, 0.5, 0.5)] * 3, "max": [(0.4, 0.5, 0.4)] * 3}
        )
    assert rows["min"][agents.index("max")] == 0.5  # equal at step 1, better at step 2
    assert rows["max"][agents.index("min")] == 0


def test_labels_to_reach(tmp_path):
    (run,) = grid(tmp_path, {"random": [(0.4, 0.5, 0.7)]})
    for target, labelled in ((0.3, 40), (0.5, 45), (0.6, 50), (0.7, 50), (0.8, np.inf)):
        assert measures.labels_to_reach(run, "test_accuracy", target) == labelled


def test_steps_ahead_by_hand(tmp_path):
    curves = {
        "random": [(0.4, 0.5, 0.5), (0.4, 0.5, 0.5)],
        "emoc": [(0.4, 0.6, 0.5), (0.4, 0.4, 0.7)],  # means 0.5 and 0.6
        "max": [(0.4, 0.5, 0.1), (0.4, 0.3, 0.2)],
    }
    runs = grid(tmp_path, curves)
    expected = {"random": 1, "emoc": 2, "max": 0}
    assert measures.steps_ahead(runs, "test_accuracy") == expected


@pytest.mark.parametrize(
    ("seeds", "compared"),
    [
        ({"min": "012", "max": "012"}, {"min": "012", "max": "012"}),
        # Half finished, seed by seed: what all have; of equal blocks, the one of more policies.
        ({"min": "012", "max": "01", "emoc": "012"}, {"min": "01", "max": "01", "emoc": "01"}),
        ({"min": "01", "max": "0"}, {"min": "0", "max": "0"}),
        # A policy just begun does not take the others' seeds away.
        ({"min": "0123", "max": "0123", "emoc": "0"}, {"min": "0123", "max": "0123"}),
        # As many seeds, but others.
        ({"min": "01", "max": "12", "emoc": "01"}, {"min": "01", "emoc": "01"}),
        ({"min": "01", "max": "02"}, {"min": "0", "max": "0"}),
        ({"min": "012", "max": "34"}, {"min": "012"}),
        # The seeds of the largest block need not be those of any policy, nor what all have.
        (
            {"min": "012345", "max": "12345", "emoc": "02345", "random": "6"},
            {"min": "2345", "max": "2345", "emoc": "2345"},
        ),
        (
            {"min": "012", "max": "123", "emoc": "124", "random": "0"},
            {"min": "12", "max": "12", "emoc": "12"},
        ),
    ],
)
def test_means_are_of_the_same_seeds(tmp_path, seeds, compared):
    for agent, numbers in seeds.items():
        for seed in numbers:
            write(tmp_path, agent, int(seed))
    found = {}
    for run in measures.comparable(read_runs(tmp_path)):
        found[run.agent] = found.get(run.agent, "") + str(run.seed)
    assert found == compared


def test_a_grid_of_which_runs_are_missing_all_over_takes_no_time(tmp_path):
    """Each policy lacks another seed: a million intersections, the largest being all but half."""
    write(tmp_path)
    (one,) = read_runs(tmp_path)
    grid = [
        replace(one, agent=f"p{policy}", seed=seed)
        for policy in range(20)
        for seed in range(25)
        if seed != policy
    ]
    start = time.process_time()
    found = measures.comparable(grid)
    assert time.process_time() - start < 10
    agents, seeds = {run.agent for run in found}, {run.seed for run in found}
    # p policies have 25 - p seeds in common: 12 or 13 of them make the largest block.
    assert len(found) == len(agents) * len(seeds) == 12 * 13


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Nine seeds of five policies, whose numbers tests replace."""
    folder = tmp_path_factory.mktemp("runs")
    config = CONFIG.replace(max_steps=2)
    for agent in ("random", "min", "max", "1-vs-2", "emoc"):
        for seed in range(9):
            write(folder, agent, seed, config)
    return read_runs(folder)


def draw(runs, rng, ahead=0.0):
    """Gives all runs of a seed exchangeable curves; those of `emoc` are `ahead`."""
    for seed in range(9):
        level = rng.normal(0.5, 0.1)  # initialisations differ more than policies
        for run in runs:
            if run.seed == seed:
                curve = level + np.cumsum(rng.normal(0.02, 0.01, 3))
                run.steps["test_accuracy"][:] = curve + ahead * (run.agent == "emoc")


def test_under_exchangeable_noise_tests_reject_at_no_more_than_their_rate(runs, monkeypatch):
    rng, trials = np.random.default_rng(1), 400
    rejected, any_rejected, beaten = 0, 0, []
    for _ in range(trials):
        draw(runs, rng)
        with monkeypatch.context() as patch:  # the intervals have a test of their own
            patch.setattr(statistics, "interval", lambda _: (np.nan, np.nan))
            rows = statistics.paired_differences(runs, "random", "accuracy_area")
        # One policy named beforehand: the best of a draw is chosen by what is tested.
        rejected += next(row for row in rows if row.agent == "min").p < 0.05
        any_rejected += any(row.p_corrected < 0.05 for row in rows)
        beaten.append(np.nanmean(statistics.penalties(runs, "test_accuracy")[1]))
    # The exact size of Wilcoxon's test with 9 pairs is 20/512 = 0.039.
    assert stats.binomtest(rejected, trials, 20 / 512).pvalue > 0.01, rejected / trials
    assert stats.binomtest(any_rejected, trials, 0.05, "greater").pvalue > 0.01, any_rejected
    assert np.mean(beaten) == pytest.approx(0.025, abs=0.004)  # half of a two-sided 0.05


def test_policies_that_are_equal_seldom_beat_each_other_in_counts(runs):
    """With zero spread, which counts have often, a difference would be certain."""
    rng, beaten = np.random.default_rng(4), []
    three = [run for run in runs if run.seed < 3]
    for _ in range(200):
        for run in three:
            run.steps["discovered_classes"][:] = np.cumsum(rng.random(3) < 0.4)
        beaten.append(np.nanmean(statistics.penalties(three, "discovered_classes")[1]))
    assert np.mean(beaten) < 0.04


def test_a_planted_difference_is_found(runs):
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(20):
        draw(runs, rng, ahead=0.04)  # twice the deviation of a paired difference
        best = statistics.paired_differences(runs, "random", "accuracy_area")[0]
        found += best.agent == "emoc" and best.p_corrected < 0.05 and best.low > 0
    assert found >= 18
