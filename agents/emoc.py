"""EMOC: the candidate set whose label is expected to change the model's outputs most."""

from collections.abc import Mapping

import numpy as np

from emoc_tf.agents.agent import LONG, UPDATES, ScoringAgent, warn_of_long_choice
from emoc_tf.agents.reference_images import check_references, reference_rows, some
from emoc_tf.agents.refusals import answer_probabilities, set_answer_probabilities
from emoc_tf.data import views
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.scoring import EMOCScorer
from emoc_tf.scoring.checks import (
    LABEL_MODES,
    MEMORY_BUDGET,
    check_confidence,
    check_memory_budget,
    check_method,
    check_output,
    check_precision,
    check_regularizer,
)

FIRST_REFERENCES = 32  # of an elimination, which meet all pairs
MANY_PRODUCTS = 1e12  # a minute or so


class EMOCAgent(ScoringAgent):
    """Chooses the greatest expected output change (Eq. 5), under the set's most likely label.

    That is the sum of ‖J(x) g(x', ŷ)‖₁ over the set's x', averaged over reference images x. With
    one known class all images score alike, and the set is drawn at random.

    Args:
        seed: Breaks ties and draws the sub-sample of reference images.
        labels: `"set"`: all of a set gets its most likely label. `"image"`: each image its own.
            `"expected"`: the expectation over all labels (Eq. 2), C times the work. `"joint"`: as
            `"set"`, but the step that the whole set makes, ‖J(x) Σ_x' g(x', ŷ)‖₁: gradients that
            are alike add up, others cancel.
        output: `"logits"` or `"softmax"`, the output whose change is measured.
        regularizer: Whether the gradient of the regulariser is part of the step.
        references: Number of reference images x, drawn anew at each step; None takes all.
        confidence: Probability that the set chosen is the one with the highest score, in (0, 1):
            sets are scored on few reference images first and dropped once they are clearly worse.
            None scores every set on all reference images.
        precision: Of the product of gradients, see `EMOCScorer`: `"float32"`, `"bfloat16"` or
            `"tf32"`.
        memory_budget: Bytes that gradients may take, above 0.
        refusals: Whether scores are multiplied by the probability that an image of the set is
            answered, once images have been rejected; see `refusals.answer_probabilities`.
        method: `"exact"`, or `"sketch"`: gradients cut down to their principal directions, for
            networks that are trained whole and choices among hundreds of images or more: they are
            fitted at each choice, see `EMOCScorer`. Where a choice would take too long even so,
            `confidence=None` chooses by sketched scores alone.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.EMOCAgent(references=64).act(observation, env.state)
        11
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        labels: str = "set",
        output: str = "logits",
        regularizer: bool = True,
        references: int | None = None,
        confidence: float | None = 0.95,
        precision: str = "float32",
        memory_budget: int = MEMORY_BUDGET,
        refusals: bool = False,
        method: str = "exact",
    ) -> None:
        super().__init__(seed)
        check_method(method)
        self._method = method
        self._confidence = check_confidence(confidence)
        check_output(output)
        check_precision(precision)
        if labels not in LABEL_MODES:
            raise ValueError(f"labels: expected one of {list(LABEL_MODES)}, got {labels!r}")
        self._labels, self._output = labels, output
        self._regularizer = check_regularizer(regularizer)
        self._references = check_references(references)
        self._precision = precision
        self._memory_budget = check_memory_budget(memory_budget)
        if not isinstance(refusals, bool | np.bool_):
            raise ValueError(f"refusals: expected True or False, got {refusals!r}")
        self._refusals = bool(refusals)
        # A scorer is traced once per model; the model is another one only after a discovery.
        self._scorer: EMOCScorer | None = None
        self._expected: float | None = None  # seconds
        self._told = False

    def act(self, observation: Mapping[str, np.ndarray], state: ExplorationState) -> int:
        """Returns the index of the best candidate set; raises as `ScoringAgent.act`."""
        if self._confidence is None or not state.candidate_mask.any():
            return super().act(observation, state)
        # In random order: the first of equally good sets is chosen.
        rng = self.rng(state, "order of sets and reference images")
        possible = rng.permutation(np.flatnonzero(state.candidate_mask))
        if has_one_class(state):
            return int(possible[0])
        weights, unseen, offsets = (
            None if each is None else each[possible] for each in self._parts_of(state)
        )
        self._warn_if_long(state, FIRST_REFERENCES)
        selection = self._scorer_of(state).select_set(
            self._reference_images(state),
            state.trained_inputs,
            state.candidates[possible],
            self._labels,
            self._confidence,
            seed=int(rng.integers(2**31)),
            set_weights=weights,
            unseen=unseen,
            offsets=offsets,
        )
        return int(possible[selection.index])

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns Δf of each candidate set, (M,); zeros with one known class."""
        if has_one_class(state):
            return np.zeros(len(state.candidates))
        self._warn_if_long(state, len(state.reference))
        weights, unseen, offsets = self._parts_of(state)
        scores = self._scorer_of(state).set_scores(
            self._reference_images(state),
            state.trained_inputs,
            state.candidates,
            self._labels,
            set_weights=weights,
            unseen=unseen,
        )
        return scores if offsets is None else scores + offsets

    def _parts_of(self, state: ExplorationState) -> tuple[np.ndarray | None, ...]:
        """Returns the sets' weights, how likely each is of a new class, and what is added to it.

        Each is (M,), or None where all sets have 1, 0 and 0.
        """
        return set_answer_probabilities(state) if self._refusals else None, None, None

    def score_images(self, state: ExplorationState, indices: np.ndarray) -> np.ndarray:
        """Returns the score of some pool images, (k,), without elimination.

        Each is scored under its own most likely label, or, with `labels="expected"`, under all.
        """
        if has_one_class(state) or not len(indices):
            return np.zeros(len(indices))
        scorer = self._scorer_of(state)
        scores = scorer.expected_scores if self._labels == "expected" else scorer.scores
        found = scores(self._reference_images(state), some(state.trained_inputs, indices))
        answered = answer_probabilities(state, indices) if self._refusals else None
        return found if answered is None else found * answered

    def _warn_if_long(self, state: ExplorationState, at_least: int) -> None:
        """Warns, once, if a choice that meets so many reference images will take long.

        That is more than ten times what the last set took to be learnt, or ten minutes if there was
        none. It is measured once, and only where there is so much to multiply that it may.
        """
        if self._told:
            return
        rows = self._reference_rows(state)
        count = min(at_least, len(state.reference) if rows is None else len(rows))
        images = np.unique(state.candidates[state.candidate_mask])
        pairs = max(1, np.count_nonzero(images >= 0))
        outputs = state.model.output_shape[-1]
        pairs *= outputs if self._labels == "expected" else 1
        if self._expected is None:
            if count * pairs * outputs * state.trained_model.count_params() < MANY_PRODUCTS:
                return
            scorer = self._scorer_of(state)
            products = sum(layer.multiply_adds for layer in scorer.plan())
            if count * pairs * products < MANY_PRODUCTS:
                return
            self._expected = scorer.expected_seconds(count, pairs)
        update = state.update_seconds
        if self._expected <= (LONG if update is None else UPDATES * update):
            return
        self._told = True
        than = "" if update is None else f", {self._expected / update:.0f} times the last update"
        warn_of_long_choice(
            self._expected,
            f"{pairs:,} pairs and {count:,} reference images{than}",
            "fewer candidate sets take less, and so does a model whose first layers are frozen "
            "(layer.trainable = False)",
            stacklevel=3,
        )

    def _reference_images(self, state: ExplorationState) -> np.ndarray | views.ImageView:
        chosen = self._reference_rows(state)
        every = state.trained_inputs
        return every if chosen is None else some(every, chosen)

    def _reference_rows(self, state: ExplorationState) -> np.ndarray | None:
        return reference_rows(self, state, self._references)

    def _scorer_of(self, state: ExplorationState) -> EMOCScorer:
        model = state.trained_model  # what a frozen prefix computes is in its inputs
        if self._scorer is None or self._scorer.model is not model:
            how = {} if self._method == "exact" else {"method": self._method}
            settings = self._output, self._regularizer, self._precision, self._memory_budget
            make = EMOCScorer if state.scoring is None else state.scoring.scorer
            self._scorer = make(model, *settings, **how)
        return self._scorer


def has_one_class(state: ExplorationState) -> bool:
    """Whether the model knows one class: p = 1 then, and no image's loss has a gradient."""
    return state.model.output_shape[-1] == 1


class ExpectedEMOCAgent(EMOCAgent):
    """Chooses the greatest output change expected over all labels (Eq. 2), C pairs an image.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.ExpectedEMOCAgent(references=64).act(observation, env.state)
        11
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        output: str = "logits",
        regularizer: bool = True,
        references: int | None = 256,
        confidence: float | None = 0.95,
        precision: str = "float32",
        memory_budget: int = MEMORY_BUDGET,
        refusals: bool = False,
        method: str = "exact",
    ) -> None:
        super().__init__(
            seed,
            labels="expected",
            output=output,
            regularizer=regularizer,
            references=references,
            confidence=confidence,
            precision=precision,
            memory_budget=memory_budget,
            refusals=refusals,
            method=method,
        )
