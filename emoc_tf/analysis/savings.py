"""How many labels a policy saves against another one to the same accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoc_tf.analysis.measures import by_agent
from emoc_tf.analysis.statistics import MIN_PAIRS, expanded_level
from emoc_tf.records.run_record import RunRecord

COLUMN = "test_accuracy"


@dataclass(frozen=True)
class Saving:
    """The labels that a policy saves against a baseline, over the seeds that both have.

    Attributes:
        agent: The policy.
        baseline: The policy it is compared with.
        pairs: Number of seeds.
        labels: Saved labels, see `labels_saved`.
        low: Lower end of the 95% interval, see `labels_saved`; NaN if there is none.
        high: Its upper end.
    """

    agent: str
    baseline: str
    pairs: int
    labels: float
    low: float
    high: float


def labels_saved(runs: Sequence[RunRecord], baseline: str, resamples: int = 9999) -> list[Saving]:
    """Compares every other policy with a baseline, the most labels saved first.

    Mean curves of test accuracy are compared, with straight lines between the steps, at the lower
    of the accuracies that the two end with. The labels saved are how many fewer the policy's needs
    until it first comes there, below 0 if it needs more. The curves end where the shortest run of
    either policy does. Equal curves save nothing, also where they fall again, and against each
    other two policies have the same number with opposite signs.

    Intervals are bootstrap percentiles over the seeds, at the level of `expanded_level`. Their
    simulated coverage is 0.92 to 0.94 with 20 seeds drawn from those of `results/cifar100-confirm`.

    Args:
        runs: Finished runs of one configuration.
        baseline: A policy's name.
        resamples: Bootstrap samples.

    Returns:
        One for each policy that shares a seed with the baseline and has accuracies there, but for
        those of whose images some were unlabelled again, as corrections do: how many labels such a
        run took to an accuracy cannot be read off its counts.

    Raises:
        ValueError: There is no such policy.
    """
    groups = by_agent(runs)
    if baseline not in groups:
        raise ValueError(f"baseline: expected one of {sorted(groups)}, got {baseline!r}")
    own = {run.seed: run for run in groups.pop(baseline)}
    rows = []
    for agent, group in groups.items():
        pairs = [(run, own[run.seed]) for run in group if run.seed in own]
        curves = _on_one_axis(pairs)
        if curves is None:
            continue
        labelled, values = curves
        each = np.arange(len(pairs))
        saved = _saved(labelled, *values.mean(axis=1))
        ends = _interval(labelled, values, each, resamples)
        rows.append(Saving(agent, baseline, len(pairs), float(saved), *ends))
    return sorted(rows, key=lambda row: -row.labels)


def _on_one_axis(
    pairs: Sequence[tuple[RunRecord, RunRecord]],
) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns (rows,) labelled images and (2, pairs, rows) accuracies; None where there are none.

    Where runs were labelled at other counts, since people skipped images, each is read off between
    its own steps, where all of them have been.
    """
    found = []
    for run in (run for pair in pairs for run in pair):
        there = np.isfinite(run.steps[COLUMN])
        found.append((run.steps["labelled"][there], run.steps[COLUMN][there]))
    if not found or not all(len(labelled) for labelled, _ in found):
        return None
    first, last = max(x[0] for x, _ in found), min(x[-1] for x, _ in found)
    if any((np.diff(labelled) < 0).any() for labelled, _ in found):
        return None
    axis = np.unique(np.concatenate([x for x, _ in found]))
    axis = axis[(axis >= first) & (axis <= last)]
    if len(axis) < 2:  # at a single count nothing can be saved
        return None
    values = np.array([np.interp(axis, *curve) for curve in found])
    return axis, values.reshape(len(pairs), 2, len(axis)).transpose(1, 0, 2)


def _saved(labelled: np.ndarray, policy: np.ndarray, baseline: np.ndarray) -> np.ndarray:
    """Returns the labels saved of mean curves, (..., rows) each."""
    target = np.minimum(policy[..., -1], baseline[..., -1])  # which both come to
    return _reaches(labelled, baseline, target) - _reaches(labelled, policy, target)


def _reaches(labelled: np.ndarray, curves: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Returns where curves first reach a target, which each of them does."""
    there = curves >= target[..., None]
    after = there.argmax(axis=-1)
    before = np.maximum(after - 1, 0)
    low, high = (
        np.take_along_axis(curves, at[..., None], axis=-1)[..., 0] for at in (before, after)
    )
    rise = np.where(high > low, high - low, 1)  # at the first row there is nothing before
    share = np.where(after > 0, (target - low) / rise, 0)
    return labelled[before] + share * (labelled[after] - labelled[before])


def _interval(
    labelled: np.ndarray, values: np.ndarray, each: np.ndarray, resamples: int
) -> tuple[float, float]:
    if len(each) < MIN_PAIRS:
        return float("nan"), float("nan")
    drawn = np.random.default_rng(0).choice(each, (resamples, len(each)))
    # How often each pair was drawn, so that a mean is one product.
    counts = np.stack([(drawn == one).sum(axis=1) for one in each], axis=1) / len(each)
    found = _saved(labelled, *(counts @ curves for curves in values))
    if not np.ptp(found) >= 1e-9:
        return float("nan"), float("nan")
    outside = (1 - expanded_level(len(each))) / 2
    low, high = np.quantile(found, [outside, 1 - outside])
    return float(low), float(high)
