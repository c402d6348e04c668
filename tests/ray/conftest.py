import os
import time

import pytest
import tensorflow as tf

# As many as a process of the cluster has that reserves one processor: only then bits are equal.
tf.config.threading.set_intra_op_parallelism_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session")
def cluster():
    """A cluster whose head lends nothing, and two machines of one processor each."""
    from emoc_tf.cluster.connection import ray

    ray()
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture(scope="session")
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
