"""Whose actors scorers of a process have: those of the cluster that it is connected to."""

import itertools
from types import SimpleNamespace

import pytest

from emoc_tf.scoring import ray_team
from emoc_tf.scoring.ray_team import shared


class Crew:
    """Actors as far as a team asks them."""

    def __init__(self, connection, serve, cpus):
        self.connection, self.cpus, self.alike, self.closed = connection, cpus, False, False

    def close(self):
        self.closed = True
        self.connection.close()


class Ray:
    """Ray as far as a team asks it: each cluster of this machine alone counts from 1."""

    def __init__(self):
        self.here, self.count = None, itertools.count()

    def is_initialized(self):
        return self.here is not None

    def get_runtime_context(self):
        return self.here

    def begin(self):
        node = f"{next(self.count)}"
        self.here = SimpleNamespace(
            gcs_address="127.0.0.1:6379", get_node_id=lambda: node, get_job_id=lambda: "01000000"
        )

    def shutdown(self):
        self.here = None


@pytest.fixture
def ray(monkeypatch):
    made = Ray()

    def connect(address):
        if made.is_initialized():
            return SimpleNamespace(close=lambda: None)
        made.begin()
        return SimpleNamespace(close=made.shutdown)

    monkeypatch.setattr(ray_team, "ray", lambda: made)
    monkeypatch.setattr(ray_team, "connect", connect)
    monkeypatch.setattr(ray_team, "Crew", Crew)
    monkeypatch.setattr(ray_team, "_teams", {})
    return made


def test_a_cluster_that_begins_after_another_one_is_another_one(ray):
    ray.begin()
    team = shared(None, 1)
    first, sender = team.begin(), team._sender
    assert team.begin() is first
    ray.shutdown()
    ray.begin()
    second = team.begin()
    assert second is not first
    assert team._sender is not sender  # what was sent is gone
    ray.shutdown()
    ray.begin()
    team.close()
    assert not second.closed  # it ended with its cluster: nothing there is to be killed


def test_scorers_of_a_cluster_share_its_actors_whatever_they_call_it(ray):
    one, two = shared(None, 1), shared("10.0.0.1:6379", 1)
    crew = one.begin()
    two.alike = True
    assert two.begin() is crew
    assert crew.alike
    assert one.begin().alike  # once somebody needs it
    one._contents["model"] = "content"
    assert two._contents == {"model": "content"}
    two.close()
    assert crew.closed
    other = one.begin()
    assert other is not crew
    assert two.begin() is other  # in whatever order they begin again
    assert not two._contents


def test_actors_with_another_number_of_cpus_are_refused_at_once(ray):
    one, two = shared("auto", 1), shared("10.0.0.1:6379", 2)
    crew = one.begin()
    told = r"^cpus: expected 1, as the actors .* already, got 2; `close\(\)` of their scorer ends"
    with pytest.raises(ValueError, match=told):
        two.begin()
    assert not crew.closed
    one.close()
    assert two.begin().cpus == 2
    with pytest.raises(ValueError, match=r"^cpus: expected 2, as the actors"):
        one.begin()
