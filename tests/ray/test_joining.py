"""Machines that join while a grid is under way and are of no use: left out, and said once."""

import contextlib
import logging
import threading
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from emoc_tf import agents
from emoc_tf.running.grid import run_grid
from emoc_tf.running.pools.on_ray import FILES, OnRay
from emoc_tf.running.single_run import Grid
from tests.ray.test_mixed import OTHER_PROCESSOR, OTHER_VERSIONS, machine
from tests.running.soak import records
from tests.running.test_grid import CONFIG, own_environment

NO_LIBRARY = "import sys; sys.modules['emoc_tf'] = None"
CRASHES = """
import sys

class Finder:
    def find_spec(self, name, *_):
        if name == "tensorflow":
            import os
            os._exit(132)

sys.meta_path.insert(0, Finder())
"""
NO_FOLDER = """
import os.path
exists = os.path.exists
os.path.exists = lambda path: "/.seen." not in str(path) and exists(path)
"""
KINDS = [OTHER_VERSIONS, OTHER_PROCESSOR, NO_LIBRARY, CRASHES, NO_FOLDER]
SETTINGS = CONFIG.replace(max_steps=2)


class Held(agents.Agent):
    """Chooses once a file is there."""

    def __init__(self, seed=0, file=""):
        self.file = Path(file)

    def act(self, observation, state):
        while self.file.name and not self.file.exists():
            time.sleep(0.1)
        return int(np.flatnonzero(state.candidate_mask)[-1])


def test_wrong_machines_that_join_later_swallow_no_run(
    cluster, connection, tmp_path, until, caplog
):
    agents.register("held", Held)
    file, seeds, failures = tmp_path / "file", range(4), []
    here, there = (
        Grid(SETTINGS, tmp_path / name, environment=own_environment) for name in ("here", "there")
    )
    assert not run_grid(here, ["held"], seeds, Console(quiet=True))

    def work():
        with OnRay(cluster.address, storage=FILES) as pool:
            failures.append(run_grid(there, [f"held:file={file}"], seeds, quiet, pool=pool))

    def told():
        messages = [record.getMessage() for record in caplog.records]
        return [message for message in messages if "gets no runs any more" in message]

    quiet, thread = Console(quiet=True), threading.Thread(target=work)
    with caplog.at_level(logging.WARNING, "emoc_tf"), contextlib.ExitStack() as stack:
        thread.start()
        try:
            until(lambda: list(there.output_dir.glob("*/*/steps.csv")), 600)
            for number, kind in enumerate(KINDS):
                (tmp_path / str(number)).mkdir()
                stack.enter_context(machine(cluster, tmp_path / str(number), kind))
            until(lambda: len(told()) == len(KINDS), 600)
        finally:
            file.touch()
            thread.join()
    assert failures == [{}]
    assert len(told()) == len(KINDS)
    for part in (
        "python", "cpu ", "emoc_tf", "no run begins there: killed or crashed",
        "got one with an output folder of its own, without ",
    ):  # fmt: skip
        assert any(part in message for message in told())
    wanted, found = records(here.output_dir), records(there.output_dir)
    found = {name: rows for name, rows in found.items() if name.endswith("steps.csv")}
    assert len(found) == len(seeds)
    for name, rows in found.items():
        assert rows == wanted["/".join(["/held", *name.split("/")[-2:]])]
