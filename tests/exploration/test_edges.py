"""The smallest and the largest that can be asked for, with every policy."""

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, agents
from emoc_tf.data import ImageData
from emoc_tf.envs import ActiveExplorationEnv

FEW = {
    "emoc": "emoc:references=4",
    "emoc-expected": "emoc-expected:references=4:confidence=none",
    "emoc-new": "emoc-new:references=4",
}
# These trace more of the model than `emoc` does: they take part where it is asked.
COSTLY = {"emoc-new", "egl"}


def make_data(shape, classes, each, seed=0):
    rng = np.random.default_rng(seed)

    def part(count):
        labels = np.repeat(np.arange(classes), count)
        noise = rng.integers(0, 60, (len(labels), *shape))
        images = noise + (labels * 190 // max(classes - 1, 1))[:, None, None, None]
        return ImageData(images.astype(np.uint8), labels, tuple(map(str, range(classes))))

    return part(each), part(2)


BASE = ExplorationConfig(
    known_classes=1, novel_classes=1, initial_per_class=1, pool_per_class=2, set_size=1,
    num_candidate_sets=1, pretrain_iterations=2, update_iterations=2, batch_size=2,
    learning_rate=1e-3, max_steps=None,
)  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "config", "steps", "costly"),
    [
        # One known class, K = 1, M = 1, the pool is emptied.
        ((1, 1, 1), BASE, 4, True),
        # Colour; each class's last images are fewer than K.
        (
            (5, 3, 3),
            BASE.replace(known_classes=2, pool_per_class=5, set_size=3, num_candidate_sets=40),
            3,
            True,
        ),
        # The last set takes what is left of several classes.
        (
            (2, 2, 1),
            BASE.replace(novel_classes=2, set_size=2, num_candidate_sets=3, sampler="uniform"),
            3,
            False,
        ),
        ((224, 224, 3), BASE.replace(set_size=2, num_candidate_sets=2), 2, False),
        (
            (224, 224, 1),
            BASE.replace(
                known_classes=2,
                novel_classes=0,
                pool_per_class=1,
                num_candidate_sets=2,
                network="cifar10_quick",
                learning_rate=1e-6,
            ),
            2,
            False,
        ),
    ],
)
def test_every_policy_works_to_the_end_of_the_pool(shape, config, steps, costly):
    classes = config.known_classes + config.novel_classes
    env = ActiveExplorationEnv(
        config, data=make_data(shape, classes, 1 + config.pool_per_class), render_mode="rgb_array"
    )
    observation, _ = env.reset(seed=1)
    names = [FEW.get(name, name) for name in agents.names() if costly or name not in COSTLY]
    policies = [agents.make(name, seed=2) for name in names]
    terminated, taken = False, 0
    while not terminated:
        assert observation in env.observation_space
        choices = [policy.act(observation, env.state) for policy in policies]
        assert env.state.candidate_mask[choices].all()
        assert np.isfinite(env.state.probabilities).all()
        observation, reward, terminated, _, _ = env.step(choices[taken % len(choices)])
        assert np.isfinite(reward)
        taken += 1
    assert taken == steps == config.num_steps
    assert env.render().shape == (720, 1280, 3)
    left = (env.state.pool.labels < 0).sum()
    assert left == classes * config.pool_per_class - steps * config.set_size
