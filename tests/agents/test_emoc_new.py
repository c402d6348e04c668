"""EMOC with the hypothesis of a new class, against a model whose head has really grown."""

import dataclasses

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents.set_evidence import set_evidence
from emoc_tf.scoring import EMOCScorer, reference
from tests.exploration import fakes
from tests.scoring import models
from tests.scoring.test_unseen import new_changes


@pytest.fixture(scope="module")
def state():
    made = fakes.make_state(num_images=24, num_sets=7, seed=3)
    tame = models.randomised(models.convolutional(4), seed=5, scale=0.5)
    sets = made.candidates.copy()
    sets[1, 1:], sets[4] = -1, -1
    return fakes.state_of(tame, made.pool, sets)


def literal(state, new_unit, rows=slice(None), weights=1.0):
    x, images = state.pool.images[rows], state.pool.images
    known = reference.set_scores(state.model, x, images, state.candidates)
    changes = (
        np.abs(new_changes(state.model, x, images, new_unit=new_unit)).sum(axis=2).mean(axis=0)
    )
    new = np.array([changes[row[row >= 0]].sum() for row in state.candidates])
    unseen = set_evidence(state, state.candidates).novelty
    return weights * ((1 - unseen) * known + unseen * new)


@pytest.mark.parametrize("new_unit", [0, 1])
def test_scores(state, new_unit):
    agent = agents.make(f"emoc-new:new_unit={new_unit}")
    wanted = literal(state, new_unit)
    scores = agent.score(state)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4)
    for confidence in ("0.95", "none"):
        agent = agents.make(f"emoc-new:new_unit={new_unit}:confidence={confidence}")
        assert agent.act({}, state) == wanted.argmax()
    images = np.array([13, 20, 17])
    alone = dataclasses.replace(state, candidates=images[:, None], candidate_mask=np.ones(3, bool))
    found = agent.score_images(state, images)
    np.testing.assert_allclose(found, literal(alone, new_unit), rtol=1e-4)
    assert len(agent.score_images(state, images[:0])) == 0


def test_the_new_unit_counts():
    made = fakes.make_state()
    scores = [agents.make(f"emoc-new:new_unit={unit}").score(made) for unit in (0, 1)]
    assert (scores[0] < scores[1]).all()


def test_a_sub_sample_of_reference_images_is_the_same_for_all_parts(state):
    agent = agents.make("emoc-new:new_unit=1:references=5", seed=2)
    wanted = literal(state, 1, agent._reference_rows(state))
    np.testing.assert_allclose(agent.score(state), wanted, rtol=1e-4)


def test_refusals_weigh_all_parts(state):
    labels = state.pool.labels.copy()
    labels[:4] = -2
    pool = state.pool.snapshot()
    object.__setattr__(pool, "labels", labels)
    refused = dataclasses.replace(state, pool=pool)
    agent = agents.make("emoc-new:new_unit=1:refusals=True")
    plain = agents.make("emoc-new:new_unit=1").score(refused)
    weights = agents.make("emoc:refusals=True").score(refused) / np.maximum(
        agents.make("emoc").score(refused), 1e-12
    )
    assert 0 < weights[weights > 0].min() < 1
    np.testing.assert_allclose(agent.score(refused), weights * plain, rtol=1e-4)
    images = np.array([13, 20])
    alone = agents.make("emoc-new:new_unit=1").score_images(refused, images)
    assert (agent.score_images(refused, images) < alone).all()


def test_elimination_is_used(state, monkeypatch):
    calls = []
    select = EMOCScorer.select_set

    def spy(self, *arguments, **settings):
        calls.append(settings)
        return select(self, *arguments, **settings)

    monkeypatch.setattr(EMOCScorer, "select_set", spy)
    agents.make("emoc-new:new_unit=1").act({}, state)
    assert (calls[0]["unseen"] > 0).all()
    assert (calls[0]["offsets"] > 0).sum() == 6


@pytest.mark.parametrize("classes", [0, 1])
def test_with_one_known_class_or_none_the_set_is_drawn(classes):
    one = fakes.make_state(classes=1, masked=(2,))
    if not classes:
        one = dataclasses.replace(
            one, probabilities=np.zeros((20, 0), np.float32), known_classes=()
        )
    assert {agents.make("emoc-new", seed=s).act({}, one) for s in range(30)} == {0, 1, 3, 4, 5}
    np.testing.assert_array_equal(agents.make("emoc-new").score(one), np.zeros(6))
    np.testing.assert_array_equal(agents.make("emoc-new").score_images(one, np.arange(3)), 0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("new_unit=2", "new_unit: expected 0 or 1, got 2"),
        ("new_unit=True", "new_unit: expected 0 or 1, got True"),
        ("new_unit=1:output=softmax", "new_unit: expected 0 with output='softmax', got 1"),
        ("confidence=2", "confidence: expected None or a number"),
    ],
)
def test_bad_settings(spec, message):
    with pytest.raises(ValueError, match=message):
        agents.make(f"emoc-new:{spec}")
