"""What scores on a Ray cluster cost: time against one process, and bytes over the network.

    python benchmarks/ray_scoring.py time
    python benchmarks/ray_scoring.py bytes --namespace=HOST --node=10.77.4.2 --interface=veth0

`time` scores with the paper's network in this process, with one actor of one core and with two, on
a cluster that it begins itself. On a machine that does other work too, seconds on the clock tell
little: CPU seconds are told beside, of this process, of the actors, and of what else Ray has begun.

`bytes` makes a step on a pool in a file, by an actor on another host, and reads what the interface
to it has carried. The host is a network namespace of this machine, made by root beforehand: `ip
netns add HOST`, a veth pair with an address at each end, and a default route to the one here.
"""

import argparse
import contextlib
import csv
import functools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
from rich.console import Console
from rich.table import Table

from emoc_tf.cluster import family

RESULTS = Path(__file__).parents[1] / "results/scoring"
POOLS = 10**5, 10**6, 10**7
SETS, SET_SIZE, CLASSES = 1000, 25, 10
PAPER_BYTES = 4 * (64 + CLASSES)  # features and logits of an image, by the paper's network


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["time", "bytes"])
    parser.add_argument("--references", type=int, default=512)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--namespace")
    parser.add_argument("--node")
    parser.add_argument("--interface")
    parser.add_argument("--pool", type=int, default=POOLS[0])
    options = parser.parse_args()
    if options.what == "time":
        compare_times(options.references, options.candidates)
    elif None in (options.namespace, options.node, options.interface):
        sys.exit("bytes: expected --namespace, --node and --interface")
    else:
        with other_host(options.namespace, options.node):
            count_bytes(options.interface, options.pool)


def network(name: str, size: int) -> Any:
    """Returns a network as it is before training."""
    from emoc_tf.models.networks import build

    shape = size, size, 3 if size > 8 else 1
    return build(name, shape, CLASSES, 5e-4, np.random.default_rng(0))


def cpu_seconds() -> float:
    """Returns what this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def actor_seconds(scorer: Any) -> list[float]:
    """Returns what each actor of a scorer has used."""
    import ray

    members = [m for m in scorer._team.begin()._members if m.ready]
    asked = [m.handle.__ray_call__.remote(lambda _: _used()) for m in members]
    return ray.get(asked)


def _used() -> float:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def below_seconds() -> float:
    """Returns what all processes that this one began, and those below, have used."""
    total = 0
    for process in family.below(family.children()):
        with contextlib.suppress(OSError):  # it has ended
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def compare_times(references: int, candidates: int) -> None:
    """Scores by no, one and two actors of one core; prints seconds and ratios."""
    import ray
    from ray.cluster_utils import Cluster

    from emoc_tf.scoring import EMOCScorer, RayScorer

    model = network("cifar10_quick", 32)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(references + candidates, 32, 32, 3)).astype(np.float32) * 50
    given = images[:references], images[references:]
    rows, wanted = [], None

    def measure(name: str, scorer: Any, actors: int) -> None:
        nonlocal wanted
        used = functools.partial(actor_seconds, scorer) if actors else list
        while len(used()) < actors:
            scorer.scores(given[0][:32], given[1][:8])
        scorer.scores(*given)  # functions are traced, and the machine's caches filled
        before, below, own, start = used(), below_seconds(), cpu_seconds(), time.perf_counter()
        found = scorer.scores(*given)
        wall, own, below = time.perf_counter() - start, cpu_seconds() - own, below_seconds() - below
        each = [after - first for after, first in zip(used(), before, strict=True)]
        wanted = found if wanted is None else wanted
        assert found.tobytes() == wanted.tobytes(), "other bits"
        rows.append([name, wall, own, max(each, default=0.0), sum(each), below - sum(each)])

    measure("EMOCScorer", EMOCScorer(model), 0)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    ray.init(address=cluster.address, log_to_driver=False)
    scorer = RayScorer(model)
    measure("one actor", scorer, 1)
    cluster.add_node(num_cpus=1)
    measure("two actors", scorer, 2)
    scorer.close()
    ray.shutdown()
    cluster.shutdown()
    titles = [
        "", "seconds", "CPU seconds here", "of the busier actor", "of all actors", "of Ray's own",
    ]  # fmt: skip
    _print(titles, rows, f"{references} reference images, {candidates} candidates")
    none, one, two = rows
    work = [row[2] + row[4] for row in rows]
    by_work, of_all = work[1] / work[0] - 1, (work[1] + one[5]) / work[0] - 1
    print(f"overhead of one actor: {one[1] / none[1] - 1:+.1%} by the clock, {by_work:+.1%} of CPU "
          f"seconds here and in actors, {of_all:+.1%} of all")  # fmt: skip
    print(f"two actors against one: {one[1] / two[1]:.2f} by the clock, "
          f"{one[3] / two[3]:.2f} by the CPU seconds of the busier one")  # fmt: skip
    _write("ray_time.csv", titles, rows)


@contextlib.contextmanager
def other_host(namespace: str, node: str) -> Iterator[None]:
    """Begins a cluster whose only CPU is in a network namespace, and connects to it."""
    from ray.cluster_utils import Cluster

    from emoc_tf.cluster.connection import connect

    # Ports are told: on a busy machine Ray gives up waiting for those that it finds itself.
    names = "metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port"
    ports = {name: 47_101 + i for i, name in enumerate((*names, "runtime_env_agent_port"))}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **ports})
    command = [
        "ip", "netns", "exec", namespace, sys.executable, "-m", "ray.scripts.scripts", "start",
        f"--address={cluster.address}", f"--node-ip-address={node}", "--num-cpus=1", "--block",
        "--dashboard-agent-grpc-port=47201", "--metrics-export-port=47202",
        "--dashboard-agent-listen-port=47203", "--runtime-env-agent-port=47204",
    ]  # fmt: skip
    with connect(cluster.address) as connection:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            while not connection.nodes(1):
                if process.poll() is not None:
                    sys.exit("bytes: the node in the namespace did not start")
                time.sleep(1)
            yield
        finally:
            process.terminate()
            process.wait()
    cluster.shutdown()


def count_bytes(interface: str, pool: int) -> None:
    """Makes a step of a pool; prints what went over an interface, and of larger pools on paper."""
    from emoc_tf.data.views import ImageView
    from emoc_tf.scoring import RayScorer

    model = network("small_cnn", 8)
    sets = np.random.default_rng(0).integers(0, pool, (SETS, SET_SIZE))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.bin"
        drawn = np.random.default_rng(1).integers(0, 255, (pool, 8, 8, 1), dtype=np.uint8)
        drawn.tofile(file)
        images = ImageView(np.memmap(file, np.uint8, "r", shape=drawn.shape))
        scorer = RayScorer(model)
        scorer.scores(images.take(np.arange(300)), images.take(np.arange(50)))
        rows = []
        for name, work in (
            ("idle, 10 s", lambda: time.sleep(10)),
            ("predictions", lambda: scorer.predict(images)),
            ("choice of a set", lambda: scorer.select_set(images, images, sets)),
        ):
            before, start = carried(interface), time.perf_counter()
            found = work()
            rows.append([name, *(carried(interface) - before) / 1e6, time.perf_counter() - start])
            if name == "predictions":
                of_image = sum(part.itemsize * part.shape[1] for part in found[:2])
    titles = ["", "MB to the actors", "MB from them", "seconds"]
    _print(titles, rows, f"a step of {pool:,} images, of {interface}")
    chosen = sum(rows[2][1:3])
    over = sum(rows[1][1:3]) / (of_image * pool / 1e6)
    print(f"predictions: {of_image} bytes an image, measured {over:.2f} times as many")
    predicted = [PAPER_BYTES * over * n / 1e6 for n in POOLS]
    table = [
        [f"{n:,}", each, chosen, each + chosen] for n, each in zip(POOLS, predicted, strict=True)
    ]
    worked = ["images", "MB of predictions", "MB of the choice", "MB a step"]
    _print(worked, table, f"worked out for the paper's network, {PAPER_BYTES} bytes an image")
    _write("ray_bytes.csv", titles, rows)


def carried(interface: str) -> np.ndarray:
    """Returns bytes that an interface has sent and received."""
    folder = Path(f"/sys/class/net/{interface}/statistics")
    return np.array([int((folder / f"{way}_bytes").read_text()) for way in ("tx", "rx")])


def _print(titles: list[str], rows: list[list], caption: str) -> None:
    table = Table(*titles, title=caption)
    for name, *numbers in rows:
        table.add_row(name, *(f"{number:.2f}" for number in numbers))
    Console(width=110).print(table)


def _write(name: str, titles: list[str], rows: list[list]) -> None:
    with open(RESULTS / name, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([titles[0] or "what", *titles[1:]])
        writer.writerows([row[0], *(f"{number:.3f}" for number in row[1:])] for row in rows)


if __name__ == "__main__":
    main()
