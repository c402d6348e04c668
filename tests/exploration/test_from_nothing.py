"""Tasks of which nothing is known: no label, and no class."""

import numpy as np
import pytest

from emoc_tf import REJECT, SKIP, agents
from emoc_tf.envs.observation import observation_space, observe
from emoc_tf.exploration import Exploration
from tests.exploration.tasks import Still, config, explore, first_set, model, restored, say, task


def nothing(count=12, **changes):
    return explore(count, num_names=0, **changes)


@pytest.mark.parametrize("sampler", ["uniform", "cluster", "single_class"])
def test_there_are_sets_and_no_probabilities(sampler):
    exploration = nothing(sampler=sampler)
    state, outcome = exploration.state, exploration.first
    assert state.known_classes == ()
    assert state.probabilities.shape == (12, 0)
    assert state.candidate_mask.any()
    assert state.model.output_shape == (None, 1)  # stands for nothing yet
    assert outcome.labelled == outcome.discovered_classes == 0
    assert outcome.test_accuracy is None
    assert Still.calls == []
    assert exploration.ask(first_set(exploration)).guesses.tolist() == []


@pytest.mark.parametrize("name", agents.names())
@pytest.mark.parametrize("rejected", [False, True])
def test_every_policy_chooses_by_its_seed(name, rejected):
    exploration = nothing(40, num_candidate_sets=20)
    if rejected:
        say(exploration, [REJECT, REJECT])
    state = exploration.state
    observation = observe(state, exploration.config)
    assert observation in observation_space(exploration.config)
    chosen = [agents.make(name, seed=seed).act(observation, state) for seed in range(12)]
    again = [agents.make(name, seed=seed).act(observation, state) for seed in range(12)]
    assert chosen == again
    assert len(set(chosen)) > 4
    assert state.candidate_mask[chosen].all()


@pytest.mark.parametrize("name", agents.names())
def test_every_policy_goes_on_while_classes_are_found(name):
    exploration = nothing(20, num_candidate_sets=5)
    agent = agents.make(name, seed=1)
    for answer in (["cat", REJECT], ["cat", SKIP], ["dog", "dog"], [REJECT, "fox"], ["cat", None]):
        state = exploration.state
        observation = observe(state, exploration.config)
        assert observation in observation_space(exploration.config)
        choice = agent.act(observation, state)
        assert state.candidate_mask[choice]
        exploration.answer(exploration.ask(choice), answer)
    assert exploration.state.known_classes == (0, 1, 2)


@pytest.mark.parametrize("together", [False, True])
def test_pretraining_begins_when_two_classes_are_known(together):
    exploration = nothing(pretrain_iterations=7, update_iterations=3)
    if not together:
        indices, outcome = say(exploration, ["cat", "cat"])
        assert exploration.state.known_classes == (0,)
        np.testing.assert_array_equal(exploration.state.probabilities, 1)
        assert outcome.answer_accuracy == 0.0
        assert outcome.discovered_classes == 1
        assert Still.calls == []
        say(exploration, ["cat", SKIP])
    say(exploration, ["dog", "cat"])
    assert sorted(exploration.state.known_classes) == [0, 1]
    assert [call["iterations"] for call in Still.calls] == [7]
    assert Still.calls[0]["novel"] is None
    assert Still.calls[0]["old"] == np.flatnonzero(exploration.labels >= 0).tolist()
    assert exploration.journal[-1].kind == "learn"
    indices, _ = say(exploration, ["cat", "dog"])
    assert [call["iterations"] for call in Still.calls] == [7, 3]
    assert Still.calls[1]["novel"] == indices


@pytest.mark.parametrize("answers", [[["cat", "dog"]], [["cat", "cat"], ["dog", REJECT]]])
def test_undo_back_to_nothing(answers):
    exploration = nothing()
    for answer in answers:
        say(exploration, answer)
    for _ in answers:
        exploration.undo()
    state = exploration.state
    assert exploration.class_names == state.known_classes == ()
    assert state.probabilities.shape == (12, 0)
    assert (state.pool.labels == -1).all()
    again = restored(exploration)
    assert again.state.known_classes == ()
    np.testing.assert_array_equal(again.state.candidates, state.candidates)
    for each in (exploration, again):
        say(each, ["fox", "owl"])
        assert each.class_names == ("fox", "owl")
    np.testing.assert_array_equal(exploration.state.probabilities, again.state.probabilities)


@pytest.mark.parametrize("units", [1, 3, 10])
def test_the_head_of_a_model_handed_in_is_replaced(units):
    own = model(units)
    before = [weight.copy() for weight in own.get_weights()]
    exploration = Exploration(config(), task=task(8, 0), model=own, learner=Still)
    exploration.reset(0)
    assert exploration.state.model.output_shape == (None, 1)
    assert exploration.state.known_classes == ()
    say(exploration, ["cat", "dog"])
    assert exploration.state.model.output_shape == (None, 2)
    for weight, then in zip(own.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, then)


@pytest.mark.parametrize("answer", [["cat", "dog"], [0, 1]])
def test_names_without_images_are_known_where_the_model_has_outputs_for_them(answer):
    exploration = explore(10, num_names=2)
    assert exploration.state.known_classes == (0, 1)
    say(exploration, answer)
    assert exploration.first.discovered_classes == 0
    assert exploration.state.known_classes == (0, 1)


def test_names_without_images_are_discovered_by_a_model_that_lacks_them():
    exploration = Exploration(
        config(), task=task([0, -1, -1, -1], 3), model=model(1), learner=Still
    )
    exploration.reset(0)
    assert exploration.state.known_classes == (0,)
    _, outcome = say(exploration, ["fox", SKIP])
    assert exploration.state.known_classes == (0, 2)
    assert outcome.discovered_classes == 1


@pytest.mark.parametrize("network", ["small_cnn", "cifar10_quick"])
def test_named_networks_start_from_nothing_too(network):
    from emoc_tf import Task

    images = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3)).astype(np.uint8)
    exploration = Exploration(config(network=network, learning_rate=1e-4), task=Task(images))
    exploration.reset(0)
    say(exploration, ["cat", "dog"])
    assert exploration.state.probabilities.shape == (10, 2)
    np.testing.assert_allclose(exploration.state.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert exploration.journal[-1].kind == "learn"
