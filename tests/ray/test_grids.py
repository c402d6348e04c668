"""Grids on a cluster of two machines of one processor each, on this machine: the serial bits."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from emoc_tf import agents
from emoc_tf.running.grid import run_grid
from emoc_tf.running.pools.on_ray import FILES, OBJECTS, OnRay
from emoc_tf.running.single_run import Grid
from tests.running.soak import records
from tests.running.test_grid import CONFIG, own_environment

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


def grid(folder):
    return Grid(SETTINGS, folder, environment=own_environment)


@pytest.fixture(scope="module", autouse=True)
def watched():
    agents.register("watched", Watched)


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

    def remove():
        first = log / "0.log"
        until(lambda: first.exists() and len(first.read_text().splitlines()) == 2)
        # In flight: its choice at step 1 is being made there, by this process.
        step, node, pid = first.read_text().splitlines()[-1].split()
        assert step == "1"
        os.kill(int(pid), 0)
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
    cluster.add_node(num_cpus=1)
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


def test_another_version_on_a_machine_is_refused(cluster, connection, tmp_path):
    info = tmp_path / "emoc_tf-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: emoc_tf\nVersion: 9.9\n")
    machine = cluster.add_node(num_cpus=1, env_vars={"PYTHONPATH": str(tmp_path)})
    try:
        with pytest.raises(ValueError, match=r"^ray: expected machines .* with emoc_tf .*9\.9"):
            run_grid(
                grid(tmp_path / "out"), ["min"], [0], Console(quiet=True),
                pool=OnRay(cluster.address),
            )  # fmt: skip
    finally:
        cluster.remove_node(machine)
    assert [node.cpus for node in connection.nodes(cpus=1)] == [1, 1]
