"""The connection to a Ray cluster. Ray is imported when one is made, and not before."""

import contextlib
import importlib
import io
import logging
import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from emoc_tf.cluster import family

# What decides which bits a process computes, or what it prints: processes of the cluster have the
# values that this one has.
_CARRIED = (
    "TF_ENABLE_ONEDNN_OPTS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_XLA_FLAGS",
    "XLA_FLAGS", "TF_DETERMINISTIC_OPS", "ONEDNN_MAX_CPU_ISA", "EMOC_TF_QUIET",
)  # fmt: skip
# Read by Ray when it is imported: it reports to nobody on a cluster that begins here, and does not
# write between our lines what its own logs have, such as pages about a machine that died.
_RAYS_OWN = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."}
_MISSING = (
    "ray: expected the package ray, which is not installed here; pip install 'emoc_tf[ray]' "
    "brings it"
)
_ANSWERS = 10.0  # seconds in which the head of a cluster takes a connection
_SUBMIT = "from elsewhere `ray job submit` brings a command to a cluster"


# Connections that were made here and are not closed; and the processes that there were before a
# cluster of this machine that is beginning.
_open: list["Connection"] = []
_beginning: list[set[family.Process]] = []
_ends_at_once = False  # see `end_at_once`


class Node(NamedTuple):
    """A machine of a cluster.

    Attributes:
        id: Ray's, in hexadecimal digits.
        host: Its address.
        cpus: How many it lends.
        gpus: How many it lends.
    """

    id: str
    host: str
    cpus: float
    gpus: float


class Connection:
    """A connection to a Ray cluster; `close` ends what `connect` itself began.

    Args:
        made: Whether the connection was made here.
        began: Processes of this machine that were begun for it.
    """

    def __init__(self, made: bool, began: Collection[int] = ()) -> None:
        self._began, self._left = began, set[family.Process]()
        if made:
            _open.append(self)

    def nodes(self, cpus: float = 0, gpus: float = 0) -> list[Node]:
        """Returns the machines that live and lend so much, or more, by address."""
        found = [
            Node(
                node["NodeID"],
                node["NodeManagerAddress"],
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
            )
            for node in ray().nodes()
            if node["Alive"]
        ]
        fit = [node for node in found if node.cpus >= cpus and node.gpus >= gpus]
        return sorted(fit, key=lambda node: (node.host, node.id))

    def close(self, at_once: bool = False) -> None:
        """Ends the connection, and with it a cluster of this machine alone, if it was made here.

        Args:
            at_once: Whether this process ends then, and has no time for what Ray tidies up.
        """
        if self not in _open:
            return
        # Some of Ray's own processes would outlive their cluster by minutes.
        self._left |= family.below(self._began)
        try:
            if not at_once:
                ray().shutdown()
        finally:
            family.kill(self._left)
            if self in _open:  # another thread may have been at it
                _open.remove(self)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(at_once=ends_at_once(kind))


def connect(address: str | None = None) -> Connection:
    """Returns a connection to a cluster.

    One that `ray.init` made in this process is used as it is. Otherwise one is made, without Ray's
    notices and without the output of its processes, which lies in Ray's own logs.

    Args:
        address: `local`: a cluster of this machine alone, which ends with the connection; `auto`:
            the one that this machine is part of; or HOST:PORT. None: as `auto` inside a job of
            Ray, otherwise as `local`.

    Raises:
        ValueError: Ray is not installed, the address is none, nothing answers there, or it is of
            another version of Python or Ray.
    """
    found = ray()
    if address is not None and (
        not isinstance(address, str) or not address.strip() or "://" in address
    ):
        raise ValueError(f"ray: expected local, auto or HOST:PORT, got {address!r}; {_SUBMIT}")
    if found.is_initialized():
        _check_same(found, address)
        return Connection(made=False)
    if address is None:
        address = "auto" if os.environ.get("RAY_ADDRESS") else "local"
    if address not in ("local", "auto"):
        _check_answers(address)
    before = family.children()
    if address == "local":
        _beginning.append(before)
    try:
        with _quietly():
            found.init(address, **_settings(address))
    except Exception as error:  # Ray has all kinds
        found.shutdown()
        _beginning.clear()
        raise ValueError(f"ray: {_told(address, error)}") from error
    began = family.children() - before if address == "local" else ()
    made = Connection(made=True, began=began)
    _beginning.clear()
    return made


def end_at_once() -> None:
    """Makes an interruption leave to the end of this process what Ray tidies up; for a binary."""
    global _ends_at_once
    _ends_at_once = True


def ends_at_once(kind: type[BaseException] | None) -> bool:
    """Whether this process ends now and has no time for what Ray tidies up.

    A script or a notebook that is interrupted goes on, and may connect again.

    Args:
        kind: What is raised; None for nothing.
    """
    return _ends_at_once and kind is not None and not issubclass(kind, Exception)


def close_all() -> None:
    """Ends at once what was made here and is open; for a process that ends without unwinding."""
    for connection in list(_open):
        connection.close(at_once=True)
    for before in _beginning:
        family.kill(family.below(family.children() - before))


def ray() -> Any:
    """Returns the module; raises `ValueError` with what to do if it is not installed."""
    for name, value in _RAYS_OWN.items():
        os.environ.setdefault(name, value)
    try:
        return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ValueError(_MISSING) from None


def variables(threads: int, given: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the environment variables of a process of the cluster.

    Args:
        threads: That it may use: as many as the CPUs that it reserves.
        given: The variables of this process.
    """
    own = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "OMP_NUM_THREADS": str(threads),
        # A process that reserves no GPU keeps from those of others.
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
    }
    return own | {name: given[name] for name in _CARRIED if name in given}


def runtime(threads: int) -> dict[str, Any]:
    """Returns the `runtime_env` of tasks and actors: a process of other threads is another one."""
    return {"env_vars": variables(threads)}


def on_node(node: Node) -> Any:
    """Returns the scheduling strategy that runs something on one machine and no other."""
    strategies = importlib.import_module("ray.util.scheduling_strategies")
    return strategies.NodeAffinitySchedulingStrategy(node.id, soft=False)


def _check_answers(address: str) -> None:
    """Raises `ValueError` if nothing listens at an address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"ray: expected local, auto or HOST:PORT, got {address!r}; {_SUBMIT}")
    name = host.removeprefix("[").removesuffix("]")
    try:
        socket.create_connection((name, int(port)), _ANSWERS).close()
    except (OSError, OverflowError, UnicodeError) as error:
        raise ValueError(f"ray: {_told(address, error)}") from error


def _check_same(found: Any, address: str | None) -> None:
    """Raises `ValueError` if this process is connected to another cluster than is asked for."""
    here = found.get_runtime_context().gcs_address
    if address not in (None, "auto", "local", here) and not _same_head(address, here):
        raise ValueError(
            f"ray: expected {here}, which this process is connected to, or no address, got "
            f"{address!r}"
        )


def _same_head(address: str, here: str) -> bool:
    """Whether an address means the head of the cluster at another one, by whatever name."""
    (host, _, port), (head, _, its_port) = address.rpartition(":"), here.rpartition(":")
    if port != its_port:
        return False
    asked, wanted = _numbers(host), _numbers(head)
    # On the head itself its name may mean the machine from within: localhost, or 127.0.1.1.
    return bool(asked & wanted) or (
        any(map(_is_within, asked)) and any(_is_within(n) or _is_own(n) for n in wanted)
    )


def _numbers(host: str) -> set[str]:
    """Returns the numbers of a host, or its name where nobody knows it."""
    name = host.removeprefix("[").removesuffix("]")
    try:
        return {str(found[-1][0]) for found in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return {name}


def _is_within(number: str) -> bool:
    return number == "::1" or number.startswith("127.")


def _is_own(number: str) -> bool:
    """Whether it is a number of this machine: others cannot be listened at."""
    kind = socket.AF_INET6 if ":" in number else socket.AF_INET
    try:
        with socket.socket(kind) as made:
            made.bind((number, 0))
    except OSError:
        return False
    return True


def _settings(address: str) -> dict[str, Any]:
    told = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    return told | ({"include_dashboard": False} if address == "local" else {})


def _told(address: str, error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("ersion mismatch" in line for line in lines):
        return (
            f"expected the same version of Ray and Python on all machines, got a cluster of "
            f"others at {address}: {' '.join(lines)}"
        )
    remedy = "`ray start --head` begins one, --ray=local needs none" if address == "auto" else ""
    reason = lines[0] if lines else type(error).__name__
    text = f"expected a cluster at {address!r}, got none that answers ({reason})"
    return f"{text}; {remedy}" if remedy else text


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keeps Ray's notices to itself; its errors are raised."""
    loggers: Sequence[logging.Logger] = [
        logging.getLogger(name) for name in ("ray", "ray._private.authentication")
    ]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
