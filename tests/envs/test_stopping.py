"""Episodes that end before the pool runs out, and rules that would never end one."""

import numpy as np
import pytest

from emoc_tf import SKIP, ExplorationConfig, ImageData
from emoc_tf.envs import ActiveExplorationEnv
from tests.exploration import tasks


class Skipping:
    """Knows nothing, or after some questions nothing any more."""

    def __init__(self, answers=0, word=SKIP):
        self.answers, self.word = answers, word

    def label(self, indices, images):
        self.answers -= 1
        return [0 if self.answers >= 0 else self.word] * len(indices)


def drawn():
    rng = np.random.default_rng(0)
    return ImageData(rng.integers(256, size=(40, 1, 1, 2), dtype=np.uint8), np.arange(40) % 4,
                     tuple("abcd"))  # fmt: skip


def make(kind, oracle, **changes):
    if kind == "task":
        config = tasks.config(**changes)
        return ActiveExplorationEnv(
            config, task=tasks.task([0, 1] + [-1] * 11), model=tasks.model(2), oracle=oracle
        )
    settings = {"known_classes": 2, "novel_classes": 1, "initial_per_class": 3, "set_size": 2,
                "pool_per_class": 5, "pretrain_iterations": 1, "update_iterations": 1}  # fmt: skip
    config = tasks.config(**{**settings, "sampler": kind, **changes})
    return ActiveExplorationEnv(
        config, data=(drawn(), drawn()), model=tasks.model(2), oracle=oracle
    )


def steps(env):
    """Returns how many steps an episode has, and its last info."""
    env.reset(seed=0)
    for step in range(1, 200):
        *_, terminated, truncated, info = env.step(int(np.flatnonzero(env.action_masks())[0]))
        if terminated or truncated:
            assert terminated and env.over
            return step, info
    raise AssertionError("it does not end")


@pytest.mark.parametrize("kind", ["task", "single_class", "uniform", "cluster", "top"])
@pytest.mark.parametrize("word", [SKIP, None, float("nan")])
def test_an_oracle_that_always_skips_comes_to_an_end(kind, word):
    """Where a class has an odd image, which is in no set, too."""
    count, info = steps(make(kind, Skipping(word=word)))
    assert 5 <= count <= 30
    assert "skipped" in info["stopped"]


@pytest.mark.parametrize("kind", ["task", "uniform"])
@pytest.mark.parametrize("answers", [1, 3])
def test_who_skips_after_some_answers_is_asked_about_all_once_more(kind, answers):
    env = make(kind, Skipping(answers))
    count, info = steps(env)
    assert count > answers + 2
    assert "skipped" in info["stopped"]
    exploration, choice = env.exploration, int(np.flatnonzero(env.action_masks())[0])
    env.exploration._oracle.answers = 1
    assert exploration.advance(choice).stopped is None  # one can go on
    assert not env.over
    env.step(int(np.flatnonzero(env.action_masks())[0]))


def test_who_skips_at_first_only_is_asked_to_the_end():
    class Late(Skipping):
        def label(self, indices, images):
            self.answers += 1
            return [SKIP if self.answers < 4 else 0] * len(indices)

    env = make("task", Late())
    _, info = steps(env)
    assert "stopped" not in info
    assert env.exploration.finished


@pytest.mark.parametrize("rule", ["right=13", "no_new=40", "right=1,no_new=13"])
@pytest.mark.parametrize("kind", ["task", "uniform", "single_class"])
def test_more_sets_in_a_row_than_steps_are_refused(rule, kind):
    with pytest.raises(ValueError, match=r"^stop_when: expected .* of at most \d+ sets in a row, "):
        make(kind, None if kind != "task" else Skipping(), max_steps=12, stop_when=rule)
    if kind != "task":  # 15 images in sets of 2
        most = {"uniform": 7, "single_class": 6}[kind]
        with pytest.raises(ValueError, match=f"at most {most} sets"):
            make(kind, None, stop_when=f"right={most + 1}")
        assert make(kind, None, stop_when=f"right={most}")


@pytest.mark.parametrize("rule", ["audit=0.9", "audit=0.9,no_new=2"])
def test_an_audit_rule_without_an_audit_is_refused_before_data_are_looked_for(rule):
    config = ExplorationConfig(dataset="cifar100", data_dir="/nowhere", stop_when=rule)
    with pytest.raises(ValueError, match=r"^stop_when: expected audit=0.9 beside images"):
        ActiveExplorationEnv(config)
