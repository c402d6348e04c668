"""Runs of an exploration, and what it means that two are the same."""

import numpy as np


def outcome_fields(outcome):
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in vars(outcome).items()
    }


def weights(exploration):
    return [w.copy() for w in exploration.state.model.get_weights()]


def run(exploration, choices, root=7, **reset):
    """Returns everything that a run yields."""
    outcomes = [outcome_fields(exploration.reset(root, **reset))]
    states = [exploration.state]
    for choice in choices:
        outcomes.append(outcome_fields(exploration.advance(choice)))
        states.append(exploration.state)
    return outcomes, states, weights(exploration)


def assert_same_run(first, second):
    assert first[0] == second[0]
    for one, other in zip(first[1], second[1], strict=True):
        for name in ("candidates", "candidate_mask", "probabilities", "reference"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_array_equal(one.pool.labels, other.pool.labels)
        assert one.known_classes == other.known_classes
    for one, other in zip(first[2], second[2], strict=True):
        np.testing.assert_array_equal(one, other)
