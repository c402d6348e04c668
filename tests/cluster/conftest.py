from types import SimpleNamespace

import pytest

from emoc_tf.cluster import connection, crew, processes
from tests.cluster import acted
from tests.cluster.acted import Place, Ray, Served


@pytest.fixture
def begin(monkeypatch):
    def make(**changes):
        here = processes.place_here()
        places = {
            host: change if isinstance(change, Exception) else Place({**here, **change})
            for host, change in changes.items()
        }
        ray = Ray(places)
        for module in (connection, crew, processes):
            monkeypatch.setattr(module, "ray", lambda: ray)
        there = SimpleNamespace(
            nodes=lambda cpus=0, gpus=0: [
                node
                for node in acted.NODES
                if node.host in ray.places and node.cpus >= cpus and node.gpus >= gpus
            ]
        )
        return crew.Crew(there, Served), ray

    monkeypatch.setattr(crew, "on_node", lambda node: node)
    return make
