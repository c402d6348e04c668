"""The yardstick: sets learnt under their true labels, and who chose which."""

import csv
import json
import re
import shutil

import numpy as np
import pytest

from emoc_tf import ExplorationConfig, agents
from emoc_tf.agents.agent import Agent
from emoc_tf.analysis.headroom import CHANCE, COLUMNS
from emoc_tf.data import named
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.experiments import headroom
from emoc_tf.experiments.headroom import Plan
from emoc_tf.running.relearning import Start, classes_of_test_images
from tests import processes

CONFIG = ExplorationConfig(
    known_classes=2, novel_classes=2, initial_per_class=4, pool_per_class=6, num_candidate_sets=8,
    set_size=3, pretrain_iterations=20, update_iterations=5, batch_size=8,
)  # fmt: skip
PLAN = Plan(CONFIG, "random", ("random", "min"), (0, 2), 4, 2)


@pytest.fixture(scope="module")
def data():
    return named.load("digits")


def test_states_are_those_of_a_run_of_the_driver(data):
    seen = []
    for env in headroom.driven(PLAN, data, 3, [0, 2]):
        seen.append((env.state.step, env.state.pool.labels.copy(), env.outcome.test_accuracy))
    env, driver = ActiveExplorationEnv(CONFIG, data=data), agents.make("random", seed=3)
    observation, _ = env.reset(seed=3)
    np.testing.assert_array_equal(seen[0][1], env.state.pool.labels)
    for _ in range(2):
        observation, *_ = env.step(driver.act(observation, env.state))
    assert [step for step, *_ in seen] == [0, 2]
    np.testing.assert_array_equal(seen[1][1], env.state.pool.labels)
    assert seen[1][2] == env.outcome.test_accuracy


class Fixed(Agent):
    """Wants an image, which stands in the observation's order of sets too."""

    def __init__(self, seed=0, *, image=0):
        super().__init__(seed)
        self._image = image

    def act(self, observation, state):
        assert len(observation["set_features"]) == len(state.candidates)
        (found,) = np.flatnonzero((state.candidates == self._image).any(axis=1))[:1]
        return int(found)


def test_policies_choose_among_the_sets_that_are_learnt(data):
    (env,) = headroom.driven(PLAN, data, 3, [0])
    sets = np.array([5, 2, 7])
    wanted = next(int(i) for i in env.state.candidates[7] if i not in env.state.candidates[[5, 2]])
    lowest = agents.make("min").score(env.state)
    found = headroom.choices(env, sets, {"fixed": Fixed(image=wanted), "min": agents.make("min")})
    assert found["fixed"] == 7
    assert lowest[found["min"]] == lowest[sets].max()


@pytest.mark.parametrize("update", [0, 1])
def test_a_policy_that_knows_the_gains_takes_all_of_the_headroom(data, update, tmp_path):
    """One that chooses the best has share 1 where both halves agree; its rank is 1 anyway."""
    plan = Plan(CONFIG, "random", ("random", "min"), (0,), 6, 6)
    (env,) = headroom.driven(plan, data, 3, [0])
    policies = {name: agents.make(name, seed=3) for name in plan.agents}
    rows = list(headroom.examine(plan, data, env, 3, np.empty((0, 11)), policies))
    rows = [row for row in rows if row["update"] == update]
    assert len(rows) == 6
    gains = np.array([row["first_gain"] + row["second_gain"] for row in rows])
    if update:  # as the episode itself goes on
        row = rows[int(gains.argmax())]
        control = Start.at(CONFIG, data, env.exploration).right(None)
        env.step(row["set"])
        first = headroom.halves(classes_of_test_images(env.exploration), 3)
        gained = [row["first_gain"] * first.sum(), row["second_gain"] * (~first).sum()]
        accuracy = env.outcome.test_accuracy
        assert sum(gained) / len(first) == pytest.approx(accuracy - control.mean())
    assert sum(row["min"] for row in rows) == sum(row["random"] for row in rows) == 1
    assert {row["novel_share"] for row in rows} == {0.0, 1.0}
    lines = [",".join([*COLUMNS, "best"])]
    for row, gain in zip(rows, gains, strict=True):
        row |= {"best": int(gain == gains.max()), "first_gain": gain, "second_gain": gain}
        lines.append(",".join(str(row[name]) for name in [*COLUMNS, "best"]))
    (tmp_path / "sets.csv").write_text("\n".join([*lines, ""]))
    shares = {row.agent: row for row in headroom.headroom.read(tmp_path / "sets.csv")}
    assert shares[CHANCE].share == pytest.approx(0)
    if np.ptp(gains):
        assert shares["best"].share == pytest.approx(1)
    assert shares["best"].gain == pytest.approx(gains.max())


def test_halves_have_half_of_each_class():
    classes = np.random.default_rng(0).integers(5, size=101)
    first = headroom.halves(classes, 3)
    assert first.sum() == 51
    for c in range(5):
        assert abs(2 * first[classes == c].sum() - (classes == c).sum()) <= 1
    np.testing.assert_array_equal(first, headroom.halves(classes, 3))
    assert (first != headroom.halves(classes, 4)).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": (0, 8)}, "at_steps: expected steps below 8"),
        ({"steps": (1, 1)}, "at_steps: expected distinct"),
        ({"update_sets": 1}, "update_sets: expected 0, or from 2 to 4"),
        ({"update_sets": 5}, "update_sets: expected 0, or from 2 to 4, the number of sets, got 5"),
        ({"agents": ("min", "nobody")}, "agent: expected one of"),
        ({"agents": ("min", "min")}, "agents: expected distinct"),
        ({"driver": "nobody"}, "agent: expected one of"),
        ({"config": CONFIG.replace(weight_decay=0)}, "weight_decay: expected a number above 0"),
        ({"config": CONFIG.replace(pseudo_labels=0.1)}, "pseudo_labels: expected none"),
    ],
)
def test_what_cannot_be_done_is_told_before_any_work(changes, message):
    with pytest.raises(ValueError, match=message):
        Plan(**{**vars(PLAN), **changes})


def test_an_episode_that_ends_early_is_told(data):
    plan = Plan(CONFIG.replace(stop_when="no_new=1"), "min", ("min",), (7,), 2, 0)
    with pytest.raises(ValueError, match=r"at_steps: .* before the end .* got 7, but .* seed 3"):
        list(headroom.driven(plan, data, 3, [7]))


def run(folder, *arguments):
    return processes.run(
        "-m", "emoc_tf.experiments.headroom", "--known_classes=2",
        "--novel_classes=2", "--initial_per_class=4", "--pool_per_class=6", "--set_size=3",
        "--num_candidate_sets=8", "--pretrain_iterations=20", "--update_iterations=5",
        "--batch_size=8", "--sets_per_state=4", "--update_sets=2", "--at_steps=0,2",
        "--agents=random,emoc,min", "--seeds=0,1", f"--output_dir={folder}", *arguments,
    )  # fmt: skip


def test_the_binary_resumes_where_it_was_stopped(tmp_path):
    folder = tmp_path / "out"
    result = run(folder)
    assert result.returncode == 0, result.stderr
    assert "best of the sets" in result.stdout
    file = folder / "sets.csv"
    text = file.read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert len(rows) == 2 * 2 * (4 + 2)
    told = json.loads((folder / "config.json").read_text())
    assert (told["driver"], told["agents"]) == ("random", ["random", "emoc", "min"])
    shares = list(csv.DictReader((folder / "headroom.csv").read_text().splitlines()))
    assert len(shares) == 2 * (3 + 3)
    for name in ("headroom.png", "headroom.svg"):
        assert (folder / name).stat().st_size > 1000
    # Stopped in the last layer of one state, and in the update of another.
    lines = text.splitlines(keepends=True)
    for cut in (9, 18):
        copy = shutil.copytree(folder, tmp_path / f"cut{cut}")
        (copy / "sets.csv").write_text("".join(lines[:cut]) + lines[cut][:7])
        again = run(copy)
        assert again.returncode == 0, again.stderr
        assert len(re.findall("^seed ", again.stdout, re.M)) == len(lines) - cut
        assert (copy / "sets.csv").read_text() == text
        assert (copy / "headroom.csv").read_text() == (folder / "headroom.csv").read_text()
    other = run(folder, "--driver=min", "--sets_per_state=3")
    assert other.returncode == 1
    assert "differs in ['driver', 'sets']" in other.stderr
    assert file.read_text() == text


def test_what_is_left_to_do():
    def rows(seed, step, update, sets, there):
        made = np.zeros((there, len(COLUMNS)))
        made[:, :4] = seed, step, update, sets
        return made

    plan = Plan(CONFIG, "random", ("min",), (0, 2, 4), 4, 2)
    there = np.concatenate([
        rows(0, 0, 0, 4, 4), rows(0, 0, 1, 2, 2), rows(0, 2, 0, 4, 4), rows(0, 2, 1, 2, 1),
        rows(0, 4, 0, 3, 3), rows(0, 4, 1, 2, 2), rows(1, 0, 0, 4, 3),
    ])  # fmt: skip
    assert headroom.left(plan, there, 0) == [2]
    assert headroom.left(plan, there, 1) == headroom.left(plan, there, 2) == [0, 2, 4]
