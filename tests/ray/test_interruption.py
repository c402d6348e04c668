"""Ctrl-C ends a command and all that works for it, here and on a cluster."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from emoc_tf.cluster import family

FLAGS = [
    "--agents=min,random", "--seeds=0", "--known_classes=2", "--novel_classes=3",
    "--initial_per_class=5", "--pool_per_class=9", "--num_candidate_sets=8", "--set_size=3",
    "--pretrain_iterations=5", "--update_iterations=1000000", "--batch_size=8", "--steps=2",
]  # fmt: skip


def title(process):
    return Path(f"/proc/{process.pid}/cmdline").read_text()


@pytest.mark.parametrize("where", ["local", "a cluster"])
def test_an_interruption_leaves_no_process(request, start, until, tmp_path, where):
    address, before = "local", family.children()
    if where != "local":
        address = request.getfixturevalue("cluster").address
        before = family.children()
    process = start([
        sys.executable, "-m", "emoc_tf.experiments.compare", *FLAGS, f"--ray={address}",
        f"--output_dir={tmp_path}",
    ])  # fmt: skip
    lines = [process.stdout.readline() for _ in range(3)]
    assert "step 0/2" in lines[-1], lines
    time.sleep(1)  # it is deep in the update
    if where == "local":
        mine = family.below(family.children() - before)
    else:
        mine = {p for p in family.below(before) if "ray::work_on" in title(p)}
    assert len(mine) > (where == "local")
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    ended = time.monotonic() - begun
    until(lambda: not family.below(mine), 20, "the end of all")
    gone = time.monotonic() - begun
    assert process.returncode == 128 + signal.SIGINT
    assert errors.strip() == (
        "interrupted: nothing finished is lost; the same command resumes from here"
    )
    assert ended < 2 + os.getloadavg()[0], (ended, gone)
    print(f"{where}: ended after {ended:.2f} s, the last process after {gone:.2f} s")
