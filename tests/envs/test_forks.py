"""Forked processes; each case in a process of its own, with a limit of time."""

import pytest

from tests.processes import run_each

START = """
import multiprocessing, warnings
warnings.simplefilter("ignore")
import gymnasium as gym
import keras
import emoc_tf
from tests.envs.test_active_exploration import SHRUNK, make
NAME = "emoc_tf/Digits-v0"

def model():
    return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])

def expect(call):
    try:
        call()
    except Exception as error:
        assert 'context": "spawn"' in str(error), repr(error)
        print("refused")

def refused_in_a_child(*calls):
    queue = multiprocessing.get_context("fork").Queue()
    def work():
        for call in calls:
            try:
                call()
            except RuntimeError as error:
                queue.put(str(error))
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    texts = [queue.get(timeout=60) for _ in calls]
    process.join()
    assert all('context": "spawn"' in text for text in texts), texts
    print("refused")
"""
CASES = {
    "an episode, then a vector": """
make().reset(seed=0)
envs = gym.make_vec(NAME, 2, "async", **SHRUNK)
expect(lambda: envs.reset(seed=0))
envs.close(terminate=True)
""",
    "a model of your own, then a vector": """
own = model()
own(keras.ops.zeros((1, 8, 8, 1)))
envs = gym.make_vec(NAME, 2, "async", vector_kwargs={"context": "fork"}, model=own, **SHRUNK)
expect(lambda: envs.reset(seed=0))
envs.close(terminate=True)
""",
    "scores and a loop without Gymnasium": """
import numpy as np
from emoc_tf import ExplorationConfig
from emoc_tf.exploration import Exploration
from emoc_tf.scoring import EMOCScorer, reference
own, images = model(), np.ones((2, 8, 8, 1))
scorer = EMOCScorer(own)
scorer.scores(images, images)
loop = Exploration(make().config)
loop.reset(0)
refused_in_a_child(
    lambda: scorer.scores(images, images), lambda: EMOCScorer(own),
    lambda: reference.scores(own, images, images), lambda: loop.advance(0),
    lambda: loop.reset(1),
)
""",
    "an environment that is taken along": """
env = make()
env.reset(seed=0)
refused_in_a_child(lambda: env.step(0), lambda: env.reset(seed=1), lambda: env.restore(None))
""",
}


@pytest.fixture(scope="module")
def ended():
    codes = {name: START + code for name, code in CASES.items()}
    return run_each(codes)


@pytest.mark.parametrize("case", CASES)
def test_a_forked_process_is_told_what_to_do(ended, case):
    assert ended[case].stdout == "refused\n", ended[case].stderr[-2000:]
