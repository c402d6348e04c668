"""The library's own networks are float32 and channels last, whatever Keras is set to."""

import json

import numpy as np
import pytest

from tests.processes import run_each

SCRIPT = """
import json
import keras
SETTINGS
import numpy as np
from emoc_tf import ExplorationConfig, agents
from emoc_tf.agents import learned, policy_gradient
from emoc_tf.envs import ActiveExplorationEnv

found = {}
for network, rate, names in (("small_cnn", 0.02, "emoc learned"), ("cifar10_quick", 1e-3, "min")):
    env = ActiveExplorationEnv(ExplorationConfig(
        known_classes=2, novel_classes=2, initial_per_class=4, pool_per_class=4, set_size=2,
        num_candidate_sets=8, pretrain_iterations=20, update_iterations=4, batch_size=4,
        network=network, learning_rate=rate, max_steps=3,
    ))
    observation, _ = env.reset(seed=2)
    choices = []
    for name in names.split():
        choices.append(agents.make(name, seed=0).act(observation, env.state))
        observation, *_ = env.step(choices[-1])
    weights = [float(np.abs(w).sum(dtype=np.float64)) for w in env.state.model.get_weights()]
    found[network] = [choices, weights]
    assert {v.dtype for v in env.state.model.variables} == {"float32"}
network = learned.build_network(5, seed=0)
learner = policy_gradient.PolicyLearner(network)
inputs = np.random.default_rng(0).normal(size=(6, 8, 5)).astype(np.float32)
masks = np.ones((6, 8), bool)
episode = policy_gradient.Trajectory(inputs, masks, np.arange(6), np.arange(6.0), {})
other = policy_gradient.Trajectory(inputs, masks, np.arange(6)[::-1], np.arange(6.0) / 2, {})
learner.imitate([episode], passes=5)
learner.reinforce([[episode, other]])
found["policy"] = [float(np.abs(w).sum(dtype=np.float64)) for w in network.get_weights()]
print(json.dumps(found))
"""


SETTINGS = [
    "set_dtype_policy('mixed_float16'); keras.config.set_image_data_format('channels_first')",
    "set_floatx('float64')",
    "set_floatx('float16')",
]


@pytest.fixture(scope="module")
def found():
    """What processes compute under each of these settings, and under those of Keras itself."""
    codes = {each: SCRIPT.replace("SETTINGS", f"keras.config.{each}") for each in SETTINGS}
    codes["plain"] = SCRIPT.replace("SETTINGS", "")
    ended = run_each(codes)
    for each in ended.values():
        assert each.returncode == 0, each.stderr[-2000:]
    return {name: json.loads(each.stdout.splitlines()[-1]) for name, each in ended.items()}


@pytest.mark.parametrize("settings", SETTINGS)
def test_settings_of_keras_change_no_bit(found, settings):
    here, expected = dict(found[settings]), dict(found["plain"])
    if "float16" in settings and "mixed" not in settings:  # Adam's own numbers are of this type
        assert np.isfinite(here.pop("policy")).all()
        del expected["policy"]
    assert here == expected
