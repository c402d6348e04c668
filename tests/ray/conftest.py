import os
import time

import pytest
import tensorflow as tf

from emoc_tf.cluster import crew, family, processes

# As many as a process of the cluster has that reserves one processor: only then bits are equal.
tf.config.threading.set_intra_op_parallelism_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

_START = 120  # seconds in which parts of a cluster have to be there
# Bytes for what is sent, of each machine. Ray's test clusters have 150 MiB: more goes to the disk,
# and fails where less than 5% of that is free.
_STORE = 700 * 2**20


# All that other folders would not expect ends with this one, and not with the session.
@pytest.fixture(scope="package", autouse=True)
def patience():
    """More time than usual, on a computer that is busy to begin with."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (crew, processes):
            patch.setattr(module, "_LIMIT", 1200.0)
        patch.setenv("RAY_gcs_server_port_wait_time_s", str(_START))
        yield


@pytest.fixture(scope="package")
def cluster(patience):
    """A cluster whose head lends nothing, and two machines of one processor each."""
    from emoc_tf.cluster.connection import ray

    ray()
    from ray.cluster_utils import Cluster

    made = Cluster()
    add_node(made, num_cpus=0, include_dashboard=False)
    for _ in range(2):
        add_node(made, num_cpus=1)
    yield made
    made.shutdown()


def add_node(cluster, tries=5, **settings):
    """Adds a machine; Ray gives one 30 seconds, which a busy computer may not keep to."""
    from ray._private.services import wait_for_node

    settings.setdefault("object_store_memory", _STORE)
    before, known = family.children(), cluster.list_all_nodes()
    try:
        node = cluster.add_node(wait=False, **settings)
        wait_for_node(node.gcs_address, node.plasma_store_socket_name, _START)
        return node
    except Exception as error:
        if tries == 1 or "timed out" not in str(error).lower():
            raise
    family.kill(family.below(family.children() - before))  # or it joins later
    cluster.worker_nodes.intersection_update(known)
    if known:
        cluster.wait_for_nodes(_START)  # until one that had come after all is listed no more
    else:
        cluster.head_node = None
    return add_node(cluster, tries - 1, **settings)


@pytest.fixture(scope="package")
def connection(cluster):
    """The connection of this process to it, which all tests share."""
    from emoc_tf.cluster.connection import connect

    with connect(cluster.address) as made:
        yield made


@pytest.fixture
def until():
    """Waits for something and fails if it does not come."""

    def wait(happens, seconds=120, what="what is waited for"):
        end = time.monotonic() + seconds
        while not happens():
            assert time.monotonic() < end, f"{what} does not come"
            time.sleep(0.05)

    return wait
