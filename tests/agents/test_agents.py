import dataclasses
import types

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import emoc, registry
from emoc_tf.data import views
from emoc_tf.scoring import EMOCScorer, reference
from tests.exploration import fakes

OBSERVATION = {}


def act(name, state, seed=0):
    return agents.make(name, seed=seed).act(OBSERVATION, state)


#                       max   min   margin
POSTERIOR = [
    [0.70, 0.20, 0.10],  # 0.70  0.10  0.50
    [0.50, 0.48, 0.02],  # 0.50  0.02  0.02
    [0.45, 0.30, 0.25],  # 0.45  0.25  0.15
    [0.98, 0.01, 0.01],  # 0.98  0.01  0.97
]
SETS = [[0, 0], [1, 1], [2, 2], [3, 3], [1, 3]]


@pytest.mark.parametrize(
    ("name", "best"), [("min", 2), ("min-literal", 3), ("1-vs-2", 1), ("max", 3)]
)
def test_heuristics_on_hand_made_posteriors(name, best):
    state = fakes.state_with_posterior(POSTERIOR, SETS)
    assert act(name, state) == best


def test_heuristics_average_over_the_set():
    state = fakes.state_with_posterior(POSTERIOR, [[0, 1], [2, 2], [-1, -1]])
    np.testing.assert_allclose(agents.make("max").score(state)[:2], [0.6, 0.45], rtol=1e-6)
    np.testing.assert_allclose(agents.make("min").score(state)[:2], [-0.6, -0.45], rtol=1e-6)
    np.testing.assert_allclose(agents.make("1-vs-2").score(state)[:2], [-0.26, -0.15], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("emoc", {}),
        ("emoc", {"output": "softmax", "regularizer": False}),
        ("emoc", {"labels": "image"}),
        ("emoc", {"labels": "joint"}),
        ("emoc-expected", {}),
        ("emoc-expected", {"output": "softmax"}),
    ],
)
def test_emoc_is_the_literal_score(name, settings):
    state = fakes.make_state(masked=(1,))
    scores = agents.make(name, **settings).score(state)
    literal = reference.set_scores(
        state.model,
        state.reference,
        state.pool.images,
        state.candidates,
        settings.get("labels", "expected" if "expected" in name else "set"),
        settings.get("output", "logits"),
        settings.get("regularizer", True),
    )
    np.testing.assert_allclose(scores, literal, atol=1e-4 * literal.max())
    assert act(name, state) == agents.make(name).act(OBSERVATION, state)
    assert agents.make(name, **settings).act(OBSERVATION, state) == literal.argmax()


@pytest.mark.parametrize("name", ["emoc", "emoc:references=7", "emoc:confidence=none", "random"])
def test_a_pool_that_lies_elsewhere(name):
    state = fakes.make_state()
    pool = types.SimpleNamespace(
        images=views.ImageView(state.pool.images), labels=state.pool.labels
    )
    elsewhere = dataclasses.replace(state, pool=pool)
    assert act(name, elsewhere) == act(name, state)
    if "emoc" in name:
        agent = agents.make(name, seed=3)
        np.testing.assert_array_equal(agent.score(elsewhere), agent.score(state))
        if "references" in name:  # they are not read before they are scored
            assert isinstance(agent._reference_images(elsewhere), views.ImageView)


def test_references_are_a_seeded_sub_sample():
    state = fakes.make_state()
    all_of_them = agents.make("emoc").score(state)
    some, again = (agents.make("emoc:references=7", seed=1).score(state) for _ in range(2))
    np.testing.assert_array_equal(some, again)
    assert not np.allclose(some, all_of_them)
    assert not np.allclose(some, agents.make("emoc:references=7", seed=2).score(state))
    later = fakes.state_of(state.model, state.pool, state.candidates, step=3)
    assert not np.allclose(some, agents.make("emoc:references=7", seed=1).score(later))
    np.testing.assert_array_equal(agents.make("emoc:references=500").score(state), all_of_them)


@pytest.mark.parametrize("name", ["emoc", "emoc-expected", "emoc:labels=joint"])
def test_elimination_and_all_scores_choose_the_same(name):
    """Also where masked sets come first, so that indices shift."""
    state = fakes.make_state(masked=(0, 2))
    best = agents.make(name).score(state)
    best = np.where(state.candidate_mask, best, -np.inf).argmax()
    for spec in (name, f"{name}:confidence=none"):
        assert agents.make(spec).act(OBSERVATION, state) == best


def test_elimination_is_used_unless_switched_off(monkeypatch):
    calls = []
    select = EMOCScorer.select_set

    def spy(self, *arguments, **settings):
        calls.append((arguments[4], settings["seed"]))
        return select(self, *arguments, **settings)

    monkeypatch.setattr(EMOCScorer, "select_set", spy)
    state = fakes.make_state()
    agents.make("emoc:confidence=none").act(OBSERVATION, state)
    assert not calls
    for step in (1, 1, 2):
        later = fakes.state_of(state.model, state.pool, state.candidates, step=step)
        agents.make("emoc", seed=5).act(OBSERVATION, later)
    assert [confidence for confidence, _ in calls] == [0.95] * 3
    assert calls[0] == calls[1] != calls[2]


def test_a_grown_model_is_scored_anew():
    agent = agents.make("emoc")
    agent.score(fakes.make_state(classes=3))
    state = fakes.make_state(classes=4, seed=2)
    np.testing.assert_array_equal(agent.score(state), agents.make("emoc").score(state))


def test_ties_are_broken_at_random_with_the_seed():
    state = fakes.state_with_posterior([[0.5, 0.5]] * 4, [[0], [1], [2], [3]])
    chosen = [act("min", state, seed) for seed in range(30)]
    assert set(chosen) == {0, 1, 2, 3}
    assert chosen == [act("min", state, seed) for seed in range(30)]


def test_random_is_uniform_over_the_sets_there_are():
    state = fakes.make_state(masked=(2,))
    counts = np.bincount([act("random", state, seed) for seed in range(1000)], minlength=6)
    assert counts[2] == 0
    assert np.abs(counts[[0, 1, 3, 4, 5]] - 200).max() < 60


class Always(agents.ScoringAgent):
    def __init__(self, seed=0, *, value=1.0):
        super().__init__(seed)
        self.value = value

    def score(self, state):
        return np.full(len(state.candidates), self.value)


def test_a_policy_of_ones_own_is_one_line(monkeypatch):
    monkeypatch.setattr(registry, "AGENTS", dict(registry.AGENTS))
    agents.register("always", Always)
    assert agents.make("always:value=2.5").value == 2.5
    assert "always" in agents.names()
    with pytest.raises(ValueError, match=r"score: expected .* with 6 NaN"):
        agents.make("always:value=NaN").act(OBSERVATION, fakes.make_state())
    for bad in ("always", "a:b", "", "a/b"):
        with pytest.raises(ValueError, match="name: expected a new name"):
            agents.register(bad, Always)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("best", r"agent: expected one of \['random', .*got 'best'"),
        ("emoc:colour=1", r"agent 'emoc': expected settings among \['labels', .*got 'colour'"),
        ("random:x=1", r"agent 'random': expected settings among \[\], got 'x'"),
        ("emoc:output", "agent: expected variants as key=value, got 'output'"),
        ("emoc:references=5:references=9", "agent: expected each setting once, got 'references'"),
        ("emoc:output=both", r"output: expected one of \['logits', 'softmax'\], got 'both'"),
        ("emoc:labels=own", "labels: expected one of .*got 'own'"),
        ("emoc:regularizer=2", "regularizer: expected True or False, got 2"),
        ("emoc:regularizer=1", "regularizer: expected True or False, got 1"),
        ("emoc:confidence=1", r"confidence: expected None or a number in \(0, 1\), got 1"),
        ("emoc:references=0", "references: expected an integer above 0, got 0"),
        ("lookahead:references=0", "references: expected an integer above 0, got 0"),
        ("gp-emoc:references=1.5", "references: expected an integer above 0, got 1.5"),
        ("emoc:precision=half", r"precision: expected one of .*'bfloat16'.*, got 'half'"),
        ("emoc-expected:memory_budget=0", "memory_budget: expected a number of bytes above 0"),
        ("emoc:memory_budget=2e9", "memory_budget: .* above 0, an integer, got 2000000000.0"),
    ],
)
def test_unknown_policies_and_settings(spec, message):
    with pytest.raises(ValueError, match=message):
        agents.make(spec)


def test_bad_seeds():
    with pytest.raises(ValueError, match="seed: expected an integer of at least 0, got -1"):
        agents.make("random", seed=-1)
    agents.make("random", seed=np.int64(3))


def test_variants_are_parsed():
    agent = agents.make("emoc:output=softmax:regularizer=False:references=none")
    assert (agent._output, agent._regularizer, agent._references) == ("softmax", False, None)


def test_no_set_to_choose():
    state = fakes.make_state(masked=range(6))
    with pytest.raises(ValueError, match="state: expected at least one candidate set"):
        act("min", state)


def test_policies_are_described_in_one_sentence():
    for name in agents.names():
        text = agents.describe(name)
        assert text.startswith("Chooses"), text
        assert text.endswith(".")
        assert "\n" not in text
    assert agents.describe("emoc:output=softmax") == agents.describe("emoc")
    assert agents.describe("none such") == ""


@pytest.mark.parametrize("name", ["emoc", "emoc-expected"])
def test_precision_and_memory_reach_the_scorer(name, monkeypatch):
    made = []

    def spy(*arguments):
        made.append(arguments[3:])
        return EMOCScorer(*arguments)

    monkeypatch.setattr(emoc, "EMOCScorer", spy)
    state = fakes.make_state()
    exact = agents.make(name).score(state)
    scores = agents.make(f"{name}:precision=bfloat16:memory_budget=1000000").score(state)
    assert made[-1] == ("bfloat16", 1_000_000)
    assert 0 < np.abs(scores / exact - 1).max() < 5e-3


def test_settings_may_be_numbers_of_numpy():
    state = fakes.make_state()
    plain = {"references": 7, "confidence": 0.9, "regularizer": False, "memory_budget": 1 << 20}
    numpy = {
        "references": np.int64(7),
        "confidence": np.float64(0.9),
        "regularizer": np.bool_(False),
        "memory_budget": np.int32(1 << 20),
    }
    for name in ("emoc", "emoc-expected"):
        one, other = agents.make(name, **plain), agents.make(name, **numpy)
        np.testing.assert_array_equal(one.score(state), other.score(state))
        assert one.act(OBSERVATION, state) == other.act(OBSERVATION, state)


@pytest.mark.parametrize("name", ["emoc", "emoc:confidence=none", "emoc-expected"])
def test_with_one_known_class_the_set_is_drawn(name):
    """One output is the one known class here: all images score alike."""
    state = fakes.make_state(classes=1, masked=(2,))
    chosen = [act(name, state, seed) for seed in range(20)]
    assert set(chosen) == {0, 1, 3, 4, 5}
    assert chosen == [act(name, state, seed) for seed in range(20)]
    np.testing.assert_array_equal(agents.make(name).score(state), np.zeros(6))


@pytest.mark.parametrize("name", ["min", "min-literal", "1-vs-2", "max", "emoc", "emoc-expected"])
def test_with_no_known_class_the_set_is_drawn(name):
    """The model has one output then, which means nothing, and there are no posteriors."""
    state = dataclasses.replace(
        fakes.make_state(classes=1, masked=(2,)),
        probabilities=np.zeros((20, 0), np.float32),
        known_classes=(),
    )
    agent = agents.make(name)
    np.testing.assert_array_equal(agent.score(state), np.zeros(6))
    np.testing.assert_array_equal(agent.score_images(state, np.arange(10, 15)), np.zeros(5))
    assert {act(name, state, seed) for seed in range(30)} == {0, 1, 3, 4, 5}


@pytest.mark.parametrize(
    "name",
    ["emoc", "emoc:labels=image", "emoc:labels=expected", "emoc:labels=joint", "emoc-expected"],
)
def test_images_are_scored_one_by_one(name):
    """An image scores as a set of it alone."""
    state = fakes.make_state()
    indices = np.array([13, 10, 17])
    agent = agents.make(f"{name}:references=7", seed=3)
    found = agent.score_images(state, indices)
    alone = dataclasses.replace(state, candidates=indices[:, None], candidate_mask=np.ones(3, bool))
    np.testing.assert_allclose(found, agent.score(alone), rtol=1e-5)
    assert len(agent.score_images(state, np.arange(0))) == 0


def test_posteriors_tell_scores_of_images():
    state = fakes.state_with_posterior(POSTERIOR, SETS)
    for name, best in (("min", 2), ("min-literal", 3), ("1-vs-2", 1), ("max", 3)):
        scores = agents.make(name).score_images(state, np.arange(4))
        assert scores.argmax() == best
    assert agents.make("random").score_images is None
    assert agents.make("learned").score_images is None


@pytest.mark.parametrize("path", ["/nowhere/a:b.keras", "gs://nowhere/policy.keras"])
def test_values_of_settings_may_hold_colons(path):
    with pytest.raises((ValueError, FileNotFoundError), match=path):
        agents.make(f"learned:path={path}")
