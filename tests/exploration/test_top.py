"""The sampler `top`: the best images as the policy scores them, and sets made of them."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, agents
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration import Exploration, candidates
from emoc_tf.exploration.candidates import SamplerInputs
from emoc_tf.exploration.top import top

CONFIG = ExplorationConfig(
    sampler="top", known_classes=3, novel_classes=2, initial_per_class=4, pool_per_class=8,
    num_candidate_sets=12, set_size=3, pretrain_iterations=10, update_iterations=2, batch_size=4,
)  # fmt: skip
SCORES = np.random.default_rng(3).normal(size=60)


def inputs(scores=SCORES, waiting=range(10, 50), size=3, sets=20, seed=0, classes=4, **changes):
    rng = np.random.default_rng(8)
    posterior = rng.dirichlet(np.ones(classes), 60) if classes else np.zeros((60, 0))
    fields = {
        "waiting": np.array(waiting), "probabilities": posterior.astype(np.float32),
        "features": rng.normal(size=(60, 5)).astype(np.float32), "pool": None, "set_size": size,
        "num_sets": sets, "rng": np.random.default_rng(seed), "seed": seed,
        "image_scorer": None if scores is None else lambda indices: scores[indices],
    }  # fmt: skip
    return SamplerInputs(**fields | changes)


def drawn(given):
    """The sets as the loop takes them."""
    sets, mask = top(given)
    shape = given.num_sets, given.set_size
    sets, mask = candidates._checked((sets, mask), given.waiting, shape)
    return [set(row[row >= 0].tolist()) for row in sets[mask]]


def best(scores, waiting, size):
    return set(np.array(waiting)[np.argsort(-np.asarray(scores)[waiting])[:size]].tolist())


@pytest.mark.parametrize("size", [1, 2, 3, 17, 40])
@pytest.mark.parametrize("sets", [1, 2, 3, 20])
def test_the_first_set_is_the_best_images(size, sets):
    given = inputs(size=size, sets=sets)
    found = drawn(given)
    assert found[0] == best(SCORES, given.waiting, size)
    assert all(len(each) == size for each in found)
    assert len({frozenset(each) for each in found}) == len(found) <= sets
    assert len(found) == min(sets, 1 if size == 40 else sets)


def test_half_of_the_sets_are_of_the_best_images():
    waiting = np.arange(1000)
    scores = np.random.default_rng(0).permutation(1000).astype(float)
    features = np.random.default_rng(1).normal(size=(1000, 3))
    given = inputs(scores, waiting, 4, 40, probabilities=None, features=features)
    good = [min(scores[list(each)]) >= 960 for each in drawn(given)]
    assert good == [True] * 21 + [False] * 19


def test_batches_are_spread_in_the_features():
    """Images in five places: k-means++ draws one of each, where the best are all in one."""
    place = np.arange(60) % 5
    features = np.eye(5)[place] * 100 + np.random.default_rng(0).normal(size=(60, 5))
    scores = 10 - place + np.random.default_rng(2).random(60)
    found = drawn(inputs(scores, size=5, features=features, sets=21))
    assert {place[i] for i in found[0]} == {0}
    spread = [len({place[i] for i in each}) for each in found[1:11]]
    assert np.mean(spread) > 4.5
    assert np.mean([len({place[i] for i in each}) for each in found[11:]]) < 4


def test_scores_weigh_in_batches():
    """Images that score next to nothing are hardly drawn, however far away."""
    scores = np.where(np.arange(60) % 2, 1.0, 1e-6 * np.arange(60))
    found = drawn(inputs(scores, size=4, sets=41))
    assert np.mean([i % 2 for each in found[1:21] for i in each]) > 0.95


@pytest.mark.parametrize("few", [1, 2])
def test_fewer_than_k_images_are_one_short_set(few):
    assert drawn(inputs(waiting=range(20, 20 + few))) == [set(range(20, 20 + few))]


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize(
    "scores",
    [
        np.zeros(60), np.full(60, -3.5), np.where(np.arange(60) == 30, 1.0, 0.0),
        np.arange(60), np.arange(60) > 30, np.full(60, np.inf), np.full(60, -np.inf),
        np.where(np.arange(60) % 3, -np.inf, 1.0), np.where(np.arange(60) == 30, np.inf, 0.5),
        (np.arange(60) / 30 - 1) * 1.5e308, np.arange(60) * 5e-324, np.float32(SCORES),
    ],
)  # fmt: skip
@pytest.mark.parametrize("same_features", [False, True])
def test_scores_of_any_kind(scores, size, same_features):
    changes = {"features": np.ones((60, 2), np.float32)} if same_features else {}
    given = inputs(scores, size=size, **changes)
    found = drawn(given)
    assert len(found) == 20
    left = np.setdiff1d(given.waiting, list(found[0]))
    assert min(scores[list(found[0])]) >= max(scores[left])


def test_equal_scores_are_in_random_order():
    firsts = {frozenset(drawn(inputs(np.zeros(60), seed=seed))[0]) for seed in range(10)}
    assert len(firsts) == 10


@pytest.mark.parametrize(
    "found",
    [np.full(40, np.nan), np.ones(39), np.ones((40, 1)), 1.0, None, "high", [[1], [1, 2]]],
)
def test_what_is_no_score_is_refused(found):
    with pytest.raises(ValueError, match=r"^score_images: expected \(40,\) numbers, one an image"):
        top(inputs(image_scorer=lambda indices: found))


def test_without_a_policy_the_entropy_tells():
    given = inputs(None)
    assert given.image_scores is None
    p = given.probabilities.astype(np.float64)
    assert drawn(given)[0] == best(-(p * np.log(p)).sum(axis=1), given.waiting, 3)


@pytest.mark.parametrize("classes", [0, 1])
@pytest.mark.parametrize("size", [1, 3])
def test_without_classes_there_are_sets_too(classes, size):
    assert len(drawn(inputs(None, classes=classes, size=size))) == 20


def test_scores_are_computed_once_and_only_for_who_asks():
    asked = []

    def scorer(indices):
        asked.append(indices)
        return SCORES[indices]

    given = inputs(image_scorer=scorer)
    candidates.uniform(given)
    assert not asked
    top(given)
    np.testing.assert_array_equal(given.image_scores, SCORES[given.waiting])
    assert len(asked) == 1


def test_equal_streams_give_equal_sets():
    first, second, other = (drawn(inputs(seed=seed)) for seed in (4, 4, 5))
    assert first == second != other


@pytest.mark.parametrize("name", ["min", "min-literal", "1-vs-2", "max"])
@pytest.mark.parametrize("set_size", [1, 3])
def test_heuristics_choose_the_k_best_images(name, set_size):
    """Among the sets that are offered; choosing K single images is what they do then."""
    exploration, agent = Exploration(CONFIG.replace(set_size=set_size)), agents.make(name)
    exploration.image_scores = agent.score_images
    exploration.reset(1)
    exploration.advance(agent.act({}, exploration.state))
    state = exploration.state
    waiting = state.pool.unlabelled
    scores = agent.score_images(state, waiting)
    chosen = state.candidates[agent.act({}, state)]
    kept = agent.score_images(state, chosen)
    np.testing.assert_allclose(kept.mean(), np.sort(scores)[-set_size:].mean(), rtol=1e-6)
    assert np.sort(scores)[-set_size:].mean() > scores.mean()


def test_sets_are_drawn_from_a_state_without_sets():
    exploration, seen = Exploration(CONFIG), []

    def scorer(state, indices):
        seen.append((state.step, state.candidate_mask.any(), state.candidates.max()))
        assert not np.isin(indices, state.pool.labelled).any()
        return indices

    exploration.image_scores = scorer
    exploration.reset(0)
    first = exploration.state.candidates[0]
    np.testing.assert_array_equal(first, [49, 50, 51])
    exploration.ask(0)
    exploration.withdraw(exploration.queries[0])
    query = exploration.ask(0)
    assert 51 in query.indices
    exploration.correct([40], [int(exploration.labels[0])])
    assert not np.isin([40, *query.indices], exploration.state.candidates).any()
    exploration.answer(query, exploration.episode.true_labels[query.indices])
    assert seen == [(0, False, -1)] * 3 + [(1, False, -1)]


def test_the_last_images_are_a_short_set():
    config = CONFIG.replace(set_size=7, max_steps=None)
    env = ActiveExplorationEnv(config)
    env.reset(seed=0)
    while not env.over:
        env.step(0)
    assert not (env.state.pool.labels < 0).any()
    assert env.state.step == 6 == config.num_steps == env.exploration.episode.num_steps(config)


@pytest.mark.parametrize("name", ["1-vs-2", "emoc", "random"])
def test_a_resumed_exploration_draws_the_same_sets(name):
    agent = agents.make(f"{name}:references=8" if name == "emoc" else name, seed=5)
    env = ActiveExplorationEnv(CONFIG)
    env.exploration.image_scores = agent.score_images
    observation, _ = env.reset(seed=2)
    observation, *_ = env.step(agent.act(observation, env.state))
    saved, state = env.save(), env.state
    later = agents.make(f"{name}:references=8" if name == "emoc" else name, seed=5)
    other = ActiveExplorationEnv(CONFIG)
    other.exploration.image_scores = later.score_images
    other.restore(saved)
    np.testing.assert_array_equal(other.state.candidates, state.candidates)
    env.exploration.image_scores = None
    env.exploration._draw_again()
    assert not np.array_equal(env.state.candidates, state.candidates)
