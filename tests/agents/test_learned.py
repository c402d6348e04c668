import dataclasses
import json
import zipfile

import keras
import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import learned
from emoc_tf.agents.policy_gradient import PolicyLearner, Trajectory, advantages, run_episode
from emoc_tf.envs import FEATURES, PROGRESS
from tests.envs.test_active_exploration import make
from tests.exploration import fakes

WIDTH = 2 * len(FEATURES) + len(PROGRESS)


def make_observation(sets=7, masked=(), seed=0):
    rng = np.random.default_rng(seed)
    mask = np.ones(sets, np.int8)
    mask[list(masked)] = 0
    features = rng.random((sets, len(FEATURES))).astype(np.float32) * mask[:, None]
    return {
        "set_features": features,
        "action_mask": mask,
        "progress": rng.random(len(PROGRESS)).astype(np.float32),
    }


def make_network(seed=0):
    """A network whose scores differ from set to set."""
    network = learned.build_network(WIDTH, seed)
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(size=weight.shape) for weight in network.get_weights()])
    return network


def turned(observation, order):
    return {key: value if key == "progress" else value[order] for key, value in observation.items()}


def test_inputs_by_hand():
    observation = make_observation(masked=(2,))
    inputs = learned.set_inputs(observation)
    assert inputs.shape == (7, WIDTH)
    assert (inputs[2] == 0).all()
    possible = [0, 1, 3, 4, 5, 6]
    features = observation["set_features"][possible].astype(np.float64)
    np.testing.assert_array_equal(inputs[possible][:, : len(FEATURES)], features)
    relative = (features - features.mean(axis=0)) / features.std(axis=0)
    np.testing.assert_allclose(
        inputs[possible][:, len(FEATURES) : -len(PROGRESS)], relative, rtol=1e-5
    )
    for row in inputs[possible]:
        np.testing.assert_array_equal(row[-len(PROGRESS) :], observation["progress"])


def test_inputs_of_sets_that_are_alike_are_finite():
    observation = make_observation(sets=4)
    observation["set_features"][:] = observation["set_features"][0]
    relative = learned.set_inputs(observation)[:, len(FEATURES) : -len(PROGRESS)]
    np.testing.assert_allclose(relative, 0, atol=1e-3)
    for none in (make_observation(masked=range(7)), make_observation(sets=1)):
        assert np.isfinite(learned.set_inputs(none)).all()


def test_scores_are_equivariant_and_masked_sets_do_not_matter():
    network, observation = make_network(), make_observation(sets=9)
    scores = network(learned.set_inputs(observation)).numpy()
    assert len(np.unique(scores)) == 9
    order = np.random.default_rng(1).permutation(9)
    np.testing.assert_allclose(
        network(learned.set_inputs(turned(observation, order))).numpy(), scores[order], rtol=1e-4
    )
    more = {key: np.concatenate([value, value[:3] * 0]) if key != "progress" else value
            for key, value in observation.items()}  # fmt: skip
    np.testing.assert_allclose(
        network(learned.set_inputs(more)).numpy()[:9], scores, rtol=1e-4, atol=1e-5
    )


def test_the_agent_takes_the_highest_score_for_any_number_of_sets(tmp_path):
    network = make_network()
    network.save(tmp_path / "p.keras")
    agent = agents.make("learned", path=str(tmp_path / "p.keras"))
    assert agents.make(f"learned:path={tmp_path / 'p.keras'}")._path == str(tmp_path / "p.keras")
    for sets, masked in ((1, ()), (6, (0, 3)), (40, range(5, 20))):
        observation = make_observation(sets, masked)
        state = fakes.make_state(num_sets=sets, masked=masked)
        scores = network(learned.set_inputs(observation)).numpy()
        expected = np.where(observation["action_mask"], scores, -np.inf).argmax()
        assert agent.act(observation, state) == expected


def test_files_that_hold_no_policy_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"path: expected a .keras file of a learnt policy"):
        agents.make("learned", path=str(tmp_path / "none.keras"))
    (tmp_path / "junk.keras").write_bytes(b"junk")
    with pytest.raises(ValueError, match=r"path: expected a .keras file .*junk.keras"):
        agents.make("learned", path=str(tmp_path / "junk.keras"))
    model = keras.Sequential([keras.Input((4, 4)), keras.layers.Dense(2)])
    model.save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match=r"path: expected a network of \(n, inputs\) to \(n,\)"):
        agents.make("learned", path=str(tmp_path / "other.keras"))
    unsafe = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(lambda x: x[:, 0])])
    unsafe.save(tmp_path / "unsafe.keras")
    with pytest.raises(ValueError, match=r"path: expected a .keras file"):
        agents.make("learned", path=str(tmp_path / "unsafe.keras"))
    with zipfile.ZipFile(tmp_path / "bomb.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, bytes(2**24))
    with pytest.raises(ValueError, match=r"bomb.keras \(an archive with 3 files of 50331648 bytes"):
        agents.make("learned", path=str(tmp_path / "bomb.keras"))
    with zipfile.ZipFile(tmp_path / "outside.keras", "w") as archive:
        archive.writestr("../../outside", b"")
    with pytest.raises(ValueError, match=r"outside.keras \(an archive with 1 files of 0 bytes"):
        agents.make("learned", path=str(tmp_path / "outside.keras"))
    for odd in (5, None, 2.5):
        with pytest.raises(ValueError, match=r"path: expected a .keras file of a learnt pol"):
            learned.load_network(odd)
    learned.build_network(9).save(tmp_path / "narrow.keras")
    agent = agents.make("learned", path=str(tmp_path / "narrow.keras"))
    with pytest.raises(ValueError, match=rf"network of {WIDTH} inputs for this observation, got"):
        agent.act(make_observation(6), fakes.make_state())


def with_config(path, change):
    """Saves a learnt policy whose configuration is changed."""
    learned.build_network(WIDTH).save(path)
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    change(config)
    files["config.json"] = json.dumps(config)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def layer_of(config, number=1):
    return config["config"]["layers"][number]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: layer_of(c).update(module="subprocess", class_name="Popen"), "'Popen' of 'subp"),
        (lambda c: layer_of(c).update(class_name="Lambda"), "it names 'Lambda' of 'keras.layers'"),
        (lambda c: layer_of(c).update(class_name="TorchModuleWrapper"), "it names 'TorchModule"),
        (lambda c: layer_of(c).update(registered_name="mine>Dense"), "it names 'Dense'"),
        (lambda c: layer_of(c).update(class_name=["Dense"]), "it names"),
        (
            lambda c: layer_of(c)["config"].update(
                activation={"module": "os", "class_name": "function", "config": "abort"}
            ),
            "it names 'function' of 'os'",
        ),
        (
            lambda c: layer_of(c)["config"].update(
                kernel_initializer={"module": "builtins", "class_name": "exec", "config": {}}
            ),
            "it names 'exec' of 'builtins'",
        ),
        (lambda c: c.update(module="antigravity"), "it names 'Functional' of 'antigravity'"),
        (lambda c: layer_of(c)["config"].update(units=10**9), "units of 1000000000 is more than"),
        (lambda c: layer_of(c, 0)["config"].update(batch_shape=[None, 1e9]), "batch_shape of"),
    ],
)
def test_files_may_name_small_dense_networks_only(tmp_path, monkeypatch, change, message):
    with_config(tmp_path / "odd.keras", change)
    monkeypatch.setattr(
        keras.models, "load_model", lambda *_, **__: pytest.fail("the file was deserialised")
    )
    with pytest.raises(ValueError, match=rf"path: expected a .keras file .*{message}"):
        learned.load_network(tmp_path / "odd.keras")


def test_other_dense_networks_may_be_policies(tmp_path):
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((WIDTH,)),
            layers.Dense(5, "relu", kernel_regularizer="l2"),
            layers.Dense(1),
            layers.Reshape(()),
        ]
    )
    network.save(tmp_path / "own.keras")
    agents.make("learned", path=str(tmp_path / "own.keras"))


def make_episode(rewards, seed=0, masked=()):
    observations = [make_observation(masked=masked, seed=seed + t) for t in range(len(rewards))]
    return Trajectory(
        inputs=np.stack([learned.set_inputs(o) for o in observations]),
        masks=np.stack([o["action_mask"].astype(bool) for o in observations]),
        choices=np.arange(len(rewards)),
        rewards=np.array(rewards, float),
        info={},
    )


def test_advantages_by_hand():
    group = [make_episode([1, 2, 3]), make_episode([0, 4]), make_episode([2, 0, 0])]
    first, second, third = advantages(group, discount=0.5)
    returns = [[1 + 1 + 0.75, 2 + 1.5, 3], [2, 4, 0], [2, 0, 0]]
    for advantage, own, others in (
        (first, returns[0], (returns[1], returns[2])),
        (second, returns[1][:2], (returns[0], returns[2])),
        (third, returns[2], (returns[0], returns[1])),
    ):
        mean = np.mean(others, axis=0)[: len(own)]
        np.testing.assert_allclose(advantage, np.array(own) - mean)


def log_policies(network, episode):
    """Of the possible sets of each step, with the position of the choice among them."""
    for inputs, mask, choice in zip(episode.inputs, episode.masks, episode.choices, strict=True):
        scores = network(inputs).numpy().astype(np.float64)[mask]
        log_policy = scores - scores.max()
        yield (
            log_policy - np.log(np.exp(log_policy).sum()),
            np.flatnonzero(mask).tolist().index(choice),
        )


def objective(network, episode, weights, before):
    """The clipped objective with an entropy bonus of 0.1, written out."""
    total = 0.0
    for (log_policy, chosen), weight, old in zip(
        log_policies(network, episode), weights, before, strict=True
    ):
        ratio = np.exp(log_policy[chosen] - old)
        total += min(ratio * weight, np.clip(ratio, 0.8, 1.2) * weight)
        total -= 0.1 * (np.exp(log_policy) * log_policy).sum()
    return total / len(weights)


def test_an_update_follows_the_policy_gradient():
    """Against finite differences of the objective in the weights that moved most."""
    network, episode = make_network(3), make_episode([0.3, -1, 2], masked=(5,))
    weights = np.array([0.5, -1.0, 2.0], np.float32)
    # A ratio within the clip range, one above it and one below.
    before = np.array([lp[c] for lp, c in log_policies(network, episode)]) - [0.0, 0.5, -0.5]
    learner = PolicyLearner(network, learning_rate=1e-4, entropy_bonus=0.1)
    expected = objective(network, episode, weights, before)
    start = [w.numpy() for w in network.trainable_variables]
    loss = learner._reinforce(
        episode.inputs, episode.masks, episode.choices, weights, before.astype(np.float32)
    )
    assert float(loss) == pytest.approx(-expected, rel=1e-4)
    assert objective(network, episode, weights, before) > expected
    steps = [w.numpy() - old for w, old in zip(network.trainable_variables, start, strict=True)]
    # Adam's first step is the learning rate times the gradient's sign. The last bias adds the same
    # to all scores and has no gradient.
    for i, step in enumerate(steps[:-1]):
        where = np.unravel_index(np.abs(step).argmax(), step.shape)
        slopes = []
        for sign in (1, -1):
            values = [array.copy() for array in start]
            values[i][where] += sign * 1e-2
            network.set_weights(values)
            slopes.append(sign * objective(network, episode, weights, before))
        assert np.sign(sum(slopes)) == np.sign(step[where])


def test_what_is_clipped_does_not_move():
    """Choices whose probability has risen enough for their advantage, or fallen for its lack."""
    network, episode = make_network(3), make_episode([0, 0])
    old = np.array([lp[c] for lp, c in log_policies(network, episode)])
    learner, start = PolicyLearner(network, entropy_bonus=0.0), network.get_weights()
    learner._reinforce(
        episode.inputs, episode.masks, episode.choices, np.float32([1, -1]),
        (old + np.array([-0.5, 0.5])).astype(np.float32),
    )  # fmt: skip
    for one, other in zip(start, network.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-7)


def test_imitation_learns_the_teacher_and_leaves_doubt():
    rng = np.random.default_rng(0)
    episodes = []
    for seed in range(30):
        episode = make_episode([0] * 10, seed=100 * seed)
        best = episode.inputs[:, :, 1].argmax(axis=1)  # the greatest margin
        episodes.append(dataclasses.replace(episode, choices=best))
    learner = PolicyLearner(learned.build_network(WIDTH), learning_rate=1e-2)
    loss = learner.imitate(episodes)
    assert 0.5 * np.log(7) * 0.8 < loss <= np.log(7) / 2
    fresh = make_episode([0] * 50, seed=int(rng.integers(1000, 2000)))
    scores = learner.network(fresh.inputs.reshape(-1, WIDTH)).numpy().reshape(50, 7)
    assert (scores.argmax(axis=1) == fresh.inputs[:, :, 1].argmax(axis=1)).mean() > 0.6


class Bandit:
    """The reward is the chosen set's first feature."""

    def __init__(self):
        self.seed, self.step_number = 0, 0

    def reset(self, seed, options):
        self.seed, self.step_number = seed, 0
        return self._observation(), {}

    def _observation(self):
        return make_observation(masked=(1,), seed=1000 * self.seed + self.step_number)

    def step(self, action):
        observation = self._observation()
        assert observation["action_mask"][action]
        self.step_number += 1
        reward = float(observation["set_features"][action, 0])
        return self._observation(), reward, False, self.step_number == 4, {}


def test_reinforcement_learns_what_pays():
    env, network = Bandit(), learned.build_network(WIDTH)
    learner = PolicyLearner(network, learning_rate=2e-2, seed=1)
    for seed in range(60):
        group = [run_episode(env, learner.sample, seed) for _ in range(8)]
        learner.reinforce([group], discount=0.0)
    gained = [run_episode(env, learner.sample, seed).rewards.mean() for seed in range(100, 120)]
    assert np.mean(gained) > 0.75  # a random policy gets 0.5, the best one 6 / 7


def test_samples_are_seeded_and_keep_to_the_mask():
    observation = make_observation(masked=(0, 4))
    draws = [
        [PolicyLearner(make_network(), seed=seed).sample(observation) for _ in range(3)]
        for seed in (0, 0, 1, 2, 3, 4)
    ]
    assert draws[0] == draws[1]
    assert not {0, 4} & {choice for row in draws for choice in row}
    learner = PolicyLearner(learned.build_network(WIDTH))
    assert len({learner.sample(observation) for _ in range(100)}) == 5


def test_episodes_are_recorded():
    env = make()
    episode = run_episode(env, lambda observation: 1, seed=2)
    env.reset(seed=2)
    rewards = [env.step(1)[1] for _ in range(3)]
    np.testing.assert_array_equal(episode.rewards, rewards)
    assert episode.inputs.shape == (3, 5, WIDTH)
    assert list(episode.choices) == [1, 1, 1]
    assert episode.info["step"] == 3
