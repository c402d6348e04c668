import dataclasses
import types

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import gradient_length
from emoc_tf.data import views
from emoc_tf.scoring.lengths import GradientLengths
from tests.agents import stubs
from tests.exploration import fakes
from tests.scoring.test_lengths import literal_gradients

SPECS = ["egl", "egl:labels=joint", "egl:layer=head", "egl:layer=head:labels=joint"]


def literal(state, spec):
    found, p = [], state.probabilities.astype(np.float64)
    used = np.unique(state.candidates[state.candidates >= 0])
    rows, _ = literal_gradients(state.model, state.pool.images[used])
    gradients = dict(zip(used, rows, strict=True))
    if "head" in spec:  # the last variables are the head's
        size = sum(int(np.prod(v.shape)) for v in state.model.layers[-1].trainable_variables)
        gradients = {i: each[:, -size:] for i, each in gradients.items()}
    for row in state.candidates:
        row = row[row >= 0]
        if "joint" in spec:
            label = np.log(p[row]).sum(axis=0).argmax()
            step = sum((gradients[i][label] for i in row), np.zeros(1))
            found.append(np.linalg.norm(step))
        else:
            found.append(sum(p[i] @ np.linalg.norm(gradients[i], axis=1) for i in row))
    return np.array(found)


@pytest.mark.parametrize("spec", SPECS)
def test_it_is_the_length_of_gradients_taken_one_by_one(spec):
    state = fakes.make_state(masked=(1,))
    found = agents.make(spec).score(state)
    np.testing.assert_allclose(found, literal(state, spec), rtol=1e-4)
    assert found[1] == 0


def test_lengths_are_euclidean():
    """Not the sum of absolute values that a length per parameter gives."""
    state = stubs.make_state(use_bias=False)
    i = state.pool.unlabelled[0]
    p, x = state.probabilities[i].astype(np.float64), state.features[i].astype(np.float64)
    own = [p[y] * np.sqrt((np.outer(p - np.eye(3)[y], x) ** 2).sum()) for y in range(3)]
    found = agents.make("egl:layer=head").score_images(state, np.array([i]))
    np.testing.assert_allclose(found, [sum(own)], rtol=1e-6)


@pytest.mark.parametrize("labels", ["expected", "joint"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_where_the_head_is_all_both_ways_are_one(labels, use_bias):
    """The head of a stub has other weights than its posteriors, which are given here."""
    state = stubs.make_state(use_bias=use_bias, padded=True)
    logits = state.model(state.features).numpy().astype(np.float64)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    state = stubs.replace(state, probabilities=(p / p.sum(axis=1, keepdims=True)).astype("f4"))
    by_head, by_all = (
        agents.make(f"egl:layer={layer}:labels={labels}").score(state) for layer in ("head", "all")
    )
    np.testing.assert_allclose(by_head, by_all, rtol=1e-4)


def test_a_step_of_images_that_agree_is_their_sum():
    """Images that are alike add up; others cancel or lie across."""
    features = np.random.default_rng(1).normal(size=(30, 5))
    features[21:24] = features[20]
    state = stubs.make_state(features=features, sets=[[20, 21, 22, 23]])
    agent = agents.make("egl:layer=head:labels=joint")
    one = agent.score_images(state, np.array([20]))
    np.testing.assert_allclose(agent.score(state), 4 * one, rtol=1e-6)


@pytest.mark.parametrize("spec", SPECS)
def test_images_are_sets_of_their_own(spec):
    state = fakes.make_state()
    indices = np.array([13, 10, 17])
    alone = dataclasses.replace(state, candidates=indices[:, None], candidate_mask=np.ones(3, bool))
    agent = agents.make(spec)
    np.testing.assert_allclose(agent.score_images(state, indices), agent.score(alone), rtol=1e-6)
    assert (agent.score(alone) > 0).all()


@pytest.mark.parametrize("spec", ["egl", "egl:labels=joint"])
def test_a_pool_that_lies_elsewhere(spec):
    state = fakes.make_state()
    pool = types.SimpleNamespace(
        images=views.ImageView(state.pool.images), labels=state.pool.labels
    )
    agent = agents.make(spec)
    elsewhere = dataclasses.replace(state, pool=pool)
    np.testing.assert_array_equal(agent.score(elsewhere), agent.score(state))


def test_a_grown_model_is_looked_at_anew():
    agent = agents.make("egl")
    agent.score(fakes.make_state(classes=3))
    state = fakes.make_state(classes=4, seed=2)
    np.testing.assert_array_equal(agent.score(state), agents.make("egl").score(state))


def test_memory_reaches_the_lengths(monkeypatch):
    made = []

    def spy(model, memory_budget):
        made.append(memory_budget)
        return GradientLengths(model, memory_budget)

    monkeypatch.setattr(gradient_length, "GradientLengths", spy)
    agents.make("egl:memory_budget=100000").score(fakes.make_state())
    assert made == [100000]


@pytest.mark.parametrize("spec", SPECS)
def test_states_with_little_to_tell_apart(spec):
    stubs.check_edge_states(agents.make(spec))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("layer=first", r"layer: expected one of \['all', 'head'\], got 'first'"),
        ("labels=set", r"labels: expected one of \['expected', 'joint'\], got 'set'"),
        ("memory_budget=0", "memory_budget: expected a number of bytes above 0"),
    ],
)
def test_settings_out_of_range(spec, message):
    with pytest.raises(ValueError, match=message):
        agents.make(f"egl:{spec}")
