import itertools

import numpy as np
import pytest
from scipy import stats

from emoc_tf.analysis import novelty
from emoc_tf.storage.csv_files import read_numbers

HEADER = ("seed", "set", "novel_share", "iterations", "emoc", "min")


def write(file, rows, header=HEADER):
    lines = [",".join(header), *(",".join(map(str, row)) for row in rows)]
    file.write_text("\n".join([*lines, ""]))
    return file


def by_pairs(scores, novel):
    pairs = list(itertools.product(scores[novel == 1], scores[novel == 0]))
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def test_areas_are_those_of_pairs_of_sets(tmp_path):
    rng, rows = np.random.default_rng(0), []
    for seed, count in ((3, 20), (5, 12)):
        novel = rng.permutation([0, 1, 1] + [0, 1, 0.5] * ((count - 3) // 3))
        emoc = np.round(rng.normal(novel == 1), 1)  # with ties
        for i, kind in enumerate(novel):
            # A set has a row for each label and number of iterations, with the same scores.
            rows += [(seed, 7 * i, kind, n, emoc[i], -int(i > 3)) for n in range(1 + i % 3)]
    file = write(tmp_path / "changes.csv", rows)
    found = {row.score: row for row in novelty.read(file, 4)}
    assert list(found) == ["emoc", "min"]
    data = read_numbers(file)[1]
    data = data[np.unique(data[:, :2], axis=0, return_index=True)[1]]
    for place, (score, row) in enumerate(found.items(), 4):
        assert list(row.areas) == [3, 5]
        for seed, area in row.areas.items():
            own = data[data[:, 0] == seed]
            assert area == pytest.approx(by_pairs(own[:, place], own[:, 2])), score
        areas = list(row.areas.values())
        assert row.area == pytest.approx(np.mean(areas))
        assert (row.least, row.greatest) == (min(areas), max(areas))
        assert 0 <= row.low < row.area < row.high <= 1
        assert row.models == 2
        assert (row.known_sets, row.novel_sets) == tuple((data[:, 2] == k).sum() for k in (0, 1))


@pytest.mark.parametrize("kinds", [[0] * 9, [1] * 9, [0, 0.5, 0.5, 0.5], [0, 1, 1]])
def test_models_without_both_kinds_or_just_begun_are_left_out(tmp_path, kinds):
    good = [(0, i, i % 2, 1, i % 3, 0) for i in range(6)]
    bad = [(1, i, kind, 1, i, 0) for i, kind in enumerate(kinds)]
    (alone, _), (beside, _) = (
        novelty.read(write(tmp_path / "changes.csv", rows), 4) for rows in (good, good + bad)
    )
    assert beside == alone
    (none, _) = novelty.read(write(tmp_path / "changes.csv", bad), 4)
    assert (none.models, none.known_sets, none.areas) == (0, 0, {})
    assert np.isnan([none.area, none.low, none.high, none.least, none.greatest]).all()


def test_there_may_be_no_sets_yet(tmp_path):
    assert novelty.read(tmp_path / "none.csv", 4) == []
    (emoc, _) = novelty.read(write(tmp_path / "changes.csv", []), 4)
    assert emoc.models == 0


def test_a_score_that_is_no_number_has_no_area(tmp_path):
    rows = [(0, i, i % 2, 1, np.nan if i == 3 else i, -np.inf if i < 4 else 0) for i in range(8)]
    nan, infinite = novelty.read(write(tmp_path / "changes.csv", rows), 4)
    assert np.isnan([nan.area, nan.low, nan.high]).all()
    assert infinite.area == 0.5


def test_intervals_by_hand():
    # The variance of Hanley and McNeil where there are as many sets of each kind.
    low, high = novelty.interval(np.array([0.8]), np.array([[12, 12]]))
    for end in (low, high):
        q1, q2 = end / (2 - end), 2 * end**2 / (1 + end)
        variance = end * (1 - end) + 11 * (q1 - end**2) + 11 * (q2 - end**2)
        assert abs(end - 0.8) == pytest.approx(1.959964 * np.sqrt(variance / 144), rel=1e-5)
    # Perfect areas have intervals; turned round, they are the same from the other end.
    low, high = novelty.interval(np.ones(4), np.full((4, 2), 16))
    assert 0.9 < low < 1 == high
    turned = novelty.interval(np.zeros(4), np.full((4, 2), 16))
    assert turned == (0, pytest.approx(1 - low))
    one = novelty.interval(np.ones(1), np.array([[16, 16]]))
    assert one[0] < low


@pytest.mark.parametrize("separation", [0.0, 1.2, 2.6])
@pytest.mark.parametrize("counts", [(17, 15), (24, 8), (6, 10)])
@pytest.mark.parametrize("models", [1, 4])
def test_intervals_hold_the_area(separation, counts, models):
    rng, held, trials = np.random.default_rng(1), 0, 500
    truth = stats.norm.cdf(separation / np.sqrt(2))
    for _ in range(trials):
        areas = np.array(
            [
                novelty.area(rng.normal(0, 1, counts[0]), rng.normal(separation, 1, counts[1]))
                for _ in range(models)
            ]
        )
        low, high = novelty.interval(areas, np.tile(counts, (models, 1)))
        held += low <= truth <= high
    assert held / trials > 0.92
