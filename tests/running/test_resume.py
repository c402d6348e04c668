"""A run that was stopped anywhere ends with the records of one that never was."""

import json
import random
import shutil

import numpy as np
import pytest

from emoc_tf import agents
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.models.learner import Learner
from emoc_tf.records import run_folder
from emoc_tf.running import attempts, single_run
from emoc_tf.running.grid import failure_summary
from emoc_tf.storage import checkpoint
from emoc_tf.storage.provenance import environment
from tests.running.attempts import assert_tidy, attempt
from tests.running.soak import FLAGS, records, soak


class Killed(BaseException):
    """In place of the end of the process."""


def stop_at(monkeypatch, owner, name, count):
    """Makes the n-th call of a function the last; returns the calls so far."""
    original, calls = getattr(owner, name), []

    def call(*arguments, **settings):
        calls.append(name)
        if len(calls) == count:
            raise Killed
        return original(*arguments, **settings)

    monkeypatch.setattr(owner, name, call)
    return calls


def stopped(world, folder, monkeypatch, owner, name, count):
    """A run that stops at the n-th call; returns whether there was one."""
    with monkeypatch.context() as patch:
        calls = stop_at(patch, owner, name, count)
        try:
            assert attempt(world, folder).error is None
        except Killed:
            assert len(calls) == count
            return True
    return False


def test_stopped_at_any_call_a_run_goes_on_as_if_it_had_not_been(
    world, whole, tmp_path, monkeypatch
):
    """What a killed process would leave is copied before each call that changes it."""
    monkeypatch.setattr(single_run, "WORTH_SAVING", -1)  # every choice is saved
    left = []
    with monkeypatch.context() as patch:
        for owner, name in (
            (checkpoint.Checkpoint, "write"),
            (run_folder.RunFolder, "finish"),
            (checkpoint, "remove_generations"),
        ):
            original = getattr(owner, name)

            def call(*arguments, original=original, name=name):
                left.append(tmp_path / f"{len(left)}_{name}")
                shutil.copytree(tmp_path / "run", left[-1])
                return original(*arguments)

            patch.setattr(owner, name, call)
        assert attempt(world, tmp_path / "run").error is None
    assert [folder.name.partition("_")[2] for folder in left] == [
        *["write"] * 7, "finish", "remove_generations",
    ]  # fmt: skip
    for folder in left:
        assert attempt(world, folder).error is None
        assert records(folder) == whole, folder.name
        assert_tidy(folder / "1-vs-2" / "3")


@pytest.mark.parametrize("agent", ["max", "emoc:references=4"])
def test_sets_that_the_policy_scored_are_the_same_again(world, tmp_path, monkeypatch, agent):
    """Sets of `top` are the policy's own: they are drawn anew when a run is resumed."""
    config = world[0].replace(sampler="top")
    world = config, ActiveExplorationEnv(config)
    folders = [tmp_path / name for name in ("whole", "stopped", "other")]
    assert attempt(world, folders[0], agent).error is None
    with monkeypatch.context() as patch:
        stop_at(patch, Learner, "train", 3)
        with pytest.raises(Killed):
            attempt(world, folders[1], agent)
    assert attempt(world, folders[1], agent).error is None
    with monkeypatch.context() as patch:
        patch.setattr(type(agents.make(agent)), "score_images", None)
        assert attempt(world, folders[2], agent).error is None
    left = [next(folder.glob("*/3/steps.csv")).read_text() for folder in folders]
    assert left[0] == left[1] != left[2]


def test_nothing_is_done_again_that_was_saved(world, whole, tmp_path, monkeypatch):
    """Neither updates nor choices: both may take minutes."""
    monkeypatch.setattr(single_run, "WORTH_SAVING", -1)
    # Saved are: the start, and for each step the choice and the end.
    assert stopped(world, tmp_path, monkeypatch, checkpoint.Checkpoint, "write", 5)
    trained, chosen = [], []
    original = Learner.train
    monkeypatch.setattr(
        Learner, "train", lambda self, *a, **k: (trained.append(1), original(self, *a, **k))
    )
    from emoc_tf.agents import heuristics

    score = heuristics.MarginAgent.score
    monkeypatch.setattr(
        heuristics.MarginAgent, "score", lambda self, s: (chosen.append(s.step), score(self, s))[1]
    )
    assert attempt(world, tmp_path).error is None
    assert len(trained) == 2  # the second update, whose choice was saved, and the third
    assert chosen == [2]
    assert records(tmp_path) == whole


def test_finished_runs_leave_records_only(world, tmp_path):
    assert attempt(world, tmp_path).error is None
    assert_tidy(tmp_path / "1-vs-2" / "3")
    assert {file.name for file in (tmp_path / "shared" / "3").iterdir()} == {"pretrained.npz"}
    stamps = {file: file.stat().st_mtime_ns for file in tmp_path.glob("1-vs-2/3/*.*")}
    assert attempt(world, tmp_path).error is None  # as if another process had just finished it
    assert {file: file.stat().st_mtime_ns for file in stamps} == stamps


@pytest.fixture(scope="module")
def half_done(world, tmp_path_factory):
    """A folder with a run that was stopped in its second step."""
    folder = tmp_path_factory.mktemp("half")
    with pytest.MonkeyPatch.context() as patch:
        assert stopped(world, folder, patch, Learner, "train", 3)
    return folder


@pytest.fixture
def half(half_done, tmp_path):
    """A copy of it, to be changed."""
    shutil.copytree(half_done, tmp_path, dirs_exist_ok=True)
    return tmp_path / "1-vs-2" / "3"


def test_the_records_are_made_again_from_the_checkpoint(world, whole, half):
    for name, change in (
        ("steps.csv", lambda text: text + "2,14,0."),
        ("recalls.csv", lambda text: "no table at all"),
        ("timings.csv", lambda text: ""),
    ):
        (half / name).write_text(change((half / name).read_text()))
    (half / ".steps.csv.12345").write_text("what a killed process left")
    assert attempt(world, half.parents[1]).error is None
    assert records(half.parents[1]) == whole
    assert not (half / ".steps.csv.12345").exists()
    timings = (half / "timings.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in timings] == ["step", "0", "1", "2", "3"]
    assert all(line.split(",")[1] for line in timings[2:])  # seconds of each choice


@pytest.mark.parametrize("kind", ["cut short", "flipped", "gone"])
def test_the_checkpoint_before_is_used_if_the_newest_is_broken(world, whole, half, kind):
    newest = half / "checkpoint.npz"
    content = bytearray(newest.read_bytes())
    if kind == "gone":  # the process was killed between two renamings
        newest.unlink()
    else:
        content[len(content) // 2] ^= 16
        newest.write_bytes(content[: len(content) // 3] if kind == "cut short" else content)
    assert attempt(world, half.parents[1]).error is None
    assert records(half.parents[1]) == whole
    assert (half / "checkpoint.npz.broken").exists() == (kind != "gone")


def test_two_broken_checkpoints_are_told_and_kept(world, half):
    for name in ("checkpoint.npz", "checkpoint.previous.npz"):
        (half / name).write_bytes(b"nothing of the kind")
    steps = (half / "steps.csv").read_bytes()
    error = attempt(world, half.parents[1]).error
    assert "checkpoint.npz: expected a whole .npz file" in error
    assert (
        f"no other checkpoint is left; move {half / 'checkpoint.npz'} and checkpoint.prev" in error
    )
    assert error.endswith("away and the run starts over")
    assert (half / "checkpoint.npz").read_bytes() == b"nothing of the kind"
    assert (half / "steps.csv").read_bytes() == steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "expected a checkpoint of format 1, got format 2: written by another"),
        ({"run": {"identity": {"agent": "emoc", "seed": 3}}}, "expected a checkpoint of {'agent'"),
        ({"configuration": {"momentum": 0.5}}, "checkpoint: expected one of this configuration"),
        ({"outcomes": []}, "checkpoint: expected one that save returned"),
        ({"run": {"classes": None}}, "checkpoint: TypeError: "),
    ],
)
def test_checkpoints_of_something_else_are_refused(world, half, change, message):
    for path in (half / "checkpoint.npz", half / "checkpoint.previous.npz"):
        found = checkpoint.Checkpoint.read(path)
        header = found.header
        for key, value in change.items():
            header[key] = header[key] | value if isinstance(value, dict) else value
        checkpoint.Checkpoint(header, found.arrays).write(path)
    steps = (half / "steps.csv").read_bytes()
    error = attempt(world, half.parents[1]).error
    assert message in error
    assert error.endswith("away and the run starts over")
    assert str(half) in error
    assert (half / "steps.csv").read_bytes() == steps


def test_weights_that_do_not_give_the_records_are_refused(world, half):
    path = half / "checkpoint.npz"
    found = checkpoint.Checkpoint.read(path)
    arrays = found.arrays | {"variable_0": -found.arrays["variable_0"]}
    checkpoint.Checkpoint(found.header, arrays).write(path)
    assert (
        "expected weights that give the recorded outcome" in attempt(world, half.parents[1]).error
    )


def test_another_place_is_refused_or_marked(world, whole, half, monkeypatch):
    config_file = half / "config.json"
    content = json.loads(config_file.read_text())
    config_file.write_text(json.dumps(content | {"cpu": "Another", "commit": "does not count"}))
    error = attempt(world, half.parents[1]).error
    assert "expected to resume" in error
    assert "cpu Another there, " in error
    assert "commit" not in error
    assert "--allow_mixed resumes and marks the run as mixed" in error
    assert (half / "checkpoint.npz").exists()
    assert attempt(world, half.parents[1], allow_mixed=True).error is None
    assert json.loads(config_file.read_text())["mixed"] == [environment()]
    steps = "1-vs-2/3/steps.csv"
    assert records(half.parents[1])[f"/{steps}"] == whole[f"/{steps}"]


def test_going_back_to_the_first_place_needs_no_flag(world, half, monkeypatch):
    """Although another machine wrote last, whose bits are not compared with."""
    path = half / "checkpoint.npz"
    found = checkpoint.Checkpoint.read(path)
    found.header["run"]["environment"]["cpu"] = "Another"
    arrays = found.arrays | {"variable_0": found.arrays["variable_0"] * 1.5}
    checkpoint.Checkpoint(found.header, arrays).write(path)
    assert attempt(world, half.parents[1]).error is None
    assert "mixed" not in json.loads((half / "config.json").read_text())


def test_a_run_of_another_configuration_is_refused(world, half):
    content = json.loads((half / "config.json").read_text())
    content["configuration"]["momentum"] = 0.5
    (half / "config.json").write_text(json.dumps(content))
    error = attempt(world, half.parents[1]).error
    assert "expected a run of this configuration" in error
    assert "momentum=0.5 there, 0.9 here" in error


def test_a_policy_that_vanishes_hinders_no_other(world, tmp_path):
    result = attempt(world, tmp_path, agent="learned:path=nowhere.keras")
    assert "path: expected a .keras file" in result.error
    told = failure_summary(
        single_run.Grid(world[0], tmp_path), {("learned:path=nowhere.keras", 3): result.error}
    )
    assert "has more" not in told  # there is no folder to record it in
    grid = single_run.Grid(world[0], tmp_path)
    lost = attempts.Result.lost(("learned:path=nowhere.keras", 0), "?", grid)
    assert lost.error == "its process died twice (?)"


def test_pretrained_weights_of_another_place_are_refused_or_taken(world, half):
    path = half.parents[1] / "shared" / "3" / "pretrained.npz"
    arrays = checkpoint.read_arrays(path)
    arrays["environment"] = np.array(json.dumps({"cpu": "Another"}))
    checkpoint.write_arrays(path, arrays)
    error = attempt(world, half.parents[1], agent="random").error
    assert "expected pretrained weights that were made here" in error
    assert "delete it and it is made again" in error
    assert attempt(world, half.parents[1], agent="random", allow_mixed=True).error is None
    config = json.loads((half.parents[1] / "random/3/config.json").read_text())
    assert config["mixed"] == [{"cpu": "Another"}]
    path.write_bytes(path.read_bytes()[:-100])
    assert "delete it and it is made again" in attempt(world, half.parents[1], agent="min").error


def test_a_kill_leaves_no_trace():
    """SIGKILL at a random moment of a process; `make soak` kills more."""
    seed, lines = random.randrange(10**6), []
    flags = [*FLAGS, "--steps=3", "--set_size=2", "--agent=emoc:references=8", "--novel_classes=1"]
    kinds = soak(flags, 1, random.Random(seed), lines.append)
    assert kinds.total() == 1, (seed, lines)
