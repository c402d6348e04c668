"""Expected gradient length: EMOC without the change of outputs that a step makes."""

import numpy as np

from emoc_tf.agents import head_gram
from emoc_tf.agents.agent import SetScoringAgent
from emoc_tf.exploration.state import ExplorationState
from emoc_tf.scoring.checks import MEMORY_BUDGET, check_memory_budget
from emoc_tf.scoring.labels import most_likely_set_labels, sum_over_sets
from emoc_tf.scoring.lengths import GradientLengths

LAYERS = ("all", "head")
LABELS = ("expected", "joint")


class GradientLengthAgent(SetScoringAgent):
    """Chooses the set whose labels are expected to give the longest gradients (EGL).

    The score is the sum over images of Σ_y p(y|x)·‖g(x,y)‖₂, with g the gradient of the plain
    cross-entropy. After Settles, Craven, Ray: Multiple-instance active learning, NIPS 2007. The
    length is the Euclidean one, of all parameters together.

    Args:
        seed: Breaks ties.
        layer: `"all"`: g of all trainable parameters. `"head"`: of the last layer's alone, which
            takes next to no time.
        labels: `"expected"`: as above. `"joint"`: ‖Σ_x g(x,ŷ)‖₂, the length of the one step that
            the set makes under its most likely label ŷ; of images alone each under its own.
        memory_budget: Bytes that gradients may take, above 0.

    Raises:
        ValueError: An argument is out of range.

    Example:
        >>> from emoc_tf import agents, envs
        >>> env = envs.ActiveExplorationEnv(pretrain_iterations=50)
        >>> observation, info = env.reset(seed=0)
        >>> agents.GradientLengthAgent().act(observation, env.state)
        11
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        layer: str = "all",
        labels: str = "expected",
        memory_budget: int = MEMORY_BUDGET,
    ) -> None:
        super().__init__(seed)
        if layer not in LAYERS:
            raise ValueError(f"layer: expected one of {list(LAYERS)}, got {layer!r}")
        if labels not in LABELS:
            raise ValueError(f"labels: expected one of {list(LABELS)}, got {labels!r}")
        self._layer, self._labels = layer, labels
        self._memory_budget = check_memory_budget(memory_budget)
        # Traced once per model; the model is another one only after a discovery.
        self._lengths: GradientLengths | None = None

    def score_sets(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        """Returns the score of each set, (M,); zeros where at most one class is known."""
        used = np.unique(sets[sets >= 0])
        if state.probabilities.shape[1] < 2 or not len(used):
            return np.zeros(len(sets))
        if self._labels == "joint":
            return self._joint(state, sets)
        lengths = np.zeros(len(state.pool.labels))
        if self._layer == "head":
            lengths[used] = _head_lengths(state, used)
        else:
            lengths[used] = self._lengths_of(state).expected(state.trained_inputs, used)
        return sum_over_sets(lengths, sets)

    def _joint(self, state: ExplorationState, sets: np.ndarray) -> np.ndarray:
        p = head_gram.posteriors(state)
        labels = most_likely_set_labels(np.log(np.maximum(p, np.finfo(np.float32).tiny)), sets)
        if self._layer == "all":
            return self._lengths_of(state).of_sets(state.trained_inputs, sets, labels)
        # r of an image depends on the set's label: classes are taken one by one.
        h, scores = head_gram.head_inputs(state), np.empty(len(sets))
        for label in np.unique(labels):
            r = head_gram.residuals(p, np.full(len(p), label))
            own = labels == label
            squares = head_gram.gradient_grams(r, h, sets[own]).sum(axis=(1, 2))
            scores[own] = np.sqrt(np.maximum(squares, 0))
        return scores

    def _lengths_of(self, state: ExplorationState) -> GradientLengths:
        model = state.trained_model
        if self._lengths is None or self._lengths.model is not model:
            self._lengths = GradientLengths(model, self._memory_budget)
        return self._lengths


def _head_lengths(state: ExplorationState, images: np.ndarray) -> np.ndarray:
    """Returns Σ_y p_y·‖p − e_y‖·‖h‖ of some images, (k,)."""
    p = head_gram.posteriors(state)[images]
    lengths = np.zeros(len(images))
    for label in range(p.shape[1]):
        r = head_gram.residuals(p, np.full(len(p), label))
        lengths += p[:, label] * np.linalg.norm(r, axis=1)
    return lengths * np.linalg.norm(head_gram.head_inputs(state)[images], axis=1)
