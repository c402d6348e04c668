"""What scores on a Ray cluster cost: time against one process, and bytes over the network.

    python benchmarks/ray_scoring.py time
    python benchmarks/ray_scoring.py time --of=choice
    python benchmarks/ray_scoring.py bytes --namespace=HOST --node=10.77.4.2 --interface=veth0

`time` scores with the paper's network, or chooses among 1,000 sets of 25 of the candidates, in
this process, with one actor of one core and with two, on a cluster that it begins itself: one
after the other, and that several times. Ratios are of each such round; their median is told, and
the smallest and the largest. On a machine that does other work too, seconds on the clock tell
little: CPU seconds are told beside, of this process, of the actors, and of what else Ray has
begun.

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
    parser.add_argument("--of", choices=["scores", "choice"], default="scores")
    parser.add_argument("--references", type=int, default=512)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--namespace")
    parser.add_argument("--node")
    parser.add_argument("--interface")
    parser.add_argument("--pool", type=int, default=POOLS[0])
    options = parser.parse_args()
    if options.what == "time":
        compare_times(options.of, options.references, options.candidates, options.rounds)
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


@contextlib.contextmanager
def alone(crew: Any) -> Iterator[None]:
    """Leaves the first of two actors at work; the other one waits."""
    members, nodes = crew._members, crew._nodes
    first = members[0].node
    crew._members, crew._nodes = members[:1], lambda: [first]
    try:
        yield
    finally:
        crew._members, crew._nodes = members, nodes


def compare_times(of: str, references: int, candidates: int, rounds: int) -> None:
    """Scores, or chooses, by no, one and two actors of one core, in turn; prints what it takes."""
    import ray
    from ray.cluster_utils import Cluster

    from emoc_tf.scoring import EMOCScorer, RayScorer

    model = network("cifar10_quick", 32)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(references + candidates, 32, 32, 3)).astype(np.float32) * 50
    given = images[:references], images[references:]
    sets = rng.integers(0, candidates, (SETS, SET_SIZE))

    def ask(scorer: Any) -> list:
        if of == "scores":
            return scorer.scores(*given).tolist()
        return [scorer.select_set(*given, sets)]

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
    here, there = EMOCScorer(model), RayScorer(model)
    while len(actor_seconds(there)) < 2:
        there.scores(given[0][:32], given[1][:8])
    crew = there._team.begin()
    contestants = {
        "no actor": (here, contextlib.nullcontext),
        "one actor": (there, functools.partial(alone, crew)),
        "two actors": (there, contextlib.nullcontext),
    }
    wanted, rows = ask(here), []  # functions are traced, and the machine's caches filled
    assert ask(there) == wanted, "other bits"

    def measure(name: str) -> list[float]:
        scorer, kept = contestants[name]
        before, below, own = actor_seconds(there), below_seconds(), cpu_seconds()
        start = time.perf_counter()
        with kept():
            found = ask(scorer)
        wall, own, below = time.perf_counter() - start, cpu_seconds() - own, below_seconds() - below
        each = [after - first for after, first in zip(actor_seconds(there), before, strict=True)]
        assert found == wanted, "other bits"
        return [wall, own, max(each), sum(each), below - sum(each)]

    for number in range(1, rounds + 1):
        # In the other order each second time: what else the machine does may change slowly.
        names = list(contestants)[:: 1 if number % 2 else -1]
        found = {name: measure(name) for name in names}
        rows += [[name, number, *found[name]] for name in contestants]
    there.close()
    ray.shutdown()
    cluster.shutdown()
    titles = [
        "", "round", "seconds", "CPU seconds here", "of the busier actor", "of all actors",
        "of Ray's own",
    ]  # fmt: skip
    _print(titles, rows, f"{of}: {references} reference images, {candidates} candidates")
    none, one, two = (np.array([row[2:] for row in rows if row[0] == name]) for name in contestants)
    work = [numbers[:, 1] + numbers[:, 3] for numbers in (none, one)]
    print("median and, in brackets, the smallest and the largest of", rounds, "rounds")
    _tell("overhead of one actor by the clock", one[:, 0] / none[:, 0] - 1, "+.1%")
    _tell("overhead of one actor in CPU seconds here and in actors", work[1] / work[0] - 1, "+.1%")
    _tell("the same with Ray's own", (work[1] + one[:, 4]) / work[0] - 1, "+.1%")
    _tell("two actors against one by the clock", one[:, 0] / two[:, 0], ".2f")
    _tell("two actors against one by CPU seconds of the busier", one[:, 2] / two[:, 2], ".2f")
    _write("ray_time.csv" if of == "scores" else "ray_time_of_choice.csv", titles, rows)


def _tell(what: str, ratios: np.ndarray, form: str) -> None:
    middle, least, most = np.median(ratios), ratios.min(), ratios.max()
    print(f"{what}: {middle:{form}} [{least:{form}}, {most:{form}}]")


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
