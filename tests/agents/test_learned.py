import json
import zipfile

import keras
import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.agents import learned
from emoc_tf.envs import FEATURES, PROGRESS
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
