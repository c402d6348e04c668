import subprocess
import sys
import time
from pathlib import Path

from emoc_tf.cluster import family

TREE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(child.pid, flush=True)
time.sleep(100)
"""


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_process_and_all_below_it_end_and_no_other():
    before = family.children()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    with_other = family.children()
    tree = subprocess.Popen([sys.executable, "-c", TREE], stdout=subprocess.PIPE, text=True)
    grandchild = int(tree.stdout.readline())
    began = family.children() - with_other
    assert {process.pid for process in began} == {tree.pid}
    found = family.below(began)
    assert {process.pid for process in found} == {tree.pid, grandchild}
    family.kill(found)
    tree.communicate()
    end = time.monotonic() + 20
    while alive(grandchild):
        assert time.monotonic() < end
        time.sleep(0.05)
    family.kill(found)  # who has ended is no hindrance
    assert family.below(found) == set()
    # The number of one that has ended may be another one's by now.
    (process,) = with_other - before
    family.kill([process._replace(begun=process.begun - 1)])
    assert other.poll() is None
    family.kill([process])
    assert other.wait(20) == -9
