"""What a reader of a comparison must know of its runs, in sentences."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from emoc_tf.analysis.measures import by_agent
from emoc_tf.records.run_record import RunRecord

# What runs of one comparison should have in common.
_PLACE = (
    "versions", "commit", "source", "cpu", "gpus", "onednn", "intra_op_threads", "variables",
)  # fmt: skip


def of_answers(runs: Sequence[RunRecord]) -> list[str]:
    """Returns what answers that are wrong, or that do not come, do to what runs are measured by.

    Args:
        runs: Finished runs of one configuration and one length, at least one.
    """
    notes = []
    wrong = runs[0].configuration["wrong_answers"]
    if wrong:
        notes.append(
            f"Of the answers {100 * wrong:.3g}% are wrong, and a class counts as found once it is "
            f"named, by a wrong answer too: classes found tell little here"
        )
    ends = [int(run.steps["labelled"][-1]) for run in runs]
    if min(ends) < max(ends):
        notes.append(
            f"At the end {min(ends)} to {max(ends)} images are labelled: final values, and "
            f"differences step by step, are after equally many queries, not labels"
        )
    return notes


def not_compared(finished: Sequence[RunRecord], compared: Sequence[RunRecord]) -> list[str]:
    """Returns in sentences which runs have no part in means and curves, or only in their own."""
    inside, agents = set(map(id, compared)), {run.agent for run in compared}
    left_out = [run for run in finished if id(run) not in inside]
    notes = []
    further = [f"{run.agent}/{run.seed}" for run in left_out if run.agent in agents]
    if further:
        notes.append(
            f"Not all policies have finished these initialisations, so that they count in paired "
            f"differences only: {listed(further)}"
        )
    others = list(dict.fromkeys(run.agent for run in left_out if run.agent not in agents))
    if others:
        notes.append(
            f"Other or fewer initialisations than the rest, some of which are harder than others: "
            f"the means (*) of {listed(others)} compare with nothing, paired differences do"
        )
    return notes


def failures(runs: Sequence[RunRecord]) -> list[str]:
    """Returns why runs failed."""
    return [f"{run.agent}/{run.seed} failed: {run.failure}" for run in runs if run.failure]


def listed(names: Sequence[str], most: int = 12) -> str:
    """Returns names in a row; of many the first, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def mixtures(runs: Sequence[RunRecord]) -> list[str]:
    """Returns in sentences where the runs were not made in one place."""
    notes = [
        f"Note: {run.agent}/{run.seed} is mixed: a part of it was made in another place"
        for run in runs
        if run.environment.get("mixed")
    ]
    for seed in sorted({run.seed for run in runs}):
        paired = [run for run in runs if run.seed == seed]
        accuracies = {run.steps["test_accuracy"][0] for run in paired}
        if (
            len(np.unique([*accuracies])) > 1
            or len({run.classes for run in paired if run.classes}) > 1
        ):
            notes.append(f"Note: the runs of seed {seed} did not start alike: they are not paired")
    for agent, group in by_agent(runs).items():
        if len({run.environment.get("fingerprint") for run in group}) > 1:
            notes.append(f"Note: the runs of {agent} are of different policies with that name")
    for name in _PLACE:
        values: dict[int, set[str]] = {}
        for run, value in zip(runs, _told([r.environment.get(name) for r in runs]), strict=True):
            if name == "commit":  # twelve digits are enough to find one
                value = re.sub("([0-9a-f]{12})[0-9a-f]{28}", r"\1", value)
            if name != "onednn" or value != "None":  # the first releases did not tell it
                values.setdefault(run.seed, set()).add(value)
        every = sorted(set().union(*values.values()))
        if len(every) > 1:
            within = sum(len(of_seed) > 1 for of_seed in values.values())
            pairs = f"in {within} of {len(values)} initialisations" if within else "in none"
            notes.append(
                f"Note: the runs differ in {name}: {'; '.join(every)} (runs of one initialisation, "
                f"which are paired, {pairs})"
            )
    return notes


def _told(values: Sequence[Any]) -> list[str]:
    """Returns values as text; of mappings, such as versions, what is not the same in all."""
    if not all(isinstance(value, dict) for value in values):
        return [str(value) for value in values]
    names = dict.fromkeys(name for value in values for name in value)
    differing = [n for n in names if any(value.get(n) != values[0].get(n) for value in values)]
    return [", ".join(f"{n} {value.get(n, 'none')}" for n in differing) for value in values]
