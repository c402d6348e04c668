"""Lookahead: what retraining with a candidate set would change, with the network linearised.

After Mohamadi, Bae, Sutherland: Making look-ahead active learning strategies feasible with neural
tangent kernels, NeurIPS 2022, for sets, and for networks trained with the softmax's cross-entropy:
targets are residuals, one-hot less posterior. Training that ends early is ridge regression (Ali,
Kolter, Tibshirani: A continuous-time view of early stopping for least squares, 2019).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emoc_tf.agents.agent import SetScoringAgent
from emoc_tf.agents.grown import grown_outputs, grown_posterior
from emoc_tf.agents.head_gram import head_inputs
from emoc_tf.agents.kernel_solve import Kernel, SetUpdates, linear_kernel
from emoc_tf.agents.reference_images import check_references, reference_rows, some
from emoc_tf.agents.set_evidence import (
    TEMPERATURE,
    checked_settings,
    most_likely_columns,
    set_evidence,
)
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.scoring.checks import MEMORY_BUDGET, check_memory_budget, is_integer, is_number
from emoc_tf.scoring.tangent import TangentKernel

KERNELS = ("head", "pntk")
SCORES = ("change", "flips")


class LookaheadAgent(SetScoringAgent):
    """Chooses the set that changes outputs most once the linearised network has learnt it.

    That is the mean over reference images of ‖Δf(x)‖₁, with Δf the solution with the set less the
    one without it, see `kernel_solve`: what images of the set or the labelled ones tell twice
    counts once. The set gets its most likely label with probability 1 − π and that of a class not
    known yet with probability π, the one that `set_evidence` tells; there is one output more then,
    which starts at 0 and whose change counts too.

    The state does not tell how the learner trains, so that the settings do, with the paper's
    protocol as defaults. The ridge of an image is 1 / (t·w) with t = iterations · η / (1 − μ), and
    w its share of a mini-batch: old_fraction / n of one of n labelled ones, (1 − old_fraction) / K
    of one of the set.

    Args:
        seed: Breaks ties.
        kernel: `"head"`: the last layer is retrained. `"pntk"`: all layers, with the gradient of
            the summed outputs, Σ_c f_c / √C.
        score: `"change"`, or `"flips"`: the share of reference images whose most likely class
            changes, or, under the label of a new class, becomes the new one.
        prior_new: P(new) that π starts from, before a set's features are looked at, in (0, 1).
        tau: Temperature of the likelihoods in π, above 0, see `set_evidence`.
        learning_rate: η of the learner, above 0.
        momentum: μ, in [0, 1).
        iterations: Of an update, at least 1.
        old_fraction: How much of a mini-batch is old images, in [0, 1).
        references: Number of reference images, drawn anew at each step; None takes all.
        memory_budget: Bytes that gradients may take with `"pntk"`, and the kernel of reference
            images with those that are labelled or in sets, above 0.

    Raises:
        ValueError: An argument is out of range; while scoring: what is to be held is too large.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.LookaheadAgent().act(observation, env.state)
        55
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        kernel: str = "head",
        score: str = "change",
        prior_new: float = 0.5,
        tau: float = TEMPERATURE,
        learning_rate: float = 1e-4,
        momentum: float = 0.9,
        iterations: int = 1000,
        old_fraction: float = 0.9,
        references: int | None = None,
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        super().__init__(seed)
        _check("kernel", kernel, isinstance(kernel, str) and kernel in KERNELS, f"one of {KERNELS}")
        _check("score", score, isinstance(score, str) and score in SCORES, f"one of {SCORES}")
        self._evidence = checked_settings(prior_new, tau)
        rate = is_number(learning_rate) and 0 < learning_rate < np.inf
        _check("learning_rate", learning_rate, rate, "a number above 0")
        _check(
            "momentum", momentum, is_number(momentum) and 0 <= momentum < 1, "a number in [0, 1)"
        )
        _check(
            "iterations",
            iterations,
            is_integer(iterations) and iterations > 0,
            "an integer above 0",
        )
        old = is_number(old_fraction) and 0 <= old_fraction < 1
        _check("old_fraction", old_fraction, old, "a number in [0, 1)")
        self._kernel, self._score = kernel, score
        self._time = float(learning_rate) / (1 - float(momentum)) * int(iterations)
        self._old = float(old_fraction)
        self._references = check_references(references)
        self._budget = check_memory_budget(memory_budget)
        # Traced once per model; the model is another one only after a discovery.
        self._tangent: TangentKernel | None = None

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the score of each set, (M,); zeros where no class is known."""
        scores = np.zeros(len(sets))
        there = (sets >= 0).any(axis=1)
        if not state.probabilities.shape[1] or not there.any():
            return scores
        sets = sets[there]
        unseen = set_evidence(state, sets, **self._evidence).novelty
        labelled = np.flatnonzero(state.pool.labels >= 0 if self._old else [])
        references = reference_rows(self, state, self._references)
        if references is None:
            references = np.arange(len(state.features))
        updates = SetUpdates(
            self._kernel_of(state, labelled, sets, references),
            labelled,
            len(labelled) / (self._time * self._old) if self._old else 1.0,
            sets,
            (sets >= 0).sum(axis=1) / (self._time * (1 - self._old)),
        )
        hypotheses = self._hypotheses(state, labelled, sets)
        known, new = self._means(updates, hypotheses, references)
        scores[there] = (1 - unseen) * known + unseen * new
        return scores

    def _hypotheses(
        self, state: ExplorationState, labelled: np.ndarray, sets: np.ndarray
    ) -> tuple["_Hypothesis", "_Hypothesis"]:
        """Returns targets under the sets' most likely labels, and under that of a new class."""
        posterior = state.probabilities.astype(np.float64)
        num_classes = posterior.shape[1]
        columns = most_likely_columns(state, sets)
        grown = grown_outputs(state)
        posterior_of_grown = grown_posterior(grown)
        identity = np.eye(num_classes + 1)
        of_labelled = identity[state.pool.labels[labelled]]
        of_sets = identity[np.where(sets >= 0, columns[:, None], 0)]
        return (
            _Hypothesis(
                grown[:, :-1],
                of_labelled[:, :-1] - posterior[labelled],
                of_sets[..., :-1] - posterior[sets],
                False,
            ),
            _Hypothesis(
                grown,
                of_labelled - posterior_of_grown[labelled],
                identity[-1] - posterior_of_grown[sets],
                True,
            ),
        )

    def _means(
        self,
        updates: SetUpdates,
        hypotheses: Sequence["_Hypothesis"],
        references: np.ndarray,
    ) -> np.ndarray:
        """Returns each set's mean ‖Δf(x)‖₁ at `references`, or its share of flips, (given, M)."""
        steps = [updates.solve(updates.innovations(h.labelled, h.sets)) for h in hypotheses]
        together = np.concatenate(steps, axis=2).swapaxes(1, 2)  # [M, all c, K]
        ends = np.cumsum([0, *(step.shape[2] for step in steps)])
        parts = [slice(*both) for both in itertools.pairwise(ends)]
        by_labelled = [updates.by_labelled(h.labelled) for h in hypotheses]
        totals = np.zeros((len(hypotheses), len(together)))
        for rows, left, explained in updates.blocks(references):
            # What learning the labelled images once more makes of the outputs.
            before = [
                given.outputs[references[rows]].T + own.T @ explained
                for given, own in zip(hypotheses, by_labelled, strict=True)
            ]
            classes = [outputs.argmax(axis=0) for outputs in before]
            for index, (step, place) in enumerate(zip(together, updates.place, strict=True)):
                changes = step @ left[place]  # [all c, n]
                for each, given in enumerate(hypotheses):
                    change = changes[parts[each]]
                    if self._score == "change":
                        totals[each, index] += np.abs(change).sum()
                        continue
                    now = (before[each] + change).argmax(axis=0)
                    flips = now != classes[each]
                    if given.new:  # whose output may be the highest without the set already
                        flips &= now == len(change) - 1
                    totals[each, index] += flips.sum()
        return totals / len(references)

    def _kernel_of(
        self,
        state: ExplorationState,
        labelled: np.ndarray,
        sets: np.ndarray,
        references: np.ndarray,
    ) -> Kernel:
        if self._kernel == "head":
            return linear_kernel(head_inputs(state))
        model = state.trained_model
        if self._tangent is None or self._tangent.model is not model:
            self._tangent = TangentKernel(model, self._budget)
        columns = np.union1d(labelled, sets[sets >= 0])
        rows = np.union1d(columns, references)
        needed = self._tangent.gram_bytes(len(rows), len(columns))
        if needed > self._budget:
            raise ValueError(
                f"memory_budget: expected at least {needed:,} bytes for the kernel of "
                f"{len(rows):,} images with {len(columns):,}, got {self._budget:,}; give more, "
                f"take fewer candidate sets or references, or kernel='head'"
            )
        images = state.trained_inputs
        if len(rows) < len(images):
            images = some(images, rows)
        values = self._tangent.gram(images, np.searchsorted(rows, columns))
        return lambda one, other: values[
            np.searchsorted(rows, one)[:, None], np.searchsorted(columns, other)
        ]


@dataclass(frozen=True, eq=False)
class _Hypothesis:
    """What is learnt if all sets have labels of one kind, in c outputs.

    Attributes:
        outputs: (n_pool, c) before.
        labelled: (l, c) targets of the labelled images, less what is predicted.
        sets: (M, K, c) the same of sets, anything for padding.
        new: Whether the last output is a new class.
    """

    outputs: np.ndarray
    labelled: np.ndarray
    sets: np.ndarray
    new: bool


def _check(name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
