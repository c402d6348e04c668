"""Whose actors scorers of a process have: those of the cluster that it is connected to."""

import itertools
import pickle
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from emoc_tf.cluster.tasks import Task
from emoc_tf.scoring import ray_images, ray_models, ray_team
from emoc_tf.scoring.images import Images
from emoc_tf.scoring.ray_images import UnseenError
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


def test_weights_of_other_shapes_are_others(ray, monkeypatch):
    cloudpickle = pytest.importorskip("cloudpickle")
    monkeypatch.setattr(ray_models, "ray", lambda: SimpleNamespace(cloudpickle=cloudpickle))
    ray.put, sent = lambda thing: thing, []
    for number, (size, outputs) in enumerate([(6, 4), (4, 6), (6, 4)]):
        head = keras.layers.Dense(outputs, use_bias=False, kernel_initializer="ones")
        model = keras.Sequential([keras.Input((size,)), head])
        sent.append(shared(None, 1).model(f"{number}", model))
        assert sent[-1].weights[0].shape == (size, outputs)
    assert sent[0].weights_key != sent[1].weights_key
    assert sent[0].weights is sent[2].weights  # they go once


def test_images_that_others_took_the_place_of_are_sent_where_they_are_not_seen(
    ray, tmp_path, monkeypatch
):
    """A call whose work waits while others send theirs: it ends, and each source goes once."""
    acted = SimpleNamespace(cloudpickle=pickle, put=lambda thing: thing)
    monkeypatch.setattr(ray_images, "ray", lambda: acted)
    ray.put = lambda thing: thing
    model, files = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]), []
    for number in range(8):
        np.save(tmp_path / f"{number}.npy", np.full((4, 3), number, np.float32))
        mapped = np.load(tmp_path / f"{number}.npy", mmap_mode="r")
        files.append(Images(mapped, "images", model))

    def run(crew, tasks):
        for index, task in enumerate(tasks):
            (job,) = task.arguments[1]
            tried.append(job)
            assert len(tried) < 10
            for sent in (job.images, job.reference):
                if not sent.source.held:
                    raise UnseenError(sent.source.key, "host", "does not see where they lie")
            yield (
                index,
                [np.asarray(sent.source.held[0])[0, 0] for sent in (job.images, job.reference)],
            )

    tried = []
    monkeypatch.setattr(Crew, "run", run, raising=False)
    team = shared(None, 1)
    team.begin()
    work = team.work(None, "pairs", {}, files[0], reference=files[1])
    work = work.along(["directions"])
    for other in files[2:]:
        team.work(None, "outputs", {}, other)
    assert dict(team.run(work, [Task("sums", ())] * 2)) == {0: [0, 1], 1: [0, 1]}
    assert tried[-1].directions == ["directions"]
