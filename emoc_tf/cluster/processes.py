"""What a process of a cluster has to be like, and whether all machines' processes are."""

import functools
import importlib.metadata
import os
import time
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emoc_tf.cluster.connection import Connection, Node, on_node, ray, runtime

# Seconds in which the processes that are asked have to answer: they load TensorFlow first.
_LIMIT = 300.0
# Seconds in which Ray notices at all places that a machine is there, or is there no more; and
# after which those are asked again that it may be wrong about.
SETTLES, PAUSE = 60.0, 1.0


@functools.cache  # what computes already cannot be set any more
def prepare(threads: int) -> None:
    """Sets threads and memory of TensorFlow; before anything else of a process of the cluster.

    Threads that the variable TF_NUM_INTRAOP_THREADS tells are left as they are.

    Args:
        threads: That a single operation may use: as many as the CPUs that the process reserves.
    """
    import tensorflow as tf

    if "TF_NUM_INTRAOP_THREADS" not in os.environ:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def check(
    connection: Connection,
    cpus: float = 1,
    gpus: float = 0,
    *,
    file: Path | None = None,
    allow_mixed: bool = False,
    remedy: str = "",
) -> dict[str, Any]:
    """Checks that all machines would give the same bits; returns what they depend on.

    A machine that is gone while it is asked counts as one that was never there.

    Args:
        connection: To the cluster.
        cpus: That a process reserves, and threads that it uses; machines that lend less are left
            out.
        gpus: The same.
        file: One that all machines have to see, in a folder that they share; None for none.
        allow_mixed: Whether processors and numbers of cores may differ.
        remedy: What else may be done about machines that differ, in words.

    Returns:
        `provenance.environment()` of a process of the cluster.

    Raises:
        ValueError: No machine lends so much, or they differ in a version, the library's source or,
            without `allow_mixed`, in anything else that decides bits, or do not see the file.
    """
    nodes, threads = connection.nodes(cpus, gpus), max(1, int(cpus))
    found = _ask(nodes, threads, gpus, file, connection.nodes)
    nodes = [node for node in nodes if node in found]
    if not nodes:
        raise ValueError(
            f"ray: expected a machine that lends {cpus:g} CPUs and {gpus:g} GPUs, got "
            f"{_listed(connection.nodes()) or 'none'}"
        )
    first = found[nodes[0]]
    for node in nodes:
        place = found[node]
        if "error" in place:
            raise ValueError(
                f"ray: expected emoc_tf {_version()} on {node.host}, got {place['error']}"
            )
        if not place["sees"]:
            raise ValueError(
                f"output_dir: expected a folder that all machines share, got {file.parent}, "
                f"which {node.host} does not see; --ray_storage=objects needs none"
            )
        both = first["environment"], place["environment"]
        if differing := differences(*both, allow_mixed):
            by_processor = not differences(*both, allow_mixed=True)
            raise ValueError(
                f"ray: expected machines with the same versions and processor, got "
                f"{nodes[0].host} and {node.host} with {'; '.join(differing)}"
                + (f"; {remedy}" if remedy and by_processor else "")
            )
    # Only what is the same wherever it computes: this process may be on a machine of another kind.
    if differing := differences(place_here(), first["environment"], allow_mixed=True):
        raise ValueError(
            f"ray: expected the versions of this process on {nodes[0].host}, got, here and there, "
            f"{'; '.join(differing)}"
        )
    return first["environment"]


def _ask(
    nodes: Sequence[Node],
    threads: int,
    gpus: float,
    file: Path | None,
    listed: Callable[[], Sequence[Node]],
) -> dict[Node, dict[str, Any]]:
    """Returns what `_answer` tells on each machine, as far as they are `listed` to the end.

    A machine is listed for some seconds after it died, and before it can be given work.
    """
    module = ray()
    # A copy of the code goes there, not its name: emoc_tf may be another one there, or none.
    task = remote(module, by_value(_answer), gpus)
    options = {"num_cpus": 0, "num_gpus": gpus, "max_retries": 0, "runtime_env": runtime(threads)}
    found, left, begun = {}, list(nodes), time.monotonic()
    while left:
        asked = {
            node: task.options(scheduling_strategy=on_node(node), **options).remote(
                threads, file and str(file)
            )
            for node in left
        }
        failed = {}
        for node, reference in asked.items():
            rest = max(0.0, begun + _LIMIT - time.monotonic())
            try:
                found[node] = module.get(reference, timeout=rest)
            except module.exceptions.RayError as error:
                failed[node] = error
        if failed:
            time.sleep(PAUSE)
        here = {node.id for node in listed()} if failed else set()
        left = [node for node in failed if node.id in here]
        late = time.monotonic() - begun > SETTLES
        for node in left:
            if late or not _passes(failed[node]):
                raise _silent(node, gpus, failed[node]) from failed[node]
    return found


def _passes(error: Exception) -> bool:
    """Whether an error may come of a machine that is about to go or to come."""
    errors = ray().exceptions
    lasting = errors.RayTaskError, errors.RuntimeEnvSetupError, errors.GetTimeoutError
    return not isinstance(error, lasting)


def _silent(node: Node, gpus: float, error: Exception) -> ValueError:
    if isinstance(error, ray().exceptions.GetTimeoutError):
        return ValueError(
            f"ray: expected an answer of {node.host} within {_LIMIT:.0f} s, got none; are its "
            f"{gpus:g} GPUs in use?"
        )
    return ValueError(f"ray: {node.host} fails: {last_line(error)}")


def remote(module: Any, function: Any, gpus: float) -> Any:
    """Returns a task of Ray. A process with a GPU does one alone: TensorFlow stays on its first."""
    return module.remote(max_calls=1)(function) if gpus else module.remote(function)


def by_value(function: Any) -> Any:
    """Returns a copy of a function that is sent whole, not by name."""
    copy = types.FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def _answer(threads: int, file: str | None) -> dict[str, Any]:
    """Returns what decides the bits of a process; runs where the library may be another one."""
    import importlib.metadata

    try:
        from emoc_tf.cluster import processes

        processes.prepare(threads)
        return {"sees": processes.sees(file), "environment": processes.place_here()}
    except Exception as error:  # another version may lack what is called here
        try:
            found = importlib.metadata.version("emoc_tf")
        except importlib.metadata.PackageNotFoundError:
            found = "none"
        return {"error": f"{found} ({type(error).__name__}: {error})"}


def sees(file: str | None) -> bool:
    """Whether a file is there; what another machine has written is seen after some seconds."""
    until = time.monotonic() + 10
    while not (found := file is None or os.path.exists(file)) and time.monotonic() < until:
        time.sleep(0.2)
    return found


def place_here() -> dict[str, Any]:
    """Returns what the bits of this process depend on, see `provenance.environment`."""
    from emoc_tf.storage import provenance

    return provenance.environment()


def differences(
    first: Mapping[str, Any], other: Mapping[str, Any], allow_mixed: bool = False
) -> list[str]:
    """Returns in words where two places differ; the commit does not count.

    Args:
        first: As `place_here` returns it.
        other: The same of another process.
        allow_mixed: Whether only versions and the library's source count.
    """
    names = ("versions", "source") if allow_mixed else [n for n in first if n != "commit"]
    differing = []
    for name in names:
        if name == "versions":
            ours, theirs = first[name], other.get(name, {})
            differing += [
                f"{package} {ours.get(package)} and {theirs.get(package)}"
                for package in sorted({*ours, *theirs})
                if ours.get(package) != theirs.get(package)
            ]
        elif first[name] != other.get(name):
            differing.append(f"{name} {first[name]} and {other.get(name)}")
    return differing


def _version() -> str:
    return importlib.metadata.version("emoc_tf")


def _listed(nodes: Sequence[Node]) -> str:
    return ", ".join(f"{n.host} with {n.cpus:g} and {n.gpus:g}" for n in nodes)


def last_line(told: object) -> str:
    """Returns the last line of what something says, such as an error with a traceback."""
    lines = [line.strip() for line in str(told).splitlines() if line.strip()]
    return lines[-1] if lines else type(told).__name__
