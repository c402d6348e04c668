"""What is told of a connection that cannot be made; no cluster is needed for that."""

import socket
import sys
from types import SimpleNamespace

import pytest

from emoc_tf.cluster import connection
from emoc_tf.running.pools.on_ray import OnRay


class Ray:
    """Ray as far as connections ask it."""

    def __init__(self, error=None, here=None):
        self.calls, self.error, self.here = [], error, here

    def is_initialized(self):
        return self.here is not None

    def get_runtime_context(self):
        return SimpleNamespace(gcs_address=self.here)

    def init(self, address, **settings):
        self.calls.append(address)
        if self.error is not None:
            raise self.error

    def shutdown(self):
        self.calls.append("shutdown")


@pytest.fixture
def given(monkeypatch):
    def give(**settings):
        monkeypatch.setitem(sys.modules, "ray", Ray(**settings))
        return sys.modules["ray"]

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return give


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"^ray: .* not installed here; pip install 'emoc_tf\[ray"):
        connection.connect("local")


def test_only_what_was_made_here_is_ended(given):
    ray = given()
    with connection.connect("auto"):
        pass
    assert ray.calls == ["auto", "shutdown"]
    ray = given(here="10.0.0.1:6379")
    for address in (None, "auto", "local", "10.0.0.1:6379"):
        connection.connect(address).close()
    assert ray.calls == []
    with pytest.raises(
        ValueError, match=r"expected 10\.0\.0\.1:6379, which .* got '10\.0\.0\.2:1'"
    ):
        connection.connect("10.0.0.2:1")


def numbers(name, port):
    known = {"head": ["10.0.0.1"], "head.lan": ["fd00::1", "10.0.0.1"], "here": ["127.0.1.1"]}
    known["localhost"] = ["127.0.0.1", "::1"]
    if name[:1].isdigit() or ":" in name:
        return [(0, 0, 0, "", (name, 0))]
    if name not in known:
        raise socket.gaierror(-2, "Name or service not known")
    return [(0, 0, 0, "", (number, 0)) for number in known[name]]


@pytest.mark.parametrize(
    ("address", "own", "same"),
    [
        ("head:6379", [], True),
        ("head.lan:6379", [], True),
        ("head:6380", [], False),
        ("nobody:6379", [], False),
        ("10.0.0.2:6379", [], False),
        ("here:6379", ["10.0.0.1"], True),  # as Debian names a machine to itself
        ("localhost:6379", ["10.0.0.1"], True),
        ("localhost:6379", ["10.0.0.7"], False),
        ("head", [], False),
    ],
)
def test_a_head_is_the_same_by_name_and_by_number(given, monkeypatch, address, own, same):
    given(here="10.0.0.1:6379")
    monkeypatch.setattr(socket, "getaddrinfo", numbers)
    monkeypatch.setattr(connection, "_is_own", lambda number: number in own)
    if same:
        connection.connect(address)
    else:
        with pytest.raises(ValueError, match=r"^ray: expected 10\.0\.0\.1:6379, which this"):
            connection.connect(address)


def test_a_number_of_this_machine_is_known(given):
    assert connection._is_own("127.0.0.1")
    assert not connection._is_own("203.0.113.77")  # for examples: nobody has it


def test_a_process_that_ends_without_unwinding_ends_what_it_made(given):
    ray = given()
    made = connection.connect("local")
    connection.close_all()
    made.close()
    assert ray.calls == ["local"]  # Ray's own way takes seconds


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
@pytest.mark.parametrize("pool", [False, True], ids=["a connection", "a pool"])
def test_a_script_or_notebook_that_is_interrupted_is_not_left_connected(given, error, pool):
    ray = given()
    with pytest.raises(error):
        if pool:
            with OnRay("auto") as made:
                made._connection = connection.connect("auto")
                raise error
        with connection.connect("auto"):
            raise error
    assert ray.calls == ["auto", "shutdown"]
    assert not connection._open


def test_a_binary_that_is_interrupted_does_not_wait_for_it(given, monkeypatch):
    ray = given()
    monkeypatch.setattr(connection, "_ends_at_once", False)
    connection.end_at_once()
    for error in (KeyboardInterrupt, ValueError):
        with pytest.raises(error), connection.connect("auto"):
            raise error
    assert ray.calls == ["auto", "auto", "shutdown"]


@pytest.mark.parametrize("stage", ["init", "shutdown"])
def test_an_interruption_while_a_cluster_begins_or_ends_leaves_none_of_its_processes(
    given, monkeypatch, start, stage
):
    ray = given()
    settled = start(["sleep", "100"])
    began = []

    def interrupted(*_, **__):
        if stage == "init":
            began.append(start(["sleep", "100"]))
        raise KeyboardInterrupt

    if stage == "init":
        monkeypatch.setattr(ray, "init", interrupted)
        with pytest.raises(KeyboardInterrupt):
            connection.connect("local")
        connection.close_all()
    else:
        monkeypatch.setattr(ray, "init", lambda *_, **__: began.append(start(["sleep", "100"])))
        made = connection.connect("local")
        monkeypatch.setattr(ray, "shutdown", interrupted)
        with pytest.raises(KeyboardInterrupt):
            made.close()
    assert began[0].wait(20) == -9
    assert settled.poll() is None
    assert not connection._open
    connection._beginning.clear()


def test_no_address_is_this_machine_alone_except_inside_a_job(given, monkeypatch):
    ray = given()
    connection.connect()
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    connection.connect()
    connection.connect("local")
    assert ray.calls == ["local", "auto", "local"]


@pytest.mark.parametrize(
    "address", ["", "ray://head:10001", "http://head", 6379, "head", "head:", ":6379"]
)
def test_what_is_no_address_is_refused(given, address):
    ray = given()
    with pytest.raises(ValueError, match=r"expected local, auto or HOST:PORT, .* `ray job submit`"):
        connection.connect(address)
    assert ray.calls == []


def test_where_nothing_listens_is_told_at_once(given):
    """Ray would try for minutes, and print what its own parts say."""
    ray = given()
    with socket.socket() as taken:  # nobody else begins to listen there meanwhile
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        told = f"^ray: expected a cluster at '{address}', got none that answers .*refused"
        with pytest.raises(ValueError, match=told):
            connection.connect(address)
        taken.listen()
        connection.connect(address).close()
    assert ray.calls == [address, "shutdown"]


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            ConnectionError("Could not find any running Ray instance.\nMore"),
            "`ray start --head` be",
        ),
        (
            RuntimeError("Version mismatch: The cluster was started with:\n  Python: 3.9"),
            "Python: 3.9",
        ),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told_in_one_sentence(given, error, told):
    given(error=error)
    with pytest.raises(ValueError, match=f"^ray: expected .*{told}") as raised:
        connection.connect("auto")
    assert "\n" not in str(raised.value)


def test_processes_have_the_variables_that_decide_bits():
    given = {"TF_ENABLE_ONEDNN_OPTS": "1", "XLA_FLAGS": "--x", "HOME": "/root"}
    found = connection.variables(3, given)
    assert found["TF_ENABLE_ONEDNN_OPTS"] == "1"
    assert found["XLA_FLAGS"] == "--x"
    assert found["OMP_NUM_THREADS"] == "3"
    assert "HOME" not in found
