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


def begin(start, folder, *flags):
    """Begins a comparison; returns it once it has made step 0."""
    process = start([
        "env", "TF_NUM_INTRAOP_THREADS=1", sys.executable, "-m", "emoc_tf.experiments.compare",
        *FLAGS, *flags, f"--output_dir={folder}",
    ])  # fmt: skip
    lines = []
    while "step 0/2" not in (line := process.stdout.readline()):
        lines.append(line)
        assert line, lines
    return process


def seconds_of(process):
    """What a process has got of a processor."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def end(start, process, mine, until, where):
    """Interrupts it; sees that it ends at once, and some of its processes too."""
    assert mine
    beside = start([sys.executable, "-c", "while True: pass"])
    until(lambda: seconds_of(beside) > 0.1, 60, "the process beside it")
    begun, of_beside = time.monotonic(), seconds_of(beside)
    process.send_signal(signal.SIGINT)
    while process.poll() is None:
        mine |= family.below(mine)  # it may still begin some
        time.sleep(0.05)
    ended = time.monotonic() - begun
    until(lambda: not family.below(mine), 20, "the end of all")
    gone, of_beside = time.monotonic() - begun, seconds_of(beside) - of_beside
    beside.kill()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    # All of them, in 2 seconds on a computer that has nothing else to do; on another one, as long
    # as a process beside it that only computes takes to get 2 seconds of a processor.
    assert of_beside < 2, (ended, of_beside, gone)
    print(
        f"{where}: ended after {ended:.2f} s, the last process after {gone:.2f} s; one beside it "
        f"got {of_beside:.2f} s of a processor"
    )
    return errors.strip()


@pytest.fixture(params=["local", "a cluster"])
def where(request):
    """An address, the processes that there are without a command, and whether a cluster is one."""
    if request.param == "local":
        return "local", family.children(), False
    address = request.getfixturevalue("cluster").address
    return address, family.children(), True


def of_command(where, working):
    """Returns the processes of a command, in a cluster those with a title; of these it has some."""
    _, before, is_cluster = where
    below = family.below(before if is_cluster else family.children() - before)
    at_it = {process for process in below if working in title(process)}
    return at_it if is_cluster or not at_it else below


def title(process):
    try:
        return Path(f"/proc/{process.pid}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def test_an_interruption_leaves_no_process(start, until, tmp_path, where):
    process = begin(start, tmp_path, f"--ray={where[0]}")
    time.sleep(1)  # it is deep in the update
    told = end(start, process, of_command(where, "ray::work_on"), until, where[0])
    assert told == "interrupted: nothing finished is lost; the same command resumes from here"


def test_an_interruption_while_scores_are_computed_leaves_no_process(start, until, tmp_path, where):
    more = ["--agents=emoc:confidence=none:labels=expected", "--pool_per_class=90"]
    process = begin(start, tmp_path, *more, f"--scoring_ray={where[0]}")
    mine = set()

    def scoring():
        mine.update(of_command(where, "ray::_Actor.work"))
        return mine

    until(scoring, what="an actor that is at work")
    told = end(start, process, mine, until, where[0])
    assert told == "interrupted: nothing finished is lost; the same command resumes from here"


def test_an_interruption_while_a_cluster_begins_leaves_no_process(start, until, tmp_path):
    before, mine = family.children(), set()
    process = start([
        sys.executable, "-m", "emoc_tf.experiments.compare", *FLAGS, "--ray=local",
        f"--output_dir={tmp_path}",
    ])  # fmt: skip

    def begins():
        mine.update(family.below(family.children() - before))  # the command among them
        return any("gcs_server" in title(each) for each in mine)

    until(begins, what="the beginning of a cluster")
    told = end(start, process, mine, until, "a beginning")
    assert told.endswith("nothing finished is lost; the same command resumes from here")
