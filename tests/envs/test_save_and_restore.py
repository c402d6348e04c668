"""An environment that goes on from a checkpoint is the one that wrote it."""

import hashlib

import gymnasium as gym
import keras
import numpy as np
import pytest

from emoc_tf.data import load
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.storage.checkpoint import Checkpoint
from tests.exploration.runs import outcome_fields


def random_model():
    """With all kinds of state: dropout, batch statistics, adapted normalisation, a frozen layer."""
    layers = keras.layers
    normalization = layers.Normalization()
    normalization.adapt(load("digits")[0].images.astype(np.float32))
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            normalization,
            layers.Conv2D(4, 3, strides=2, trainable=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )


def same(first, second):
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def go_on(env, actions):
    found = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        found.append((observation, reward, terminated, truncated, outcome_fields(env.outcome)))
        assert info["step"] == env.outcome.step
    return found


@pytest.mark.parametrize("own_model", [False, True])
def test_what_follows_is_bit_for_bit_the_same(tiny, tmp_path, own_model):
    model = random_model() if own_model else None
    config = tiny.replace(reward="area+discovery", sampler="cluster")
    env = ActiveExplorationEnv(config, model=model, render_mode="ansi")
    env.reset(seed=4)
    go_on(env, [1, 0])
    assert env.exploration.state.model.output_shape[1] > 2
    env.save().write(tmp_path / "run.npz")
    picture = env.render()
    expected = go_on(env, [3, 2])
    weights = env.state.model.get_weights()
    next_episode, _ = env.reset()

    other = ActiveExplorationEnv(config, model=model, render_mode="ansi")
    observation, info = other.restore(Checkpoint.read(tmp_path / "run.npz"))
    assert observation in other.observation_space
    assert info["step"] == 2
    assert other.query is None
    assert other.render() == picture
    for one, two in zip(expected, go_on(other, [3, 2]), strict=True):
        same(one[0], two[0])
        assert one[1:] == two[1:]
    for one, two in zip(weights, other.state.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert other.over
    same(next_episode, other.reset()[0])  # the random numbers of the seed go on too


def test_through_wrappers(tiny, tmp_path):
    def make():
        return gym.make("emoc_tf/ActiveExploration-v0", config=tiny.to_dict(), max_episode_steps=9)

    env = make()
    env.reset(seed=4)
    env.step(1)
    env.unwrapped.save().write(tmp_path / "run.npz")
    expected = env.step(2)
    other = make()
    for checkpoint in (tmp_path / "run.npz", Checkpoint.read(tmp_path / "run.npz")):
        _, info = other.reset(options={"checkpoint": checkpoint})
        assert info["step"] == 1
        observation, *rest = other.step(2)
        same(observation, expected[0])
        assert rest[:3] == list(expected[1:4])


class Person:
    """Answers with the true labels of digits; can be interrupted."""

    def __init__(self):
        self.asked = []
        self.away = False
        self.env = None

    def label(self, indices, images):
        self.asked.append(indices.tolist())
        if self.away:
            raise KeyboardInterrupt
        return self.env.exploration.episode.true_labels[indices]


@pytest.mark.parametrize("answered", [False, True])
def test_no_answer_is_asked_for_twice_and_no_question_is_lost(tiny, tmp_path, answered):
    person = Person()
    env = person.env = ActiveExplorationEnv(tiny, oracle=person)
    env.reset(seed=0)
    env.exploration.on_query = lambda: env.save().write(tmp_path / "run.npz")
    if answered:
        env.step(5)
        expected = env.outcome
    else:
        person.away = True
        with pytest.raises(KeyboardInterrupt):
            env.step(5)
    person, asked = Person(), person.asked
    other = person.env = ActiveExplorationEnv(tiny, oracle=person)
    other.restore(Checkpoint.read(tmp_path / "run.npz"))
    assert other.query == 5
    if answered:
        with pytest.raises(ValueError, match="choice: expected 5, the set that has been answered"):
            other.step(4)
    other.step(other.query)
    assert person.asked == ([] if answered else asked)
    assert other.query is None
    if answered:
        assert outcome_fields(other.outcome) == outcome_fields(expected)


def test_an_answer_belongs_to_the_images_that_were_shown(tiny):
    """Where another set is drawn in its place, as another machine's features may have it."""
    person = Person()
    env = person.env = ActiveExplorationEnv(tiny, oracle=person)
    env.reset(seed=0)
    saved = []
    env.exploration.on_query = lambda: saved.append(env.save())
    env.step(5)
    shown = np.setdiff1d(env.exploration.episode.num_initial + np.arange(20), person.asked[0])[:3]
    saved[1].arrays["queried_images"] = shown
    saved[1].arrays["answer"] = env.exploration.episode.true_labels[shown]
    env.restore(saved[1])
    np.testing.assert_array_equal(env.state.candidates[5], shown)
    env.exploration.on_query = None
    before = env.state.pool.labels
    env.step(5)
    np.testing.assert_array_equal(np.flatnonzero(env.state.pool.labels != before), shown)
    assert len(person.asked) == 1


def test_checkpoints_of_other_images_or_models_are_refused(tiny):
    train, test = load("digits")
    env = ActiveExplorationEnv(tiny, data=(train, test))
    env.reset(seed=0)
    saved = env.save()
    changed = train.images.copy()
    changed[:, 0, 0] ^= 1
    other = ActiveExplorationEnv(
        tiny, data=(type(train)(changed, train.labels, test.class_names), test)
    )
    with pytest.raises(ValueError, match="checkpoint: expected one of the same images"):
        other.restore(saved)
    other = ActiveExplorationEnv(tiny, data=(train, test), model=random_model())
    with pytest.raises(ValueError, match=r"variable_0: expected shape"):
        other.restore(saved)
    with pytest.raises(Exception, match="expected a call of reset first"):
        other.save()
    other = ActiveExplorationEnv(tiny.replace(momentum=0.5))
    with pytest.raises(ValueError, match=r"of this configuration, got momentum=0.9 there, 0.5 he"):
        other.restore(saved)
    with pytest.raises(ValueError, match=r"one without all its parts \(KeyError: 'configuration'"):
        other.restore(Checkpoint({}, {}))


@pytest.mark.parametrize("steps", [0, 3])
def test_checkpoints_from_before_there_was_a_journal_are_resumed(tiny, steps):
    env = ActiveExplorationEnv(tiny.replace(max_steps=6))
    env.reset(seed=4)
    for _ in range(steps):
        env.step(int(np.flatnonzero(env.state.candidate_mask)[-1]))
    saved = env.save()
    del saved.arrays["journal"]
    episode = env.exploration.episode
    digest = hashlib.sha256()
    for array in (
        episode.raw_images, episode.true_labels, episode.test_images, episode.test_labels,
    ):  # fmt: skip
        digest.update(np.ascontiguousarray(array))
    saved.arrays["images"] = np.array(digest.hexdigest())
    then_new = ("optimizer", "audit", "stop_when", "pseudo_labels")
    for name in then_new:
        del saved.header["configuration"][name]
    other = ActiveExplorationEnv(tiny.replace(max_steps=6))
    other.restore(saved)
    assert other.state.known_classes == env.state.known_classes
    for name in ("candidates", "probabilities", "features"):
        np.testing.assert_array_equal(getattr(other.state, name), getattr(env.state, name))
    np.testing.assert_array_equal(other.state.pool.labels, env.state.pool.labels)
    assert other.step(0)[4]["test_accuracy"] == env.step(0)[4]["test_accuracy"]
