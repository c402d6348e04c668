"""Machines that are removed while they are at some work: the choices and runs of one process."""

import logging
import os
import signal

import pytest
import ray
from rich.console import Console

from emoc_tf.cluster.crew import Crew
from emoc_tf.cluster.processes import by_value
from emoc_tf.running.grid import run_grid
from emoc_tf.running.single_run import Grid
from emoc_tf.scoring import EMOCScorer, RayScorer, scoring_on
from tests.ray.conftest import add_node
from tests.ray.test_scored_runs import frozen_environment
from tests.ray.test_scoring import problem
from tests.running.soak import records
from tests.running.test_grid import CONFIG
from tests.scoring import models


class Doomed:
    """A machine that gets the first of all work, and is removed when it has got some of a kind.

    Its actor is stopped just before, so that what it was given is in flight when it goes.

    Attributes:
        gone: Whether it was removed.
    """

    def __init__(self, cluster, monkeypatch):
        self._cluster, self._node = cluster, add_node(cluster, num_cpus=1)
        self.id, self.gone, self._method = self._node.node_id, False, None
        self._round = Crew._round
        monkeypatch.setattr(Crew, "_round", lambda crew, *given: self._watched(crew, *given))

    def removed_at(self, method):
        """From here on the first work of that kind is its last."""
        self._method = method

    def joins(self, crew, compute, until):
        """Computes something until its actor is there."""

        def there():
            compute()
            return any(m.ready for m in crew._members if m.node.id == self.id)

        until(there, 600)

    def _watched(self, crew, tasks, queue, *given):
        crew._members.sort(key=lambda member: member.node.id != self.id)
        first = crew._members[0] if crew._members else None
        if self.gone or first is None or first.node.id != self.id or first.reference is not None:
            return self._round(crew, tasks, queue, *given)
        if not queue or not first.ready or all(task.method != self._method for task in tasks):
            return self._round(crew, tasks, queue, *given)
        pid = ray.get(first.handle.__ray_call__.remote(lambda _: __import__("os").getpid()))
        os.kill(pid, signal.SIGSTOP)
        others, crew._members = crew._members[1:], [first]  # they get nothing of it before it goes
        found = self._round(crew, tasks, queue, *given)
        assert first.index is not None
        crew._members += others
        self.gone = True
        self._cluster.remove_node(self._node, allow_graceful=False)
        os.kill(pid, signal.SIGKILL)
        return found


@pytest.fixture
def doomed(cluster, connection, monkeypatch):
    made = Doomed(cluster, monkeypatch)
    yield made
    if not made.gone:
        cluster.remove_node(made._node)
    cluster.wait_for_nodes(120)


def count_recomputed(actor):
    """In an actor: counts batches of the control variate that it computes for a lost one."""
    from emoc_tf.scoring import ray_worker
    from emoc_tf.scoring.pairs import PairScores

    take, compute = ray_worker._take_control, PairScores.control_parts
    ray_worker.recomputed, ray_worker.taking = 0, False

    def counted_take(*given):
        ray_worker.taking = True
        take(*given)
        ray_worker.taking = False

    def counted_compute(pairs, batches):
        ray_worker.recomputed += ray_worker.taking * len(batches)
        return compute(pairs, batches)

    ray_worker._take_control, PairScores.control_parts = counted_take, counted_compute


def recomputed(actor):
    from emoc_tf.scoring import ray_worker

    return ray_worker.recomputed


def ask(members, function):
    copy = by_value(function)
    return ray.get([member.handle.__ray_call__.remote(copy) for member in members])


def lines_in_flight(caplog, doomed, what):
    """What is told of work that was in flight."""
    told = [record.getMessage() for record in caplog.records]
    told = [line for line in told if "in flight" in line and "nothing in flight" not in line]
    assert all(f"node {doomed.id[:8]}" in line and f" {what} " in line for line in told)
    return told


def test_a_choice_whose_machine_is_removed_is_that_of_one_process(doomed, until, caplog):
    model, reference, images, sets = problem(models.convolutional)
    settings = {"memory_budget": 300_000}  # much that is shared out
    wanted = EMOCScorer(model, **settings).select_set(reference, images, sets)
    scorer = RayScorer(model, **settings)
    crew = scorer._team.begin()
    try:
        doomed.joins(crew, lambda: scorer.scores(reference[:20], images[:9]), until)
        doomed.removed_at("pieces")  # with what it has computed for those of others
        others = [member for member in crew._members if member.node.id != doomed.id]
        ask(others, count_recomputed)
        with caplog.at_level(logging.WARNING, "emoc_tf.cluster"):
            found = scorer.select_set(reference, images, sets)
        assert found == wanted
        assert sum(ask(others, recomputed)) > 0
        (line,) = lines_in_flight(caplog, doomed, "pieces")
        assert "computed again elsewhere" in line
    finally:
        scorer.close()


def test_a_run_that_loses_a_machine_leaves_what_one_process_leaves(
    doomed, cluster, tmp_path, until, caplog
):
    settings = CONFIG.replace(max_steps=2)
    here, there = (
        Grid(settings, tmp_path / name, environment=frozen_environment, scoring_ray=address)
        for name, address in (("here", None), ("there", cluster.address))
    )
    assert not run_grid(here, ["emoc"], [0], Console(quiet=True))
    scoring, model = scoring_on(cluster.address), models.dense()
    try:
        some = models.inputs(model, 9, 1)
        doomed.joins(scoring._team.begin(), lambda: scoring.predict(model, some), until)
        doomed.removed_at("sums")
        with caplog.at_level(logging.WARNING, "emoc_tf.cluster"):
            assert not run_grid(there, ["emoc"], [0], Console(quiet=True))
    finally:
        scoring.close()
    assert records(there.output_dir) == records(here.output_dir)
    assert len(lines_in_flight(caplog, doomed, "sums")) == 1
