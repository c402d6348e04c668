"""A grid on Ray as far as no cluster is needed; tests/ray has the rest."""

import os
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from emoc_tf.running.attempts import Result
from emoc_tf.running.grid import run_grid
from emoc_tf.running.pools import on_ray, ray_task
from emoc_tf.running.pools.machines import At
from emoc_tf.running.pools.on_ray import DIED, FAILED, OnRay
from emoc_tf.running.pools.pool import Work
from emoc_tf.running.single_run import Grid
from tests import processes
from tests.running.test_grid import CONFIG

FLAGS = """
import sys
from absl import flags
from emoc_tf.experiments import flags as shared
POOL = shared.pool()
assert not any(name == "ray" or name.startswith("ray.") for name in sys.modules)
for given in (
    ["--workers=2"], ["--ray=local", "--workers=2"], ["--cpus_per_run=2"], ["--gpus_per_run=1"],
    ["--ray_storage=objects"], ["--ray=auto", "--gpus_per_run=1.5"], ["--ray=auto"],
):
    flags.FLAGS.unparse_flags()
    for name in ("workers", "ray", "cpus_per_run", "gpus_per_run", "ray_storage"):
        flags.FLAGS[name].unparse()
    flags.FLAGS(["x", *given])
    try:
        print(type(POOL()).__name__)
    except ValueError as error:
        print(error)
assert "ray" not in sys.modules
"""


def test_flags_make_the_pool_and_ray_is_not_loaded_before_it_is_needed():
    result = processes.run("-c", FLAGS)
    lines = result.stdout.splitlines()
    starts = [
        "Processes", "workers: expected none beside --ray", "cpus_per_run: expected beside --ray",
        "gpus_per_run: expected beside", "ray_storage: expected beside",
        "gpus_per_run: expected a part of one GPU or a whole number", "OnRay",
    ]  # fmt: skip
    assert len(lines) == len(starts), result.stderr
    for line, start in zip(lines, starts, strict=True):
        assert line.startswith(start)


def test_without_ray_grids_run_and_only_ray_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    grid = Grid(CONFIG, tmp_path / "here")
    assert not run_grid(grid, ["random"], [0], Console(quiet=True))
    with pytest.raises(ValueError, match=r"pip install 'emoc_tf\[ray\]'"):
        run_grid(
            Grid(CONFIG, tmp_path / "there"), ["random"], [0], Console(quiet=True),
            pool=OnRay("local"),
        )  # fmt: skip
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"cpus": 0}, "cpus_per_run: expected an integer of at least 1, got 0"),
        ({"gpus": -1}, "gpus_per_run: expected a part"),
        ({"storage": "s3"}, "ray_storage: expected files or objects, got 's3'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, told):
    with pytest.raises(ValueError, match=told):
        OnRay("local", **settings)


class Tasks:
    """Tasks of a cluster whose events are known before."""

    def __init__(self, script, machines):
        self.script, self.flying, self.closed = script, {}, False
        self.machines = machines

    def begin(self, item):
        told = self.script[item]
        if told and isinstance(told[0], Result | None):
            return told.pop(0)
        self.flying[item] = item
        self.machines.arrive(item, At("here", "host"))
        return True

    def events(self):
        for item in list(self.flying):
            event = self.script[item].pop(0)
            if event[0] not in (ray_task.LINE, ray_task.STEP):
                del self.flying[item]
            yield item, event

    def close(self):
        self.closed = True


WORK = Work(
    here=None, serve=None, lost=lambda item, cause: f"lost: {cause}",
    failed=lambda item, error: f"failed: {error}",
)  # fmt: skip
KILLED, STEP, DONE = (DIED, "killed"), (ray_task.STEP, None), (ray_task.RESULT, "done")


def run(monkeypatch, **script):
    deaths, pool = [], OnRay("local")
    tasks = Tasks(script, pool._machines)
    pool._connection = SimpleNamespace(nodes=lambda *_: [SimpleNamespace(id="here")])
    monkeypatch.setattr(on_ray, "_Tasks", lambda *_: tasks)
    try:
        return dict(pool.run(WORK, list(script), lambda *told: deaths.append(told))), deaths
    finally:
        assert tasks.closed


def test_an_item_is_given_up_when_its_process_dies_again_without_a_step_in_between(monkeypatch):
    results, deaths = run(
        monkeypatch,
        always=[KILLED, KILLED],
        once=[KILLED, DONE],
        slowly=[STEP, KILLED, STEP, KILLED, STEP, STEP, KILLED, DONE],
        talking=[(ray_task.LINE, "a"), KILLED, (ray_task.LINE, "a"), KILLED],
        fine=[STEP, DONE],
    )
    assert results == {
        "always": "lost: killed", "once": "done", "slowly": "done", "talking": "lost: killed",
        "fine": "done",
    }  # fmt: skip
    assert sorted(item for item, _ in deaths) == ["always", "once", *["slowly"] * 3, "talking"]


def test_what_waits_begins_later_and_what_has_ended_does_not_begin(monkeypatch, capsys):
    results, _ = run(
        monkeypatch,
        waits=[None, None, (ray_task.LINE, "a line"), DONE],
        ended=[Result(busy=True)],
        full=[STEP, (FAILED, OSError("no space"))],
    )
    assert results == {"waits": "done", "ended": Result(busy=True), "full": "failed: no space"}
    assert capsys.readouterr().out == "a line\n"


def test_an_error_of_one_item_ends_no_other(monkeypatch):
    error = ray_task.ERROR, ValueError("cannot be sent")
    results, _ = run(monkeypatch, one=[error], two=[*[STEP] * 9, DONE])
    assert results == {"one": "failed: cannot be sent", "two": "done"}


SAME = {"versions": {"keras": "1"}, "source": "s"}


@pytest.mark.parametrize("own", [None, "/its/own"])
def test_data_sets_are_looked_for_where_the_command_does_unless_a_machine_has_its_own_place(
    monkeypatch, tmp_path, own
):
    monkeypatch.setattr(on_ray.processes, "check", lambda *_, **told: SAME)
    monkeypatch.setattr(ray_task.processes, "prepare", lambda threads: None)
    monkeypatch.setattr(ray_task.processes, "place_here", lambda: SAME)
    monkeypatch.setenv("TFDS_DATA_DIR", "/data")
    pool = OnRay("local")
    pool._connection = SimpleNamespace(nodes=lambda *_: [])
    pool.place(tmp_path, False)
    monkeypatch.delenv("TFDS_DATA_DIR") if own is None else monkeypatch.setenv("TFDS_DATA_DIR", own)
    monkeypatch.setattr(sys, "path", [*sys.path])
    ray_task._begin(pool._setting)
    assert os.environ["TFDS_DATA_DIR"] == (own or "/data")


def test_machines_are_asked_once_for_all_values_of_a_setting(monkeypatch, tmp_path):
    pool, asked = OnRay("local"), []
    pool._connection = SimpleNamespace(nodes=lambda *_: [])
    monkeypatch.setattr(
        on_ray.processes, "check", lambda *_, **told: asked.append(told) or {"cpu": "A"}
    )
    for value in ("one", "two"):  # a wrong machine that came meanwhile is met as runs begin
        assert pool.place(tmp_path / value, False) == {"cpu": "A"}
        assert pool._seen.parent == tmp_path / value
        assert (tmp_path / value).is_dir()
    assert len(asked) == 1
    pool.place(tmp_path, True)
    assert [told["allow_mixed"] for told in asked] == [False, True]


def test_what_a_killed_command_left_in_the_folder_is_removed_and_nothing_of_one_that_lives(
    monkeypatch, tmp_path
):
    monkeypatch.setattr(on_ray.processes, "check", lambda *_, **told: {"cpu": "A"})
    pools = [OnRay("local") for _ in range(2)]
    for pool in pools:
        pool._connection = SimpleNamespace(nodes=lambda *_: [])
        pool.place(tmp_path, False)
    (tmp_path / ".seen.77-0123abcd").touch()
    with pools[0]._shown() as first, pools[1]._shown() as second:
        assert {file.name for file in tmp_path.iterdir()} == {first.name, second.name}
    assert not list(tmp_path.iterdir())


def test_when_no_machine_is_left_those_that_were_left_out_are_named(caplog):
    pool = OnRay("local")
    pool._connection = SimpleNamespace(nodes=lambda *_: [SimpleNamespace(id="abcdef0123")])
    pool._machines.arrive("item", At("abcdef0123", "machine7"))
    assert pool._look() < float("inf")
    pool._machines.leave_out("item", "another processor")
    caplog.clear()
    assert pool._look() == float("inf")
    (line,) = caplog.messages
    assert "to runs any more (left out: machine7 (node abcdef01): another processor): wait" in line
