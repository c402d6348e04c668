"""Which scores tell what learning a set changes well enough to be compared in whole runs."""

from collections.abc import Sequence
from dataclasses import dataclass

from emoc_tf.analysis import families
from emoc_tf.analysis.correlations import NOVEL, Correlation

# A score passes with at least these rank correlations with the set's own change, true label, after
# the most iterations, within the sets of known and within those of novel classes.
MEASURE = "own_change"
LEAST = {"known": 0.5, "novel": 0.0}

# Policies that go on from EMOC, one of which may be compared in whole runs if it passes; of `emoc`
# variants alone, since the policy itself is compared anyway.
ELIGIBLE = ("emoc-new", "lookahead", "gp-emoc")


@dataclass(frozen=True)
class Gate:
    """How a score fares at the gate; the point estimates decide.

    Attributes:
        score: The policy whose score it is.
        family: Of the policy.
        iterations: Of SGD, the most that the sets were learnt for.
        known_models: Number of models with enough sets of known classes.
        known_sets: Number of these sets.
        known_rho: Spearman's ρ within them, averaged over models, see `Correlation`.
        known_low: Lower end of its 95% interval.
        known_high: The upper end.
        novel_models: As above, for sets of novel classes.
        novel_sets: As above.
        novel_rho: As above.
        novel_low: As above.
        novel_high: As above.
        total: Sum of both ρ, by which one of those that pass and are eligible is chosen.
        passes: Whether both ρ reach `LEAST`; what is NaN does not.
        eligible: Whether the gate is for this score: a variant of EMOC, see `is_eligible`. Others
            are there to compare with.
    """

    score: str
    family: str
    iterations: int
    known_models: int
    known_sets: int
    known_rho: float
    known_low: float
    known_high: float
    novel_models: int
    novel_sets: int
    novel_rho: float
    novel_low: float
    novel_high: float
    total: float
    passes: bool
    eligible: bool


def decisive(found: Sequence[Correlation], measure: str = MEASURE) -> list[Correlation]:
    """Returns the correlations with a measure, true label, after the most iterations."""
    rows = [row for row in found if row.measure == measure and row.true_label]
    most = max((row.iterations for row in rows), default=0)
    return [row for row in rows if row.iterations == most]


def gates(found: Sequence[Correlation]) -> list[Gate]:
    """Returns how each score fares; none if no set was learnt with its true label."""
    rows = {(row.score, row.among): row for row in decisive(found)}
    scores = dict.fromkeys(score for score, _ in rows if score != NOVEL)
    made = []
    for score in scores:
        parts = [rows[score, among] for among in LEAST]
        numbers = [[p.seeds, p.sets, p.rho, p.low, p.high] for p in parts]
        rhos = [part.rho for part in parts]
        passes = all(rho >= least for rho, least in zip(rhos, LEAST.values(), strict=True))
        made.append(
            Gate(
                score, families.family(score), parts[0].iterations, *numbers[0], *numbers[1],
                sum(rhos), passes, is_eligible(score),
            )
        )  # fmt: skip
    return made


def is_eligible(score: str) -> bool:
    """Whether a score is of an EMOC beyond the paper's: the gate chooses among these alone."""
    name, _, variant = score.partition(":")
    return name in ELIGIBLE or (name == "emoc" and bool(variant))


def chosen(found: Sequence[Gate]) -> Gate | None:
    """Returns the eligible score that passes with the highest sum, the first of equal ones."""
    passing = [row for row in found if row.passes and row.eligible]
    return max(passing, key=lambda row: row.total, default=None)
