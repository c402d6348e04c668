"""Tasks in the Gymnasium environment."""

import json
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from emoc_tf import REJECT, SKIP, ImageData, Task
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration.rewards import discovery
from tests.exploration import tasks

LABELS = [0, 1] + [-1] * 10


class Sorting:
    """Answers by the images alone, which every seed and every process understands alike."""

    def label(self, indices, images):
        sums = images.reshape(len(images), -1).sum(axis=1)
        return [["cat", "dog", "fox"][int(abs(value) * 10) % 3] for value in sums]


class Refusing:
    def label(self, indices, images):
        return [SKIP, REJECT, REJECT][: len(indices)]


def images_of_a_test(count=6):
    return ImageData(tasks.images(count, 5), np.arange(count) % 3, ("dog", "fox", "cat"))


def make(labels=LABELS, num_names=2, oracle=None, test=None, **arguments):
    labels = np.full(labels, -1) if isinstance(labels, int) else labels
    task = tasks.task(labels, num_names, test=test)
    known = len(task.start_classes) or num_names
    changes = {k: arguments.pop(k) for k in list(arguments) if k in ("audit", "max_steps")}
    return ActiveExplorationEnv(
        tasks.config(**changes), task=task, oracle=oracle or Sorting(), model=tasks.model(known),
        **arguments,
    )  # fmt: skip


def first_set(env):
    return int(np.flatnonzero(env.action_masks())[0])


@pytest.mark.parametrize(
    ("labels", "num_names"), [(LABELS, 2), (12, 0), ([0] * 2 + [-1] * 9, 1), ([-2, 1, -1, -1], 2)]
)
@pytest.mark.parametrize("oracle", [Sorting(), Refusing()])
def test_without_test_data_answers_tell_the_accuracy(labels, num_names, oracle):
    env = make(labels, num_names, oracle)
    observation, info = env.reset(seed=1)
    assert observation in env.observation_space
    for name in ("test_accuracy", "known_accuracy", "novel_accuracy", "answer_accuracy"):
        assert info[name] is None
    over, found = False, 0
    while not over:
        before = env.state
        observation, reward, terminated, truncated, info = env.step(first_set(env))
        assert observation in env.observation_space
        assert info["test_accuracy"] is None
        if isinstance(oracle, Sorting):
            assert 0 <= info["answer_accuracy"] <= 1
        else:
            assert info["answer_accuracy"] is None
            assert info.get("queried_class") is None
        assert reward == len(env.state.known_classes) - len(before.known_classes)
        assert info["discovered_classes"] == found + reward
        found, over = found + reward, terminated or truncated or info["step"] == 8
        json.dumps(info)
    if isinstance(oracle, Sorting):
        assert terminated
        assert not truncated


def test_answer_accuracy_is_that_of_the_model_before_it_learnt():
    env = make()
    env.reset(seed=0)
    before, choice = env.state, first_set(env)
    indices = before.candidates[choice]
    columns = before.probabilities[indices].argmax(axis=1)
    guesses = [before.known_classes[column] for column in columns]
    info = env.step(choice)[-1]
    labels = env.exploration.labels[indices]
    assert info["answer_accuracy"] == np.mean(labels == guesses)


def test_with_test_data_all_is_as_in_a_simulation():
    env = make(test=images_of_a_test())
    _, info = env.reset(seed=0)
    assert 0 <= info["test_accuracy"] <= 1
    assert "answer_accuracy" not in info
    before = info["test_accuracy"]
    _, reward, _, _, info = env.step(first_set(env))
    assert reward == pytest.approx(info["test_accuracy"] - before)


@pytest.mark.parametrize("reward", ["accuracy_gain", "area", "discovery+2*accuracy_gain"])
@pytest.mark.parametrize("how", ["argument", "mapping"])
def test_rewards_that_need_test_data_are_refused_at_once(reward, how):
    def build(test=None):
        if how == "argument":
            return make(reward=reward, test=test)
        task = tasks.task(LABELS, 2, test=test)
        settings = {"network": "small_cnn", "set_size": 2, "reward": reward}
        task = Task(np.zeros((12, 8, 8, 1), np.uint8), LABELS, ("cat", "dog"), test)
        return ActiveExplorationEnv(settings, task=task)

    with pytest.raises(ValueError, match=r"reward: expected one that needs no test data.*got"):
        build()
    if how == "argument":
        build(images_of_a_test())


@pytest.mark.parametrize("reward", ["discovery", "2*discovery", discovery])
def test_other_rewards_are_taken(reward):
    env = make(reward=reward)
    env.reset(seed=0)
    factor = 2 if reward == "2*discovery" else 1
    before = len(env.state.known_classes)
    for _ in range(3):
        found = env.step(first_set(env))[1]
        assert found == factor * (len(env.state.known_classes) - before)
        before = len(env.state.known_classes)


@pytest.mark.parametrize("test", [False, True])
@pytest.mark.parametrize(("labels", "num_names"), [(LABELS, 2), (9, 0)])
def test_gymnasium_checks_it(test, labels, num_names):
    env = make(labels, num_names, test=images_of_a_test() if test else None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*render mode.*|.*spec.*|.*unwrapped.*")
        masked = _AnySet(env)
        check_env(masked, skip_render_check=True)


class _AnySet(gym.Wrapper):
    """Takes the next set that can be chosen for one that cannot, since checks choose blindly."""

    def step(self, action):
        possible = np.flatnonzero(self.unwrapped.action_masks())
        if not len(possible):
            self.unwrapped.reset()
            possible = np.flatnonzero(self.unwrapped.action_masks())
        return self.env.step(int(possible[int(action) % len(possible)]))

    @property
    def unwrapped(self):
        return self.env


@pytest.mark.parametrize(("labels", "num_names"), [(LABELS, 2), (12, 0)])
def test_equal_seeds_give_equal_episodes(labels, num_names):
    def run(env, seed):
        told = [env.reset(seed=seed)]
        for _ in range(3):
            told.append(env.step(first_set(env)))
        return told, [weight.tobytes() for weight in env.state.model.get_weights()]

    env = make(labels, num_names)
    first, weights = run(env, 4)
    again, same_weights = run(env, 4)
    assert weights == same_weights
    for one, other in zip(first, again, strict=True):
        for name in one[0]:
            np.testing.assert_array_equal(one[0][name], other[0][name])
        assert json.dumps(one[-1]) == json.dumps(other[-1])


@pytest.mark.parametrize("answered", [False, True])
def test_it_resumes_after_corrections(answered):
    env = make(audit=2)
    env.reset(seed=3)
    env.step(first_set(env))
    if answered:
        env.exploration.correct([2, 3], ["owl", REJECT])
        env.exploration.undo()
    saved = env.save()
    other = make(audit=2)
    _, info = other.restore(saved)
    assert json.dumps(info) == json.dumps(env._info())
    for each in (env, other):
        each.told = each.step(first_set(each))
    assert json.dumps(env.told[-1]) == json.dumps(other.told[-1])
    assert env.exploration.labels.tolist() == other.exploration.labels.tolist()


def test_a_task_is_part_of_the_fingerprint():
    one, other = make(), make([1, 0] + [-1] * 10)
    assert one.fingerprint is not None
    assert one.fingerprint != other.fingerprint
    assert one.fingerprint == make().fingerprint


def test_a_pickle_holds_the_task():
    env = pickle.loads(pickle.dumps(make()))
    _, info = env.reset(seed=0)
    assert info["labelled"] == 2


@pytest.mark.parametrize("mode", ["ansi", "rgb_array"])
@pytest.mark.parametrize("oracle", [Sorting(), Refusing()])
@pytest.mark.parametrize(("labels", "num_names"), [(LABELS, 2), (12, 0)])
def test_it_can_be_looked_at(mode, oracle, labels, num_names):
    env = make(labels, num_names, oracle, render_mode=mode)
    env.reset(seed=0)
    env.render()
    env.step(first_set(env))
    shown = env.render()
    if mode == "ansi" and isinstance(oracle, Refusing):
        assert "skipped" in shown
        assert "rejected" in shown


def test_an_episode_may_be_cut():
    env = make(max_steps=2)
    env.reset(seed=0)
    assert env.step(first_set(env))[2:4] == (False, False)
    assert env.step(first_set(env))[2:4] == (False, True)


@pytest.mark.parametrize("audit", [0, 2])
def test_answers_to_the_exploration_are_steps_of_the_environment(tmp_path, audit):
    """As the first page shows it; nothing of it is lost on another day."""
    env = ActiveExplorationEnv(
        tasks.config(max_steps=3, audit=audit), task=tasks.task(LABELS), model=tasks.model(2)
    )
    env.reset(seed=3)
    for query in env.exploration.queries:  # of the audit
        env.exploration.answer(query, [0, 1])
    env.save().write(tmp_path / "audited.npz")
    for answer in (["fox", None], [REJECT, "dog"]):
        env.exploration.answer(env.exploration.ask(first_set(env)), answer)
    assert env.outcome.step == env.state.step == 2
    assert not env.over
    env.save().write(tmp_path / "answered.npz")
    other = ActiveExplorationEnv(
        env.config, task=tasks.task(LABELS), model=env.exploration.initial_model
    )
    _, info = other.reset(options={"checkpoint": tmp_path / "answered.npz"})
    assert (info["step"], info["labelled"]) == (2, env.outcome.labelled)
    np.testing.assert_array_equal(other.exploration.labels, env.exploration.labels)
    assert other.exploration.outcomes[1].to_dict() == env.exploration.outcomes[1].to_dict()
    other.exploration.answer(other.exploration.ask(first_set(other)), [0, 0])
    assert other.over
    other.reset(options={"checkpoint": tmp_path / "audited.npz"})
    assert other.outcome.step == 0
    assert (other.outcome.audit_accuracy is not None) == (audit > 0)


def test_what_the_model_knew_before_a_step_is_no_reward_for_it():
    env = ActiveExplorationEnv(
        tasks.config(), task=tasks.task(LABELS), model=tasks.model(2), oracle=Sorting()
    )
    env.reset(seed=3)
    env.exploration.answer(env.exploration.ask(first_set(env)), ["owl", "owl"])
    class_names = set(env.exploration.class_names)
    _, reward, *_ = env.step(first_set(env))
    assert reward == len(set(env.exploration.class_names) - class_names)


@pytest.mark.parametrize("rule", ["audit=0.01", "audit=0.01,right=9"])
def test_a_rule_that_holds_at_the_start_leaves_a_step(rule):
    env = ActiveExplorationEnv(
        tasks.config(audit=4, stop_when=rule), task=tasks.task([0, 1] + [-1] * 20),
        model=tasks.model(2), oracle=Sorting(),
    )  # fmt: skip
    for seed in range(9):
        _, info = env.reset(seed=seed)
        if "stopped" in info:
            break
    assert "stopped" in info
    assert not env.over
    assert isinstance(env.step(first_set(env))[2], bool)


@pytest.mark.parametrize("given", ["folder", np.zeros((3, 2, 2, 1)), 3])
def test_what_is_no_task_is_told_so(given):
    with pytest.raises(ValueError, match=r"task: expected an emoc_tf\.Task"):
        ActiveExplorationEnv(tasks.config(), task=given)
