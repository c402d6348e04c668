"""Samplers, networks, rewards and policies by name."""

import pathlib
import pickle
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from emoc_tf import ExplorationConfig, agents, registries
from emoc_tf.agents import registry as agents_registry
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.exploration import Exploration, register_reward, register_sampler
from emoc_tf.models import register_network
from emoc_tf.registries import Registry
from tests.envs.test_active_exploration import SHRUNK, make
from tests.envs.test_ecosystem import trajectory

KINDS = {
    "sampler": (register_sampler, registries.SAMPLERS),
    "network": (register_network, registries.NETWORKS),
    "reward": (register_reward, registries.REWARDS),
    "agent": (agents.register, agents_registry.AGENTS),
}


@pytest.fixture(autouse=True)
def forget():
    """What a test registers is gone after it."""
    yield
    for _, registry in KINDS.values():
        for name in registry.registered():
            del registry[name]


def nothing(*arguments):
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_new_and_fit_for_folders(kind):
    register, registry = KINDS[kind]
    register("my-own_1.5", nothing)
    assert registry["my-own_1.5"] is nothing
    assert registry.registered() == {"my-own_1.5": nothing}
    (taken, *_) = registry
    for bad in (
        "my-own_1.5",
        taken,
        "a:b",
        "",
        "a/b",
        ".a",
        "-a",
        "a b",
        "a\n",
        "a+b",
        None,
        3,
        b"a",
    ):
        with pytest.raises(ValueError, match="name: expected a new name of letters, digits"):
            register(bad, nothing)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["shared", "Shared", "report.html", "curves.png", "table.csv"])
def test_names_that_an_output_folder_uses_are_refused(kind, name):
    with pytest.raises(ValueError, match=f"name: expected .* output folders .*, got '{name}'"):
        KINDS[kind][0](name, nothing)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("thing", [None, 5, "emoc_tf.streams:generator", object()])
def test_what_cannot_be_called_is_refused(kind, thing):
    with pytest.raises(ValueError, match=r"(function|agent): expected a function or a class"):
        KINDS[kind][0]("own", thing)


@pytest.mark.parametrize(
    ("kind", "known"),
    [("sampler", "single_class"), ("network", "cifar10_quick"), ("reward", "area")],
)
def test_unknown_names_are_refused_when_the_configuration_is_made(kind, known):
    for bad in ("nonsense", known.upper(), f" {known}x", "", "shared"):
        with pytest.raises(ValueError, match=f"{kind}: expected one of .*'{known}'.*, got '{bad}'"):
            ExplorationConfig(**{kind: bad})
    KINDS[kind][0]("nonsense", nothing)
    assert getattr(ExplorationConfig(**{kind: "nonsense"}), kind) == "nonsense"


def test_names_are_known_without_tensorflow():
    code = (
        "import sys, emoc_tf\n"
        "for kind in ('sampler', 'network', 'reward'):\n"
        "    try:\n"
        "        emoc_tf.ExplorationConfig(**{kind: 'nonsense'})\n"
        "    except ValueError:\n"
        "        continue\n"
        "    raise SystemExit(f'{kind} is accepted')\n"
        "emoc_tf.ExplorationConfig.preset('paper', reward='area+2*discovery')\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_registry_is_a_mapping_that_loads_when_asked():
    registry = Registry({"json": "json:dumps", "here": nothing})
    assert list(registry) == ["json", "here"]
    assert "json" in registry
    assert registry["json"](1) == "1"
    assert dict(registry)["here"] is nothing
    with pytest.raises(KeyError):
        registry["none"]
    assert registry.registered() == {}


def test_what_was_registered_can_be_told_to_another_process():
    register_reward("own", nothing)
    told = pickle.loads(pickle.dumps(registries.REWARDS.registered()))
    other = Registry({"area": "emoc_tf.exploration.rewards:area"})
    other.update(told)
    assert list(other) == ["area", "own"]
    assert other.registered() == told == {"own": nothing}


def test_a_reward_of_your_own_is_a_term():
    register_reward("steps-2", lambda before, after: after.step)
    env = make(reward="steps-2 + 0.5*steps-2")
    assert [step[1] for step in trajectory(env)[1:]] == [1.5, 3.0, 4.5]


def test_a_sampler_of_your_own_by_name_and_as_a_function():
    seen = []

    def pairs(inputs):
        """Neighbours in the pool, two a set: fewer than K."""
        seen.append(inputs)
        sets = inputs.waiting[: len(inputs.waiting) // 2 * 2].reshape(-1, 2)[: inputs.num_sets]
        return sets, np.ones(len(sets), bool)

    register_sampler("pairs", pairs)
    named, given = make(sampler="pairs", max_steps=None), make(sampler=pairs, max_steps=None)
    assert (named.config.sampler, given.config.sampler) == ("pairs", "single_class")
    for env in (named, given):
        env.reset(seed=0)
        inputs = seen[-1]
        assert (inputs.num_sets, inputs.set_size) == (5, 3)
        np.testing.assert_array_equal(inputs.waiting, np.arange(8, 32))
        np.testing.assert_array_equal(inputs.probabilities, env.state.probabilities)
        np.testing.assert_array_equal(inputs.features, env.state.features)
        np.testing.assert_array_equal(inputs.pool.images, env.state.pool.images)
        np.testing.assert_array_equal(inputs.pool.labels >= 0, np.arange(32) < 8)
        for array in (
            inputs.probabilities,
            inputs.features,
            inputs.pool.images,
            inputs.pool.labels,
        ):
            assert not array.flags.writeable
        steps, over = 0, False
        while not over:
            row = env.state.candidates[0]
            assert (row[:2] >= 0).all()
            assert row[2] == -1
            observation, _, over, _, info = env.step(0)
            steps += 1
            assert info["labelled"] == 8 + 2 * steps
            assert observation in env.observation_space
        assert steps == 12
    env = make(sampler=pairs, render_mode="ansi")
    env.reset(seed=0)
    env.step(1)
    assert "step 1 of 3: 2 images" in env.render()
    for policy in ("emoc", "min", "random"):
        assert env.action_masks()[agents.make(policy).act({}, env.state)]


def test_a_set_of_your_own_sampler_survives_a_save():
    def one(inputs):
        return inputs.waiting[:4, None], np.ones(4, bool)

    first, second = (make(sampler=one) for _ in range(2))
    trajectory(first, (1, 0))
    saved = first.save()
    second.reset(seed=1, options={"checkpoint": saved})
    ours, theirs = first.step(2), second.step(2)
    assert ours[-1]["test_accuracy"] == theirs[-1]["test_accuracy"]
    np.testing.assert_array_equal(first.state.candidates, second.state.candidates)


def test_a_sampler_of_your_own_sees_no_true_label(tiny):
    """Whatever it is called, and whatever it wraps."""
    reached = []

    def curious(inputs):
        reached.append({name: getattr(inputs, name) for name in inputs.__dataclass_fields__})
        return inputs.waiting[:, None], np.ones(len(inputs.waiting), bool)

    register_sampler("single_class.mine", curious)
    config = tiny.replace(sampler="single_class.mine", num_candidate_sets=100, pool_per_class=6)
    Exploration(config).reset(0)
    (found,) = reached
    assert set(found) == {
        "waiting", "probabilities", "features", "pool", "set_size", "num_sets", "rng", "seed",
        "image_scorer", "step",
    }  # fmt: skip
    assert found["image_scorer"] is None
    assert (found["pool"].labels[found["waiting"]] == -1).all()
    assert set(vars(found["pool"])) == {"images", "labels", "_labels"}


def test_samplers_that_are_none_are_refused():
    with pytest.raises(ValueError, match="sampler: expected a name or a function, got 5"):
        make(sampler=5)
    with pytest.raises(ValueError, match=r"sampler: expected a function or None .*, got 'uniform'"):
        Exploration(ExplorationConfig(**SHRUNK), sampler="uniform")
    env = make(sampler=nothing)
    with pytest.raises(ValueError, match=r"sampler: expected it to return \(sets, mask\)"):
        env.reset(seed=0)


def test_the_documented_ones_work():
    text = (pathlib.Path(__file__).parents[1] / "docs" / "environment.md").read_text()
    (block,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        if "register_sampler" in block
    ]
    exec(block, {})
    env = make(sampler="least-certain", network="linear", reward="accuracy_gain+0.5*novel")
    before, *steps = [step[-1] for step in trajectory(env, (0, 0))]
    assert [info["step"] for info in steps] == [1, 2]
    assert before["labelled"] < steps[0]["labelled"] <= before["labelled"] + 3


def dense(image_shape, num_classes, weight_decay, seeds):
    start = keras.initializers.HeNormal(seed=seeds[0])
    layers = [keras.layers.Flatten(), keras.layers.Dense(num_classes, kernel_initializer=start)]
    return keras.Sequential([keras.Input(image_shape), *layers])


def test_a_network_of_your_own():
    register_network("dense", dense)
    runs = [trajectory(make(network="dense")) for _ in range(2)]
    accuracies = [[step[-1]["test_accuracy"] for step in run] for run in runs]
    assert accuracies[0] == accuracies[1]
    env = make(network="dense", novel_classes=0, known_classes=3)
    env.reset(seed=0)
    assert [layer.name.split("_")[0] for layer in env.state.model.layers] == ["flatten", "dense"]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nothing, "got model: expected a built keras.Model .*got None"),
        (lambda shape, *rest: dense(shape, 5, *rest[1:]), "got model: expected 2 outputs"),
        (lambda shape, *rest: dense((9, 9, 1), *rest), r"got model: expected input shape"),
    ],
)
def test_networks_that_do_not_fit_are_refused(network, message):
    register_network("odd", network)
    with pytest.raises(ValueError, match=f"network: expected one that fits from 'odd', {message}"):
        ActiveExplorationEnv(**SHRUNK, network="odd").reset(seed=0)
