"""The model with an output for one class more, which is 0 for all images at first."""

import numpy as np
from scipy.special import logsumexp

from emoc_tf.exploration.state import ExplorationState
from emoc_tf.models.checks import check_model


def grown_outputs(state: ExplorationState) -> np.ndarray:
    """Returns the outputs for all pool images, (n_pool, C + 1) logits, by the head's inputs."""
    head = check_model(state.model)
    outputs = state.features.astype(np.float64) @ np.asarray(head.kernel, np.float64)
    if head.use_bias:
        outputs += np.asarray(head.bias, np.float64)
    return np.concatenate([outputs, np.zeros((len(outputs), 1))], axis=1)


def grown_posterior(outputs: np.ndarray) -> np.ndarray:
    """Returns the softmax of (n, C + 1) outputs."""
    return np.exp(outputs - logsumexp(outputs, axis=1, keepdims=True))
