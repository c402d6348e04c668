"""How likely an image is to be answered, learnt from the images that were refused so far.

After Käding, Freytag, Rodner, Bodesheim, Denzler: Active learning and discovery of object
categories in the presence of unnameable instances, CVPR 2015. There a Gaussian process tells it,
here a logistic regression on the inputs of the model's head.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from emoc_tf import uncertainty
from emoc_tf.exploration.answers import REJECT
from emoc_tf.exploration.state import ExplorationState


def answer_probabilities(state: ExplorationState, indices: np.ndarray) -> np.ndarray | None:
    """Returns how likely each of some images is to get a class, (k,) in [0, 1].

    Images with a class are set against those that were rejected, as often as there are of each:
    where refusals are rare, few images are taken for unnameable. Images that were skipped say
    nothing.

    Args:
        state: With the answers so far in `state.pool.labels`.
        indices: (k,) pool indices.

    Returns:
        The probabilities; None while no image, or every image, was rejected.
    """
    labels = state.pool.labels
    said = np.flatnonzero((labels >= 0) | (labels == REJECT))
    answered = labels[said] >= 0
    if answered.all() or not answered.any():
        return None
    if not len(indices):
        return np.zeros(0)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with threadpool_limits(1):  # several threads would give other bits from run to run
        classifier.fit(state.features[said].astype(np.float64), answered)
        return classifier.predict_proba(state.features[indices].astype(np.float64))[:, 1]


def set_answer_probabilities(state: ExplorationState) -> np.ndarray | None:
    """Returns the mean of `answer_probabilities` over each candidate set, (M,), 0 for padding."""
    used = np.unique(state.candidates[state.candidates >= 0])
    found = answer_probabilities(state, used)
    if found is None:
        return None
    values = np.zeros(len(state.pool))
    values[used] = found
    return uncertainty.set_means(values, state.candidates)
