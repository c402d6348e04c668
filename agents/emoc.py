"""EMOC: the candidate set whose label is expected to change the model's outputs most."""

import numpy as np

from emoc_tf.agents.agent import ScoringAgent
from emoc_tf.scoring import EMOCScorer
from emoc_tf.state import ExplorationState


class EMOCAgent(ScoringAgent):
    """Chooses by Eq. 5: the sum of ‖J(x) g(x', ŷ)‖₁ over the set, averaged over images x.

    Args:
        seed: Breaks ties and draws the sub-sample of reference images.
        labels: `"set"`: all of a set gets its most likely label. `"image"`: each image its own.
            `"expected"`: the expectation over all labels (Eq. 2), C times the work.
        output: `"logits"` or `"softmax"`, the output whose change is measured.
        regularizer: Whether the gradient of the regulariser is part of the step.
        references: Number of reference images x, drawn anew at each step; None takes all.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        labels: str = "set",
        output: str = "logits",
        regularizer: bool = True,
        references: int | None = None,
    ) -> None:
        super().__init__(seed)
        for name, value, choices in (
            ("labels", labels, ("set", "image", "expected")),
            ("output", output, ("logits", "softmax")),
            ("regularizer", regularizer, (True, False)),
        ):
            if value not in choices:
                raise ValueError(f"{name}: expected one of {list(choices)}, got {value!r}")
        if references is not None and (type(references) is not int or references < 1):
            raise ValueError(f"references: expected an integer above 0, got {references!r}")
        self._labels, self._output, self._regularizer = labels, output, regularizer
        self._references = references
        # A scorer is traced once per model; the model is another one only after a discovery.
        self._scorer: EMOCScorer | None = None

    def score(self, state: ExplorationState) -> np.ndarray:
        """Returns Δf of each candidate set, (M,)."""
        reference = state.reference
        if self._references is not None and self._references < len(reference):
            rng = self.rng(state, "reference images")
            reference = reference[rng.choice(len(reference), self._references, replace=False)]
        if self._scorer is None or self._scorer.model is not state.model:
            self._scorer = EMOCScorer(state.model, self._output, self._regularizer)
        return self._scorer.set_scores(reference, state.pool.images, state.candidates, self._labels)


class ExpectedEMOCAgent(EMOCAgent):
    """EMOC with the full expectation over labels (Eq. 2) on a sub-sample of reference images."""

    def __init__(
        self,
        seed: int = 0,
        *,
        output: str = "logits",
        regularizer: bool = True,
        references: int | None = 256,
    ) -> None:
        super().__init__(
            seed,
            labels="expected",
            output=output,
            regularizer=regularizer,
            references=references,
        )
