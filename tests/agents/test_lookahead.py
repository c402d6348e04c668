"""Lookahead against whole systems solved one set at a time, and flips counted."""

import dataclasses

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents.grown import grown_outputs
from emoc_tf.agents.set_evidence import most_likely_columns, set_evidence
from emoc_tf.scoring import reference
from tests.agents import stubs
from tests.agents.test_kernel_solve import dense_change
from tests.exploration import fakes
from tests.scoring import models
from tests.scoring.literal import jacobians


def softmax(outputs):
    return np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)


def literal(state, kernel, score, time=1.0, old=0.9, references=slice(None)):
    """The score as its definition words it."""
    model = reference.rebuild(state.model)
    outputs = reference.outputs(model, state.pool.images)
    if kernel == "head":
        ones = np.ones((len(outputs), 1))
        rows = np.concatenate([state.features.astype(float), ones], axis=1)
    else:
        rows = jacobians(model, state.pool.images).sum(axis=1) / np.sqrt(outputs.shape[1])
    theta = rows @ rows.T
    labelled = np.flatnonzero(state.pool.labels >= 0)
    values = []
    for row, unseen in zip(
        state.candidates, set_evidence(state, state.candidates).novelty, strict=True
    ):
        members, total = row[row >= 0], 0.0
        if not len(members):
            values.append(0.0)
            continue
        label = np.log(softmax(outputs)[members]).sum(axis=0).argmax()
        for new, share in ((False, 1 - unseen), (True, unseen)):
            before = np.c_[outputs, np.zeros(len(outputs))] if new else outputs
            identity = np.eye(before.shape[1])
            of_labelled = identity[state.pool.labels[labelled]] - softmax(before)[labelled]
            of_set = identity[-1 if new else label] - softmax(before)[members]
            change, learnt = dense_change(
                theta,
                labelled if old else labelled[:0],
                members,
                len(labelled) / (time * old) if old else 1.0,
                len(members) / (time * (1 - old)),
                of_labelled if old else of_labelled[:0],
                of_set,
            )
            if score == "change":
                total += share * np.abs(change).sum(axis=1)[references].mean()
                continue
            now, then = (before + learnt + change).argmax(1), (before + learnt).argmax(1)
            became = now != then
            if new:
                became &= now == before.shape[1] - 1
            total += share * became[references].mean()
        values.append(total)
    return np.array(values)


def a_state(classes=4, **changes):
    state = fakes.make_state(classes=classes, num_images=30, num_sets=8, seed=5, **changes)
    tame = models.randomised(models.convolutional(classes), seed=5, scale=0.5)
    state = fakes.state_of(tame, state.pool, state.candidates)
    sets = state.candidates.copy()
    sets[1, 1:], sets[2] = -1, -1
    labels = state.pool.labels.copy()
    labels[3], labels[16] = -2, -2
    pool = state.pool.snapshot()
    object.__setattr__(pool, "labels", labels)
    mask = (sets >= 0).any(axis=1)
    return dataclasses.replace(state, pool=pool, candidates=sets, candidate_mask=mask)


@pytest.mark.parametrize("score", ["change", "flips"])
@pytest.mark.parametrize("kernel", ["head", "pntk"])
def test_whole_systems(kernel, score):
    state = a_state()
    settings = {"learning_rate": 1.0, "iterations": 500, "old_fraction": 0.6}
    agent = agents.make("lookahead", kernel=kernel, score=score, **settings)
    found = agent.score(state)
    wanted = literal(state, kernel, score, time=5000.0, old=0.6)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    assert len(set(found)) > 4
    images = state.candidates[3:5, 0]
    alone = dataclasses.replace(state, candidates=images[:, None], candidate_mask=np.ones(2, bool))
    np.testing.assert_allclose(
        agent.score_images(state, images), literal(alone, kernel, score, 5000.0, 0.6), rtol=1e-3
    )


@pytest.mark.parametrize("score", ["change", "flips"])
@pytest.mark.parametrize("kernel", ["head", "pntk"])
def test_some_reference_images(kernel, score):
    """Among them are images that are neither labelled nor in a set."""
    state = a_state()
    sets = state.candidates.copy()
    sets[:, 1:] = -1
    state = dataclasses.replace(state, candidates=sets)
    settings = {"learning_rate": 1.0, "iterations": 500, "old_fraction": 0.6}
    agent = agents.make("lookahead", kernel=kernel, score=score, references=9, **settings)
    found = agent.score(state)
    rows = agent.rng(state, "reference images").choice(30, 9, replace=False)
    assert not np.isin(rows, np.r_[state.pool.labelled, sets.ravel()]).all()
    wanted = literal(state, kernel, score, 5000.0, 0.6, rows)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    every = agents.make("lookahead", kernel=kernel, score=score, **settings).score(state)
    assert not np.allclose(every, found, rtol=1e-3)
    as_many = agents.make("lookahead", kernel=kernel, score=score, references=30, **settings)
    np.testing.assert_array_equal(as_many.score(state), every)


@pytest.mark.parametrize("shift", [-1.0, -30.0])
def test_only_images_that_become_the_new_class_count(shift):
    """Where all known outputs are negative the new one, 0 at first, is the highest already."""
    state = a_state()
    head = state.model.layers[-1]
    head.set_weights([head.get_weights()[0], head.get_weights()[1] + shift])
    outputs = reference.outputs(reference.rebuild(state.model), state.pool.images)
    assert (outputs.max(axis=1) < 0).mean() > 0.2
    settings = {"score": "flips", "iterations": 500, "old_fraction": 0.6}
    found = agents.make("lookahead", learning_rate=1.0, **settings).score(state)
    wanted = literal(state, "head", "flips", time=5000.0, old=0.6)
    np.testing.assert_allclose(found, wanted, rtol=1e-3)
    idle = agents.make("lookahead", learning_rate=1e-12, **settings).score(state)
    np.testing.assert_array_equal(idle, np.zeros(8))


def scores_of_training(state, train, old=0.6):
    """The score with nets of one dense layer that `train` fits to residuals, by squares."""
    h = np.c_[state.features.astype(float), np.ones(len(state.features))]
    labelled, unseen = state.pool.labelled, set_evidence(state, state.candidates).novelty
    grown = grown_outputs(state)
    columns = most_likely_columns(state, state.candidates)
    values = np.zeros(len(state.candidates))
    for posterior, new in ((state.probabilities, False), (softmax(grown), True)):
        posterior = posterior.astype(float)
        identity = np.eye(posterior.shape[1])
        of_labelled = identity[state.pool.labels[labelled]] - posterior[labelled]
        of_old = np.full(len(labelled), old / len(labelled))
        before = train(h[labelled], of_labelled, of_old)
        for index, row in enumerate(state.candidates):
            members = row[row >= 0]
            of_set = identity[-1 if new else columns[index]] - posterior[members]
            rows = np.r_[labelled, members]
            weights = np.r_[of_old, np.full(len(members), (1 - old) / max(1, len(members)))]
            after = train(h[rows], np.concatenate([of_labelled, of_set]), weights)
            share = unseen[index] if new else 1 - unseen[index]
            values[index] += share * np.abs(h @ (after - before)).sum(axis=1).mean()
    return values


def descend(h, targets, weights, rate, steps, momentum=0.0, decay=0.0):
    w, velocity = np.zeros((h.shape[1], targets.shape[1])), 0.0
    for _ in range(steps):
        gradient = h.T @ (weights[:, None] * (h @ w - targets)) + decay * w
        velocity = momentum * velocity - rate * gradient
        w = w + velocity
    return w


def test_a_dense_layer_that_is_really_trained():
    """With decay until nothing moves, which is the same; and as the learner does, for t = 20."""
    shape = {"num_images": 60, "labelled": 30, "num_sets": 12, "classes": 4, "size": 8}
    state = stubs.make_state(**shape)
    agent = agents.make("lookahead:learning_rate=0.02:iterations=100:old_fraction=0.6")
    found = agent.score(state)
    until_still = scores_of_training(
        state, lambda *given: descend(*given, rate=0.1, steps=1500, decay=1 / 20)
    )
    np.testing.assert_allclose(found, until_still, rtol=1e-6)
    ended_early = scores_of_training(
        state, lambda *given: descend(*given, rate=0.02, steps=100, momentum=0.9)
    )
    real = state.candidate_mask
    assert np.corrcoef(found[real], ended_early[real])[0, 1] > 0.97
    np.testing.assert_allclose(found, ended_early, rtol=0.15)


def test_the_protocol_is_the_default_and_old_images_may_be_left_out():
    state = a_state()
    found = agents.make("lookahead").score(state)
    np.testing.assert_allclose(found, literal(state, "head", "change"), rtol=1e-4)
    found = agents.make("lookahead:old_fraction=0").score(state)
    np.testing.assert_allclose(found, literal(state, "head", "change", old=0), rtol=1e-4)


@pytest.mark.parametrize("kernel", ["head", "pntk"])
def test_states_that_tell_little(kernel):
    agent = agents.make("lookahead", kernel=kernel)
    one = fakes.make_state(classes=1)
    assert (agent.score(one) > 0).all()  # a new class would change the one output there is
    none = dataclasses.replace(one, probabilities=np.zeros((20, 0), np.float32), known_classes=())
    np.testing.assert_array_equal(agent.score(none), np.zeros(6))
    np.testing.assert_array_equal(agent.score_images(none, np.arange(10, 14)), np.zeros(4))
    assert len(agent.score_images(one, np.arange(0))) == 0
    state = fakes.make_state()
    flat = dataclasses.replace(state, features=np.zeros_like(state.features))
    assert np.isfinite(agent.score(flat)).all()
    bare = state.pool.snapshot()
    object.__setattr__(bare, "labels", np.full(20, -1))
    assert np.isfinite(agent.score(dataclasses.replace(state, pool=bare))).all()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("kernel=full", r"kernel: expected one of \('head', 'pntk'\), got 'full'"),
        ("score=gain", "score: expected one of .*got 'gain'"),
        ("learning_rate=0", "learning_rate: expected a number above 0, got 0"),
        ("momentum=1", r"momentum: expected a number in \[0, 1\), got 1"),
        ("iterations=0.5", "iterations: expected an integer above 0, got 0.5"),
        ("old_fraction=1", r"old_fraction: expected a number in \[0, 1\), got 1"),
        ("memory_budget=0", "memory_budget: expected a number of bytes above 0"),
    ],
)
def test_bad_settings(spec, message):
    with pytest.raises(ValueError, match=message):
        agents.make(f"lookahead:{spec}")


def test_a_kernel_that_takes_more_than_the_budget_is_refused_in_bytes():
    state = fakes.make_state()
    columns = len(np.union1d(np.arange(10), state.candidates))
    needed = 20 * columns * 4
    with pytest.raises(ValueError, match=f"memory_budget: expected at least {needed:,} bytes"):
        agents.make(f"lookahead:kernel=pntk:memory_budget={needed - 1}").score(state)
