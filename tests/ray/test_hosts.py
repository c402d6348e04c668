"""A machine that only a network leads to: scores and choices are those of one process."""

import contextlib
import os
import shutil
import subprocess
import sys

import pytest

from emoc_tf.cluster import family
from emoc_tf.scoring import EMOCScorer, RayScorer
from tests.ray.test_scoring import answers, assert_same, problem
from tests.scoring import models

NAME = f"emoc{os.getpid()}"
HERE, THERE = "10.77.5.1", "10.77.5.2"


@pytest.fixture
def host():
    """A network namespace with an address of its own: its name and this end of its only cable."""
    if shutil.which("ip") is None:
        pytest.skip("network namespaces cannot be made without ip")
    inside, near, far = ["ip", "netns", "exec", NAME, "ip"], f"{NAME}a", f"{NAME}b"
    commands = [
        ["ip", "netns", "add", NAME],
        ["ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", NAME],
        ["ip", "address", "add", f"{HERE}/24", "dev", near],
        ["ip", "link", "set", near, "up"],
        [*inside, "address", "add", f"{THERE}/24", "dev", far],
        [*inside, "link", "set", far, "up"],
        [*inside, "link", "set", "lo", "up"],
        [*inside, "route", "add", "default", "via", HERE],
    ]
    try:
        for command in commands:
            subprocess.run(command, check=True, capture_output=True)
        yield NAME, near
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces cannot be made here: {error}")
    finally:
        for command in (["ip", "link", "delete", near], ["ip", "netns", "delete", NAME]):
            subprocess.run(command, check=False, capture_output=True)


def received(interface):
    with open(f"/sys/class/net/{interface}/statistics/rx_bytes") as file:
        return int(file.read())


def test_another_host_gives_the_bits_of_one_process(cluster, connection, host, start, until):
    name, interface = host
    before = family.children()
    process = start([
        "ip", "netns", "exec", name, sys.executable, "-m", "ray.scripts.scripts", "start",
        f"--address={cluster.address}", f"--node-ip-address={THERE}", "--num-cpus=1", "--block",
    ])  # fmt: skip
    began = family.children() - before
    until(lambda: THERE in {node.host for node in connection.nodes(cpus=1)}, 1200)
    model, *given = problem(models.convolutional)
    wanted, scorer = answers(EMOCScorer(model), *given), RayScorer(model)
    first = received(interface)

    def works():
        assert_same(answers(scorer, *given), wanted)
        return any(m.group for m in scorer._team._crew._members if m.node.host == THERE)

    try:
        until(works, 1200, "work of the other host")  # the others may be done before it is there
        assert_same(answers(scorer, *given), wanted)
        assert received(interface) - first > 100_000  # its share of the results, and more
    finally:
        scorer.close()
        left = family.below(began)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(60)
        family.kill(left)
