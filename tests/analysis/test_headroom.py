"""Shares of the headroom, by hand."""

import numpy as np
import pytest
from scipy import stats

from emoc_tf.analysis import headroom
from emoc_tf.analysis.headroom import BEST, CHANCE, LUCKIEST, State
from emoc_tf.analysis.statistics import interval


def test_the_best_set_is_judged_by_the_half_it_was_not_chosen_on():
    gains = np.array([[0.3, 0.1, 0.0, 0.2], [0.0, 0.2, 0.1, 0.1]])
    state = State(0, gains, {"best": 3, "second": 1})
    # Set 0 is best on the first half and gains 0.0 on the second; set 1 the other way round: 0.1.
    assert state.gain(BEST) == pytest.approx((0.0 + 0.1) / 2)
    # On all images sets 0, 1 and 3 are equal.
    assert state.gain(LUCKIEST) == pytest.approx(0.15)
    assert state.gain(CHANCE) == pytest.approx(gains.mean())
    assert (state.gain("best"), state.gain("second")) == pytest.approx((0.15, 0.15))
    assert state.rank(CHANCE) == 2.5
    assert state.rank("best") == state.rank(LUCKIEST) == 2
    assert state.rank(BEST) == 2


def test_sets_that_are_equally_good_are_equally_likely():
    state = State(0, np.array([[0.2, 0.2, 0.0], [0.1, 0.3, 0.3]]), {})
    # Best on the first half: 0 or 1, which gain 0.1 or 0.3 on the second; then 1 or 2: 0.2 or 0.
    assert state.gain(BEST) == pytest.approx((0.2 + 0.1) / 2)


def write(path, states, agents, step=0):
    """Each state: (seed, update, gains, choices)."""
    lines = [",".join([*headroom.COLUMNS, *agents])]
    for number, (seed, update, gains, chosen) in enumerate(states):
        for index, (one, other) in enumerate(gains.T):
            marks = [int(chosen[agent] == index) for agent in agents]
            row = [seed, number, update, gains.shape[1], index + 5, 0, 0, one, other, *marks]
            lines.append(",".join(map(str, row)))
    path.write_text("\n".join([*lines, ""]))
    return {(row.agent, row.update): row for row in headroom.read(path)}


def test_the_best_has_all_of_it_and_chance_none(tmp_path):
    rng = np.random.default_rng(0)
    states = []
    for seed in range(60):
        gains = np.repeat(rng.normal(size=(1, 10)), 2, axis=0)  # without noise
        order = gains[0].argsort()
        chosen = {"emoc": order[-1], "random": rng.integers(10), "min": order[0]}
        states.append((seed % 6, 0, gains, chosen))
    found = write(tmp_path / "sets.csv", states, ["emoc", "random", "min"])
    best, chance = found["emoc", False], found[CHANCE, False]
    assert (best.share, best.rank, found[BEST, False].share) == pytest.approx((1, 1, 1))
    assert (chance.share, chance.rank) == pytest.approx((0, 5.5))
    drawn = found["random", False]
    assert drawn.low < 0 < drawn.high
    assert abs(drawn.share) < 0.25
    assert found["min", False].share < -0.5
    assert found["min", False].rank == 10
    assert (best.states, best.seeds, best.sets) == (60, 6, 10)
    assert [row.agent for row in headroom.read(tmp_path / "sets.csv")] == [
        CHANCE, "random", "min", "emoc", BEST, LUCKIEST,
    ]  # fmt: skip


def test_noise_alone_is_no_headroom(tmp_path):
    """What looks best of a hundred equal sets gains something, cross-fitted it gains nothing."""
    rng = np.random.default_rng(1)
    states = [(seed, 0, rng.normal(size=(2, 100)), {"emoc": 0}) for seed in range(200)]
    found = write(tmp_path / "sets.csv", states, ["emoc"])
    assert found[LUCKIEST, False].gain > 1.5
    assert abs(found[BEST, False].gain) < 0.15
    # With a true difference it lies between the two.
    states = []
    for seed in range(200):
        truth = rng.normal(size=100)
        gains = truth + rng.normal(size=(2, 100))
        states.append((seed, 1, gains, {"emoc": truth.argmax()}))
    found = write(tmp_path / "sets.csv", states, ["emoc"])
    low, true, high = (found[name, True].gain for name in (BEST, "emoc", LUCKIEST))
    assert 1 < low < true < high
    assert found["emoc", True].share > 1


def test_ways_to_learn_are_apart_and_states_that_were_just_begun_left_out(tmp_path):
    rng = np.random.default_rng(2)
    states = [(0, way, rng.normal(size=(2, 5)), {"emoc": 1}) for way in (0, 1, 0)]
    path = tmp_path / "sets.csv"
    found = write(path, states, ["emoc"])
    assert (found["emoc", False].states, found["emoc", True].states) == (2, 1)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]))
    less = {(row.agent, row.update): row for row in headroom.read(path)}
    assert (less["emoc", False].states, less["emoc", True].states) == (1, 1)
    assert less["emoc", False].gain == pytest.approx(states[0][2][:, 1].mean())
    path.write_text(lines[0])
    assert headroom.read(path) == []


def test_a_share_is_a_ratio_of_sums_with_the_interval_of_its_deviations():
    ahead, room = np.array([1.0, 0, 2, -1, 3, 1]), np.array([2.0, 1e-9, 3, 1, 3, 1])
    share, low, high = headroom.share_of(ahead, room, np.zeros(6))
    assert share == pytest.approx(ahead.sum() / room.sum())
    assert low < share < high
    ends = interval((ahead - share * room) / room.mean())
    assert (low - share, high - share) == pytest.approx(ends)
    # With enough initialisations it is these that are drawn.
    seeds = np.repeat(np.arange(6), 2)
    many = headroom.share_of(np.repeat(ahead, 2), np.repeat(room, 2), seeds)
    assert many == pytest.approx((share, low, high))
    assert np.isnan(headroom.share_of(ahead, 0 * room, np.zeros(6))).all()
    share, *ends = headroom.share_of(ahead[:3], room[:3], np.arange(3))
    assert share == pytest.approx(0.6)
    assert np.isnan(ends).all()


def test_both_ways_to_learn_are_compared_set_by_set(tmp_path):
    rng = np.random.default_rng(3)
    path = tmp_path / "sets.csv"
    lines, expected = [",".join([*headroom.COLUMNS, "emoc"])], []
    for seed, step in ((0, 0), (0, 2), (1, 0)):
        layer = rng.normal(size=(2, 9))
        learnt = rng.permutation(9)[:6]
        update = layer[:, learnt] + rng.normal(size=(2, 6))
        expected.append(stats.spearmanr(layer[:, learnt].sum(0), update.sum(0)).statistic)
        for way, sets, gains in ((0, range(9), layer), (1, learnt, update)):
            for choice, (one, other) in zip(sets, gains.T, strict=True):
                row = [seed, step, way, len(sets), choice, 0, 0, one, other, 0]
                lines.append(",".join(map(str, row)))
    path.write_text("\n".join([*lines, ""]))
    rho, low, high, sets = headroom.agreement(path)
    assert sets == 18
    assert rho == pytest.approx(np.tanh(np.mean(np.arctanh(expected))))
    assert low < rho < high
    path.write_text("\n".join([*lines[:10], ""]))  # one way only
    *none, sets = headroom.agreement(path)
    assert np.isnan(none).all()
    assert sets == 0
