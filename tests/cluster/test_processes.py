"""Whether machines would give the same bits, by what they tell; no cluster is needed to judge."""

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
