"""Grids on a cluster of two machines of one processor each, on this machine: the serial bits."""

import functools
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from emoc_tf import agents
from emoc_tf.running.grid import run_grid
from emoc_tf.running.pools.on_ray import FILES, OBJECTS, OnRay
from emoc_tf.running.single_run import Grid
from tests import processes
from tests.ray.conftest import add_node
from tests.running.soak import records
from tests.running.test_grid import CONFIG, SCRIPT, other_environment, own_environment

SETTINGS = CONFIG.replace(max_steps=3)
SEEDS = [0, 1]


class Watched(agents.Agent):
    """Tells in files where it chooses, and the first time at step 1 waits until it is ended."""

    def __init__(self, seed=0, folder=""):
        self.seed, self.folder = seed, Path(folder)

    def act(self, observation, state):
        log = self.folder / f"{self.seed}.log"
        if self.folder.name:
            import ray

            node = ray.get_runtime_context().get_node_id()
            with open(log, "a") as file:
                file.write(f"{state.step} {node} {os.getpid()}\n")
            if self.seed == 0 and state.step == 1 and len(log.read_text().splitlines()) == 2:
                time.sleep(300)
        return int(np.flatnonzero(state.candidate_mask)[-1])


class Failing(agents.Agent):
    def __init__(self, seed=0):
        self.seed = seed

    def act(self, observation, state):
        if self.seed == 0 and state.step == 1:
            warnings.warn("cannot choose well", stacklevel=1)
            raise RuntimeError("cannot choose")
        return int(np.flatnonzero(state.candidate_mask)[-1])


def grid(folder):
    return Grid(SETTINGS, folder, environment=own_environment)


@pytest.fixture(scope="module", autouse=True)
def watched():
    agents.register("watched", Watched)
    agents.register("failing", Failing)


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """What the runs leave in one process."""
    folder = tmp_path_factory.mktemp("serial")
    assert not run_grid(grid(folder), ["min", "watched"], SEEDS, Console(quiet=True))
    return records(folder)


def rows(found):
    return {name: content for name, content in found.items() if not name.endswith("config.json")}


def test_two_machines_leave_what_one_process_leaves(cluster, connection, serial, tmp_path):
    console = Console(record=True, width=200)
    with OnRay(cluster.address) as pool:
        assert not run_grid(grid(tmp_path), ["min", "watched"], SEEDS, console, pool=pool)
        assert "on Ray: 2 machines, 2 runs at a time" in console.export_text(clear=False)
        assert records(tmp_path) == serial
        run_grid(grid(tmp_path), ["min", "watched"], SEEDS, console, pool=pool)
    assert "4 finished, 0 to do" in console.export_text()
    assert connection.nodes()  # what was connected before is left so
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("storage", [FILES, OBJECTS])
def test_a_machine_that_is_removed_in_a_run_costs_an_update(
    cluster, connection, serial, tmp_path, storage, until, capfd
):
    log, out = tmp_path / "log", tmp_path / "out"
    log.mkdir()
    name = f"watched:folder={log}"
    console = Console(record=True, width=300)

    def came():
        return [file.read_text() for file in out.glob("*/0/steps.csv")]

    def remove():
        first = log / "0.log"
        until(lambda: first.exists() and len(first.read_text().splitlines()) == 2)
        # In flight: its choice at step 1 is being made there, by this process.
        step, node, pid = first.read_text().splitlines()[-1].split()
        assert step == "1"
        os.kill(int(pid), 0)
        until(
            lambda: [rows for rows in came() if rows.count("\n") == 3]
        )  # all before has come back
        (machine,) = (n for n in cluster.worker_nodes if n.node_id == node)
        cluster.remove_node(machine, allow_graceful=False)

    failed = []

    def remover():
        try:
            remove()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=remover)
    thread.start()
    with OnRay(cluster.address, storage=storage) as pool:
        assert not run_grid(grid(out), [name], SEEDS, console, pool=pool)
    thread.join()
    add_node(cluster, num_cpus=1)
    assert not failed
    text = console.export_text()
    assert text.count("seed 0  its process died (with its machine); another one goes on") == 1
    assert text.count("its process died") == 1
    told = [line.split() for line in (log / "0.log").read_text().splitlines()]
    assert [step for step, *_ in told] == ["0", "1", "1", "2"]  # step 0 was not learnt again
    assert told[1][1] != told[2][1]
    assert capfd.readouterr().out.count("seed 0  step 1/3") == 1
    for seed in SEEDS:
        for file in ("steps.csv", "recalls.csv", "queried.csv"):
            (found,) = out.glob(f"*/{seed}/{file}")
            assert found.read_bytes() == serial[f"/watched/{seed}/{file}"]
    assert not list(out.rglob(".*"))
    assert not list(out.rglob("checkpoint*"))


@pytest.mark.parametrize("storage", [FILES, OBJECTS])
def test_a_run_that_fails_hinders_no_other(cluster, connection, serial, tmp_path, storage, caplog):
    console = Console(record=True, width=200)
    with caplog.at_level(logging.INFO, "emoc_tf"), OnRay(cluster.address, storage=storage) as pool:
        failures = run_grid(grid(tmp_path), ["failing", "min"], SEEDS, console, pool=pool)
    assert failures == {("failing", 0): "cannot choose"}
    assert "failing  seed 0  FAILED: cannot choose" in console.export_text()
    assert [line.partition(": ")[2] for line in caplog.messages] == ["cannot choose well"]
    told = json.loads((tmp_path / "failing/0/failure.json").read_text())
    assert "cannot choose" in str(told)
    found = records(tmp_path)
    assert {name for name in found if name.endswith("steps.csv")} == {
        "/failing/0/steps.csv", "/failing/1/steps.csv", "/min/0/steps.csv", "/min/1/steps.csv",
    }  # fmt: skip
    assert len(found["/failing/0/steps.csv"].splitlines()) == 3  # titles, steps 0 and 1
    for name in [name for name in found if name.startswith("/min/")]:
        assert found[name] == serial[name]


def environment_with_data(folder, others, config):
    """An environment, but on machines that a folder names none, or one of other data."""
    import ray

    if not (Path(folder) / ray.get_runtime_context().get_node_id()).exists():
        return own_environment(config)
    if not others:
        raise FileNotFoundError("no data set")
    return other_environment(config)


@pytest.mark.parametrize(
    ("storage", "others", "told"),
    [(OBJECTS, False, "no data set"), (FILES, True, "environment: expected the data, ")],
    ids=["removed", "others"],
)
def test_a_machine_without_the_data_of_the_others_swallows_no_run(
    cluster, connection, serial, tmp_path, caplog, storage, others, told
):
    bad, *_ = [node.id for node in connection.nodes(cpus=1)]
    (tmp_path / "bad").mkdir()
    make = functools.partial(environment_with_data, str(tmp_path / "bad"), others)
    (tmp_path / "bad" / bad).touch()
    grid = Grid(SETTINGS, tmp_path / "out", environment=make)
    with (
        caplog.at_level(logging.WARNING, "emoc_tf"),
        OnRay(cluster.address, storage=storage) as pool,
    ):
        assert not run_grid(grid, ["min"], SEEDS, Console(quiet=True), pool=pool)
    (line,) = caplog.messages
    assert f"(node {bad[:8]}) gets no runs as long as other machines are left" in line
    assert f"no run begins there: {told}" in line
    found = rows(records(tmp_path / "out"))
    assert found == {name: serial[name] for name in found}
    assert len([name for name in found if name.endswith("steps.csv")]) == len(SEEDS)


class Meeting(agents.Agent):
    """Chooses as `min` does, once another run chooses at the same time on the same machine."""

    def __init__(self, seed=0, folder=""):
        self.seed, self.folder, self._min = seed, Path(folder), agents.make("min", seed=seed)

    def act(self, observation, state):
        import ray

        node = ray.get_runtime_context().get_node_id()
        (self.folder / f"{node} {self.seed}").touch()
        end = time.monotonic() + 300
        while len(list(self.folder.glob(f"{node} *"))) < len(SEEDS):
            assert time.monotonic() < end, "alone"
            time.sleep(0.05)
        return self._min.act(observation, state)


TWO_THREADS = """
import sys
from rich.console import Console
from emoc_tf.running.grid import run_grid
from emoc_tf.running.single_run import Grid
from tests.running.test_grid import CONFIG, own_environment
grid = Grid(CONFIG, sys.argv[1], environment=own_environment)
sys.exit(len(run_grid(grid, ["min"], [0, 1], Console(quiet=True))))
"""


def test_a_machine_of_several_cores_has_several_runs_of_several_threads(
    cluster, connection, tmp_path
):
    here, there, console = tmp_path / "here", tmp_path / "there", Console(record=True, width=200)
    (tmp_path / "log").mkdir()
    agents.register("meeting", Meeting)
    variables = {**os.environ, "TF_NUM_INTRAOP_THREADS": "2", "OMP_NUM_THREADS": "2"}
    alone = processes.run("-c", TWO_THREADS, here, env=variables)
    assert alone.returncode == 0, alone.stderr
    node = add_node(cluster, num_cpus=5)
    try:
        grid = Grid(CONFIG, there, environment=own_environment)
        with OnRay(cluster.address, cpus=2) as pool:  # for which the other machines are too small
            names = [f"meeting:folder={tmp_path / 'log'}"]
            assert not run_grid(grid, names, SEEDS, console, pool=pool)
    finally:
        cluster.remove_node(node)
        cluster.wait_for_nodes(120)
    assert "on Ray: 1 machine, 2 runs at a time" in console.export_text()
    for seed in SEEDS:
        (found,), (wanted,) = ([*folder.glob(f"m*/{seed}/steps.csv")] for folder in (there, here))
        assert found.read_bytes() == wanted.read_bytes()


OWN = """
from emoc_tf.envs import ActiveExplorationEnv
from emoc_tf.running.pools.on_ray import OnRay
"""
OWN_ENVIRONMENT = """
def own_environment(config):
    return ActiveExplorationEnv(config, data=images())

"""


def test_what_a_script_defines_travels_along(cluster, connection, tmp_path):
    old = "compare(grid, ['first', 'random'], [0], Console(), num_workers=2)".replace("'", '"')
    assert old in SCRIPT
    new = (
        "compare(grid, ['first'], [0], Console(), "
        f"pool=OnRay({cluster.address!r}, storage='objects'))"
    )
    text = SCRIPT.replace(old, new).replace(
        "import CONFIG, own_environment", "import CONFIG, images"
    )
    script = tmp_path / "script.py"
    script.write_text(OWN + text.replace("if __name__", OWN_ENVIRONMENT + "if __name__"))
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    result = subprocess.run(
        [sys.executable, script, "out"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr + result.stdout
    rows = (tmp_path / "out/first/0/steps.csv").read_text().splitlines()
    assert rows[-1].endswith(",1.0")
    assert "first  seed 0  step 1/1" in result.stdout
