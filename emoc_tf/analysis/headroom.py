"""How much of what could be gained each policy gains: its share of the headroom, 0 for chance.

At a state all of some candidate sets were learnt under their true labels, each from the same start
(a yardstick akin to BoSS, arXiv 2603.13109). The headroom is the gain in test accuracy of the best
of them over their mean, which is what choosing at random gains on average. It is that of one
choice: a set that gains little now may be worth more later.

The best of a hundred gains that are measured on some test images is in part the luckiest. So the
test images are in two halves: the best set on one half is judged by the other, and the other way
round, and the two are averaged. That is no more than the best set's true gain on average, since the
set may be another one than the best; what looks best on all test images, judged by the same ones,
is no less. Both are told. Policies do not see test images: their gain is that on all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from emoc_tf.analysis.correlations import MIN_SETS, rank_correlation
from emoc_tf.analysis.families import ordered
from emoc_tf.analysis.statistics import MIN_PAIRS, interval
from emoc_tf.storage.csv_files import read_numbers

# Of the table that it is computed from; a column for each policy follows, 1 where it chose the set.
# `update` is 1 for the learner's own update, 0 for a refitted last layer, `sets` how many a state
# has, and gains are those on either half of the test images, against learning without the set.
COLUMNS = (
    "seed", "step", "update", "sets", "set", "queried_class", "novel_share", "first_gain",
    "second_gain",
)  # fmt: skip

# What policies are seen against.
CHANCE, BEST, LUCKIEST = "mean of the sets", "best of the sets", "what looks best"


@dataclass(frozen=True)
class Share:
    """What a policy gains by its choices.

    Attributes:
        agent: The policy, or `CHANCE`; `BEST`, judged by the half that it was not chosen on; or
            `LUCKIEST`, the best on all test images, judged by the same.
        update: Whether sets were learnt by the learner's own update, or the last layer refitted.
        states: Number of states.
        seeds: Of how many initialisations.
        sets: Mean number of candidate sets of a state.
        share: Of the headroom: Σ (gain − mean of the sets) / Σ (best − mean of the sets), the sums
            over states; NaN where there is no headroom.
        low: Lower end of its 95% interval, see `share_of`.
        high: The upper end.
        gain: Mean gain in test accuracy over learning without a set.
        rank: Mean rank of the chosen set by its gain on all test images; 1 is the best.
    """

    agent: str
    update: bool
    states: int
    seeds: int
    sets: float
    share: float
    low: float
    high: float
    gain: float
    rank: float


@dataclass(frozen=True, eq=False)
class State:
    """All sets of a state, learnt.

    Attributes:
        seed: The initialisation.
        gains: (2, sets) on either half of the test images.
        chosen: The index of the set that each policy chose.
        step: Of the episode.
        novel: (sets,) shares of images of classes that were unknown at the start.
    """

    seed: int
    gains: np.ndarray
    chosen: dict[str, int]
    step: int = 0
    novel: np.ndarray | None = None

    def chances(self, agent: str) -> np.ndarray:
        """Returns how likely each set is chosen, (2, sets): where either half judges it."""
        if agent == CHANCE:
            return np.full_like(self.gains, 1 / self.gains.shape[1])
        if agent == BEST:
            return _of_highest(self.gains[::-1])
        if agent == LUCKIEST:
            return _of_highest(np.repeat(self.gains.mean(axis=0, keepdims=True), 2, axis=0))
        chances = np.zeros_like(self.gains)
        chances[:, self.chosen[agent]] = 1
        return chances

    def gain(self, agent: str) -> float:
        """Returns the gain of what is chosen, the mean of both halves."""
        return float((self.chances(agent) * self.gains).sum() / 2)

    def rank(self, agent: str) -> float:
        """Returns the rank of what is chosen by the gain on all test images; 1 is the best."""
        ranks = rankdata(-np.round(self.gains.mean(axis=0), 9))
        return float((self.chances(agent) * ranks).sum() / 2)


def _of_highest(gains: np.ndarray) -> np.ndarray:
    """Returns 1 for the highest of each row, shared by those that are equal, and 0 for others."""
    gains = np.round(gains, 9)  # equal in exact arithmetic
    highest = gains == gains.max(axis=1, keepdims=True)
    return highest / highest.sum(axis=1, keepdims=True)


def states(path: Path) -> tuple[dict[bool, list[State]], tuple[str, ...]]:
    """Returns the states of a table, by whether they were learnt by the update, and its policies.

    States without all their sets are left out.

    Args:
        path: Of a CSV file with `COLUMNS` and a column for each policy.
    """
    header, rows = read_numbers(path)
    rows, agents = rows.reshape(-1, len(header)), header[len(COLUMNS) :]
    column = dict(zip(header, rows.T, strict=True))
    found: dict[bool, list[State]] = {False: [], True: []}
    for key in sorted(set(zip(*(column[name].astype(int) for name in COLUMNS[:3]), strict=True))):
        here = np.all(rows[:, :3] == key, axis=1)
        if here.sum() == column["sets"][here][0]:
            gains = np.stack([column["first_gain"][here], column["second_gain"][here]])
            chosen = {agent: int(column[agent][here].argmax()) for agent in agents}
            novel = column["novel_share"][here]
            found[bool(key[2])].append(State(int(key[0]), gains, chosen, int(key[1]), novel))
    return found, agents


def read(path: Path) -> list[Share]:
    """Computes the shares of all policies of a table, see `states`."""
    found, agents = states(path)
    names = [CHANCE, *ordered(agents), BEST, LUCKIEST]
    return [_share(name, update, of) for update, of in found.items() if of for name in names]


def agreement(path: Path) -> tuple[float, float, float, int]:
    """Returns how well a refitted last layer tells what the learner's update of the model gains.

    Args:
        path: As for `read`.

    Returns:
        Spearman's ρ of both gains over the sets of a state that were learnt in both ways, averaged
        over states, and its 95% interval, see `correlations.rank_correlation`; NaN where no state
        has `MIN_SETS` such sets, or gains are all equal in one. And the number of sets.
    """
    header, rows = read_numbers(path)
    rows = rows.reshape(-1, len(header))
    at = [COLUMNS.index(name) for name in ("first_gain", "second_gain")]
    gains: dict[tuple[float, float], dict[float, dict[float, float]]] = {}
    for row in rows:
        seed, step, update, _, choice = row[:5].tolist()
        here = gains.setdefault((seed, step), {}).setdefault(choice, {})
        here[update] = round(float(row[at].mean()), 9)
    groups: list[np.ndarray] = []
    pairs: list[tuple[float, float]] = []
    for of_state in gains.values():
        both = [(found[0], found[1]) for found in of_state.values() if len(found) == 2]
        if len(both) >= MIN_SETS:
            groups.append(np.arange(len(both)) + len(pairs))
            pairs += both
    layer, update = np.array(pairs).reshape(-1, 2).T
    return (*rank_correlation(layer, update, groups)[:3], len(pairs))


def _share(agent: str, update: bool, states: list[State]) -> Share:
    def of_all(value: Callable[[State], float]) -> np.ndarray:
        return np.array([value(state) for state in states])

    chance = of_all(lambda state: state.gain(CHANCE))
    gains = of_all(lambda state: state.gain(agent))
    headroom = of_all(lambda state: state.gain(BEST)) - chance
    seeds = np.array([state.seed for state in states])
    return Share(
        agent,
        update,
        len(states),
        len(np.unique(seeds)),
        float(np.mean([state.gains.shape[1] for state in states])),
        *share_of(gains - chance, headroom, seeds),
        float(gains.mean()),
        float(of_all(lambda state: state.rank(agent)).mean()),
    )


def share_of(
    ahead: np.ndarray, headroom: np.ndarray, seeds: np.ndarray
) -> tuple[float, float, float]:
    """Returns a share over states, with its 95% interval.

    It is a ratio of sums: a mean of ratios would be ruled by states with hardly any headroom. The
    interval is that of the mean of share + (ahead − share · headroom) / mean headroom, whose mean
    is the share (the delta method), by `statistics.interval`. States of one episode have much in
    common, so that the sums of each initialisation are what is drawn where there are `MIN_PAIRS` of
    them; with fewer it is the states, and the interval says nothing about other initialisations.

    Args:
        ahead: (states,) what the policy gains beyond the mean of the sets.
        headroom: (states,) what the best gains beyond it.
        seeds: (states,) initialisations.

    Returns:
        The share and both ends; NaN where the headroom is not above 0, the ends also with fewer
        than `MIN_PAIRS` states.
    """
    _, groups = np.unique(seeds, return_inverse=True)
    if groups.max() + 1 >= MIN_PAIRS:
        ahead, headroom = np.bincount(groups, ahead), np.bincount(groups, headroom)
    if not headroom.sum() > 1e-12:
        return (float("nan"),) * 3
    share = ahead.sum() / headroom.sum()
    values = share + (ahead - share * headroom) / headroom.mean()
    return float(share), *interval(values)
