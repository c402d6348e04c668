"""Whether machines would give the same bits, by what they tell; no cluster is needed to judge."""

from types import SimpleNamespace

import pytest

from emoc_tf.cluster import processes
from emoc_tf.cluster.connection import Node

NODES = [Node("1", "one", 4, 0), Node("2", "two", 4, 1)]


class Cluster:
    def nodes(self, cpus=0, gpus=0):
        return [node for node in NODES if node.cpus >= cpus and node.gpus >= gpus]


def check(monkeypatch, second, first=None, **settings):
    here = processes.place_here()
    places = [{**here, **(first or {})}, {**here, **second}]
    told = {
        node: place if "error" in place else {"sees": "sees" not in second, "environment": place}
        for node, place in zip(NODES, places, strict=True)
    }
    monkeypatch.setattr(processes, "_ask", lambda nodes, *_: {n: told[n] for n in nodes})
    return processes.check(Cluster(), **settings)


def versions(**others):
    return {"versions": {**processes.place_here()["versions"], **others}}


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (versions(emoc_tf="9.9"), r"one and two with emoc_tf 0\.\d\.\d and 9\.9$"),
        (versions(python="3.9.1"), r"one and two with python [\d.]+ and 3\.9\.1$"),
        (versions(tensorflow="1.0"), "tensorflow"),
        ({"source": "another"}, "source .* and another$"),
        ({"error": "0.0.1 (ImportError: x)"}, r"emoc_tf 0\.\d\.\d on two, got 0\.0\.1 \("),
    ],
)
def test_another_version_is_refused_always(monkeypatch, second, told):
    for allow_mixed in (False, True):
        with pytest.raises(ValueError, match=f"^ray: expected .*{told}"):
            check(monkeypatch, second, allow_mixed=allow_mixed)


@pytest.mark.parametrize(
    "second", [{"cpu": "Another"}, {"intra_op_threads": 64}, {"onednn": None}, {"gpus": ["A GPU"]}]
)
def test_another_kind_of_processor_is_refused_unless_it_is_allowed(monkeypatch, second):
    (name,) = second
    with pytest.raises(ValueError, match=f"with the same versions and processor, .* with {name}"):
        check(monkeypatch, second)
    assert check(monkeypatch, second, allow_mixed=True) == processes.place_here()


def test_all_machines_may_differ_from_this_process_but_not_in_versions(monkeypatch):
    assert check(monkeypatch, {"cpu": "A"}, {"cpu": "A"})["cpu"] == "A"
    assert check(monkeypatch, {"commit": "b"}, {"commit": "a"})
    old = versions(keras="1.0")
    with pytest.raises(ValueError, match=r"versions of this process on one, got, .* keras"):
        check(monkeypatch, old, old)


def test_machines_that_lend_too_little_are_left_out(monkeypatch):
    assert check(monkeypatch, {"cpu": "B"}, gpus=1)["cpu"] == "B"
    with pytest.raises(ValueError, match="lends 8 CPUs and 0 GPUs, got one with 4 and 0, two with"):
        check(monkeypatch, {}, cpus=8)


def test_a_folder_that_a_machine_does_not_see_is_refused(monkeypatch, tmp_path):
    with pytest.raises(
        ValueError, match=r"^output_dir: .* all machines share, .* --ray_storage=ob"
    ):
        check(monkeypatch, {"sees": False}, file=tmp_path / "file")


class RayError(Exception):
    """Of a machine."""


class RayTaskError(RayError):
    """Of what runs there."""


class RuntimeEnvSetupError(RayError):
    """Of its environment."""


class GetTimeoutError(RayError):
    """Of nothing that came."""


class Ray:
    """Ray as far as machines are asked: `tells` has what each of them does, time after time."""

    exceptions = SimpleNamespace(
        RayError=RayError,
        RayTaskError=RayTaskError,
        RuntimeEnvSetupError=RuntimeEnvSetupError,
        GetTimeoutError=GetTimeoutError,
    )

    def __init__(self, tells):
        self._tells = tells

    def remote(self, function):
        return self

    def options(self, scheduling_strategy, **_):
        return SimpleNamespace(remote=lambda *_: scheduling_strategy)

    def get(self, node, timeout):
        told = self._tells[node.host].pop(0)
        if isinstance(told, Exception):
            raise told
        return told


@pytest.fixture
def asked(monkeypatch):
    """Checks machines that tell something, of which those are listed afterwards that are named."""
    answer = {"sees": True, "environment": processes.place_here()}

    def check(listed, **tells):
        ray = Ray(
            {host: [answer if t is None else t for t in told] for host, told in tells.items()}
        )
        lists = [NODES, [node for node in NODES if node.host in listed]]
        monkeypatch.setattr(processes, "ray", lambda: ray)
        cluster = SimpleNamespace(nodes=lambda *_: lists.pop(0) if len(lists) > 1 else lists[0])
        return processes.check(cluster)

    monkeypatch.setattr(processes, "on_node", lambda node: node)
    monkeypatch.setattr(processes, "PAUSE", 0.0)
    return check


UNKNOWN = RayError("the node does not exist any more")


@pytest.mark.parametrize("error", [UNKNOWN, RuntimeEnvSetupError("x"), GetTimeoutError("x")])
def test_a_machine_that_goes_while_it_is_asked_counts_as_not_there(asked, error):
    for gone, left in (("one", "two"), ("two", "one")):
        assert asked([left], **{gone: [error], left: [None]}) == processes.place_here()
    with pytest.raises(ValueError, match=r"expected a machine that lends 1 CPUs .* got none$"):
        asked([], one=[error], two=[error])


def test_a_machine_that_has_just_come_is_asked_again(asked, monkeypatch):
    other = {"sees": True, "environment": {**processes.place_here(), "source": "another"}}
    with pytest.raises(ValueError, match=r"one and two with source .* and another"):
        asked(["one", "two"], one=[None], two=[UNKNOWN, UNKNOWN, other])
    monkeypatch.setattr(processes, "SETTLES", -1.0)
    with pytest.raises(ValueError, match=r"^ray: two fails: the node does not exist any more$"):
        asked(["one", "two"], one=[None], two=[UNKNOWN])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RayTaskError("x\nno such module"), "^ray: two fails: no such module$"),
        (RuntimeEnvSetupError("broken"), "^ray: two fails: broken$"),
        (GetTimeoutError(""), "expected an answer of two within 300 s, .* its 0 GPUs in use"),
    ],
)
def test_a_machine_that_stays_and_fails_is_told(asked, error, told):
    with pytest.raises(ValueError, match=told):
        asked(["one", "two"], one=[None], two=[error])
