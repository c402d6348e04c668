"""EMOC for sets that may be of a class that the model does not know yet."""

import numpy as np

from emoc_tf import uncertainty
from emoc_tf.agents.agent import check_finite
from emoc_tf.agents.emoc import EMOCAgent, has_one_class
from emoc_tf.agents.grown import grown_outputs, grown_posterior
from emoc_tf.agents.head_gram import head_inputs
from emoc_tf.agents.kernel_solve import MOST_VALUES
from emoc_tf.agents.refusals import answer_probabilities
from emoc_tf.agents.set_evidence import TEMPERATURE, checked_settings, set_evidence
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.scoring.checks import MEMORY_BUDGET, is_integer


class EMOCNewAgent(EMOCAgent):
    """Chooses the greatest output change that is expected where a set may be of a new class.

    With probability 1 − π the set has its most likely label, and its score is that of `emoc`. With
    probability π, the one that `set_evidence` tells, its label is that of a class not known yet:
    the head has one unit more then, whose weights are 0, and the gradient of the loss on the
    softmax of all outputs pushes the known ones down. With one known class or none the set is
    drawn at random.

    Args:
        seed: As of `EMOCAgent`.
        new_unit: 0: the change of the known outputs counts, as `emoc` measures it. 1: that of the
            new output too, `|h(x)·h(x')| (1 − q_new(x'))`, with h the inputs of the head.
        prior_new: P(new) that π starts from, before a set's features are looked at, in (0, 1).
        tau: Temperature of the likelihoods in π, above 0, see `set_evidence`.
        output: `"logits"` or `"softmax"`, the output whose change is measured; `"logits"` where
            the new unit counts.
        regularizer: As of `EMOCAgent`.
        references: As of `EMOCAgent`.
        confidence: As of `EMOCAgent`.
        precision: As of `EMOCAgent`.
        memory_budget: As of `EMOCAgent`.
        refusals: As of `EMOCAgent`.
        method: As of `EMOCAgent`.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.EMOCNewAgent(references=64).act(observation, env.state)
        22
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        new_unit: int = 0,
        prior_new: float = 0.5,
        tau: float = TEMPERATURE,
        output: str = "logits",
        regularizer: bool = True,
        references: int | None = None,
        confidence: float | None = 0.95,
        precision: str = "float32",
        memory_budget: int = MEMORY_BUDGET,
        refusals: bool = False,
        method: str = "exact",
    ) -> None:
        super().__init__(
            seed,
            output=output,
            regularizer=regularizer,
            references=references,
            confidence=confidence,
            precision=precision,
            memory_budget=memory_budget,
            refusals=refusals,
            method=method,
        )
        if not is_integer(new_unit) or new_unit not in (0, 1):
            raise ValueError(f"new_unit: expected 0 or 1, got {new_unit!r}")
        if new_unit and output != "logits":
            raise ValueError(
                f"new_unit: expected 0 with output={output!r}, got 1; the change of a new unit is "
                f"that of its logit"
            )
        self._new_unit = bool(new_unit)
        self._evidence = checked_settings(prior_new, tau)

    def score_images(self, state: ExplorationState, indices: np.ndarray) -> np.ndarray:
        """Returns the scores of some pool images, (k,), as sets of one, without elimination."""
        if has_one_class(state) or not len(indices):
            return np.zeros(len(indices))
        check_finite(state)
        sets = np.asarray(indices)[:, None]
        weights = answer_probabilities(state, indices) if self._refusals else None
        unseen = set_evidence(state, sets, **self._evidence).novelty
        scores = self._scorer_of(state).set_scores(
            self._reference_images(state),
            state.trained_inputs,
            sets,
            set_weights=weights,
            unseen=unseen,
        )
        return scores + self._by_new_unit(state, sets, weights, unseen)

    def _parts_of(self, state: ExplorationState) -> tuple[np.ndarray | None, ...]:
        check_finite(state)
        weights, _, _ = super()._parts_of(state)
        unseen = set_evidence(state, state.candidates, **self._evidence).novelty
        return weights, unseen, self._by_new_unit(state, state.candidates, weights, unseen)

    def _by_new_unit(
        self,
        state: ExplorationState,
        sets: np.ndarray,
        weights: np.ndarray | None,
        unseen: np.ndarray,
    ) -> np.ndarray:
        """Returns what the new output's change adds to each set's score, (M,).

        The gradient of the unit's weights under its label is (q_new − 1) h(x'), and h(x) is that
        of its output. The regulariser has none there: the weights are 0.
        """
        if not self._new_unit:
            return np.zeros(len(sets))
        used = np.unique(sets[sets >= 0])
        inputs, chosen = head_inputs(state), self._reference_rows(state)
        reference = inputs if chosen is None else inputs[chosen]
        size, totals = max(1, MOST_VALUES // max(1, len(used))), np.zeros(len(used))
        for start in range(0, len(reference), size):
            totals += np.abs(reference[start : start + size] @ inputs[used].T).sum(axis=0)
        change = np.zeros(len(inputs))
        wrong = 1 - grown_posterior(grown_outputs(state)[used])[:, -1]
        change[used] = wrong * totals / len(reference)
        added = unseen * uncertainty.set_means(change, sets) * (sets >= 0).sum(axis=1)
        return added if weights is None else weights * added
