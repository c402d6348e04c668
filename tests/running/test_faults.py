"""Full disks, diverging training and other processes cost nothing that is done already."""

import json
import os
import threading
import time

import pytest
from rich.console import Console

from emoc_tf.analysis.findings import gather
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.records import run_folder
from emoc_tf.records.run_folder import RunFolder
from emoc_tf.running import attempts, single_run
from emoc_tf.running.grid import run_grid
from tests import processes
from tests.running.attempts import assert_tidy, attempt
from tests.running.soak import FLAGS, records


@pytest.mark.parametrize(
    ("call", "error", "lasting"),
    [
        (1, (28, "No space left on device"), False),
        (4, (28, "No space left on device"), False),
        (11, (30, "Read-only file system"), False),
        (11, (30, "Read-only file system"), True),
        (19, (5, "Input/output error"), False),
    ],
)
def test_a_disk_that_fails_loses_nothing(world, whole, tmp_path, monkeypatch, call, error, lasting):
    original, calls = os.fsync, 0

    def fsync(descriptor):
        nonlocal calls
        calls += 1
        if calls == call or (lasting and calls > call):
            raise OSError(*error, "a file")
        return original(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        said = attempt(world, tmp_path).error
    assert error[1] in said
    assert ("not recorded" in said) == lasting
    assert (tmp_path / "1-vs-2/3/failure.json").exists() == (not lasting)
    assert attempt(world, tmp_path).error is None
    assert records(tmp_path) == whole
    assert_tidy(tmp_path / "1-vs-2/3")


LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
import emoc_tf.experiments
runpy.run_module("emoc_tf.experiments.explore", run_name="__main__", alter_sys=True)
"""


def test_files_that_cannot_grow_lose_nothing(tmp_path):
    """A real limit of the system: the checkpoint does not fit, smaller files do."""
    flags = [*FLAGS, "--agent=random", "--steps=1"]
    results = [
        processes.run(*program, *flags, f"--output_dir={tmp_path / folder}")
        for folder, program in (
            ("limited", ["-c", LIMITED.replace("LIMIT)", "20000)").replace("(LIMIT", "(20000")]),
            ("limited", ["-m", "emoc_tf.experiments.explore"]),
            ("whole", ["-m", "emoc_tf.experiments.explore"]),
        )
    ]
    assert [result.returncode for result in results] == [1, 0, 0], results
    assert "File too large" in results[0].stderr
    assert "the same command tries them again" in results[0].stderr
    assert records(tmp_path / "limited") == records(tmp_path / "whole")


def test_two_processes_share_a_folder(fork, tmp_path):
    flags = [*FLAGS, "--agent=random", "--steps=3", f"--output_dir={tmp_path}"]
    both = [fork("-m", "emoc_tf.experiments.explore", *flags) for _ in range(2)]
    outputs = [process.communicate() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    text = "".join(output for output, _ in outputs)
    assert text.count("step 3/3") == 1
    assert_tidy(tmp_path / "random" / "0")


def test_a_full_disk_while_a_row_is_written(world, whole, tmp_path, monkeypatch):
    def half_a_row(self, outcome, reward, timings):
        with open(self.path / "steps.csv", "a", encoding="utf-8") as file:
            file.write(f"{outcome.step},1")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder.RunFolder, "write_step", half_a_row)
        assert "No space left on device" in attempt(world, tmp_path).error
    failure = json.loads((tmp_path / "1-vs-2/3/failure.json").read_text())
    assert failure["error"].startswith("OSError: [Errno 28]")
    assert "half_a_row" in failure["traceback"]
    assert attempt(world, tmp_path).error is None
    assert records(tmp_path) == whole
    assert not (tmp_path / "1-vs-2/3/failure.json").exists()


def test_a_run_that_diverges_stops_with_advice_and_enters_no_figure(world, tmp_path):
    config = world[0].replace(learning_rate=1e9)
    grid = single_run.Grid(config, tmp_path)
    result = attempts.attempt_run(grid, ActiveExplorationEnv(config), lambda *_: None, ("min", 0))
    assert result.error.startswith("pretraining: training diverged: ")
    assert "at learning_rate=1000000000.0; try learning_rate=1e+08, or images" in result.error
    config = world[0].replace(novel_classes=2)
    grid, env = single_run.Grid(config, tmp_path / "later"), ActiveExplorationEnv(config)
    original = env.exploration.advance

    def advance(choice):
        if env.state.step == 1:  # weights that grow too large in the second update
            env.exploration._network._learner._learning_rate = 1e9
            env.exploration._network._learner.replace_model(env.state.model)
        return original(choice)

    env.exploration.advance = advance
    result = attempts.attempt_run(grid, env, lambda *_: None, ("min", 0))
    assert result.error.startswith("update step 2: training diverged: ")
    env.exploration.advance = original
    assert attempts.attempt_run(grid, env, lambda *_: None, ("random", 0)).error is None
    found = gather(tmp_path / "later")
    assert "1 of 2 runs are unfinished: left out" in found.notes
    failure = "min/0 failed: FloatingPointError: update step 2: training diverged"
    assert any(note.startswith(failure) for note in found.notes)
    assert found.agents == ["random"]


def test_a_run_that_another_process_works_on_is_left_alone(world, tmp_path):
    folder = RunFolder(tmp_path, "1-vs-2", 3, world[0])
    assert folder.lock.acquire()
    assert attempt(world, tmp_path).busy
    assert list(folder.path.iterdir()) == [folder.path / ".lock"]
    folder.lock.release()
    assert not attempt(world, tmp_path).busy


def test_a_grid_waits_for_what_others_work_on_and_then_does_it(world, whole, tmp_path):
    grid = single_run.Grid(world[0], tmp_path)
    folder = RunFolder(tmp_path, "1-vs-2", 3, world[0])
    assert folder.lock.acquire()
    console = Console(record=True, width=300)

    def end_elsewhere():  # as soon as it is waited for
        while "waiting" not in console.export_text(clear=False):
            time.sleep(0.1)
        folder.lock.release()

    other = threading.Thread(target=end_elsewhere)
    other.start()
    failures = run_grid(grid, ["1-vs-2", "random"], [3], console)
    other.join()
    assert not failures
    text = console.export_text()
    assert text.count(f"1-vs-2  seed 3  waiting for process {os.getpid()} on ") == 1
    assert text.index("random  seed 3  step 3/3") < text.index("1-vs-2  seed 3  step 0/3")
    for name, content in whole.items():
        assert (tmp_path / name.strip("/")).read_bytes() == content
