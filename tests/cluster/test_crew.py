"""What actors are begun, admitted and replaced; they live in this process, and Ray is acted."""

import time
from types import SimpleNamespace

import pytest

from emoc_tf.cluster import connection, crew, processes
from emoc_tf.cluster.connection import Node
from emoc_tf.cluster.tasks import AtOnceError, Task

NODES = [Node("1", "one", 1, 0), Node("2", "two", 1, 0)]


class RayError(Exception):
    """Of a machine."""


class RayTaskError(RayError):
    """Of what runs there."""


class Served:
    def double(self, number):
        return 2 * number


class Ray:
    """Ray as far as a crew asks it.

    Args:
        places: What actors tell of themselves as they begin, by host; an error if they do not.
    """

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, places):
        self.places, self.begun, self.gone = places, [], set()
        self.wrong = {}  # what work raises on a machine, by host: a function of its arguments
        self.killed = 0

    def remote(self, actor):
        return self

    def options(self, scheduling_strategy, **_):
        host = scheduling_strategy.host

        def make():
            self.begun.append(host)

            def told(make):
                died = RayError("the node died") if host in self.gone else None
                return time.monotonic(), died or make()

            begin = SimpleNamespace(remote=lambda *_: told(lambda: self.places[host]))
            answer = SimpleNamespace(remote=lambda: told(lambda: None))
            work = SimpleNamespace(
                remote=lambda method, *given: told(
                    lambda: (
                        self.wrong.get(host, lambda *_: None)(*given)
                        or getattr(Served(), method)(*given)
                    )
                )
            )
            return SimpleNamespace(begin=begin, answer=answer, work=work)

        return SimpleNamespace(remote=make)

    def wait(self, references, **_):
        time.sleep(0.001)
        return references, []

    def get(self, reference):
        if isinstance(reference[1], Exception):
            raise reference[1]
        return reference[1]

    def kill(self, handle):
        self.killed += 1


class Place(dict):
    """What an actor tells, as a key."""

    __hash__ = object.__hash__


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
                for node in NODES
                if node.host in ray.places and node.cpus >= cpus and node.gpus >= gpus
            ]
        )
        return crew.Crew(there, Served), ray

    monkeypatch.setattr(crew, "on_node", lambda node: node)
    return make


def test_there_are_as_many_actors_as_reserve_all_cpus_or_one_a_gpu(begin, monkeypatch):
    monkeypatch.setattr(f"{__name__}.NODES", [Node("1", "one", 5, 0), Node("2", "two", 2, 0)])
    assert len(begin(one={}, two={})[0]) == 7
    made, _ = begin(one={}, two={})
    assert len(crew.Crew(made._connection, Served, cpus=2)) == 3
    monkeypatch.setattr(f"{__name__}.NODES", [Node("1", "one", 5, 2), Node("2", "two", 2, 0)])
    assert len(begin(one={}, two={})[0]) == 2
    with pytest.raises(ValueError, match=r"^cpus: expected as many as .* got 9 for one with 5, tw"):
        crew.Crew(made._connection, Served, cpus=9)


def tasks(count):
    return [Task("double", (i,)) for i in range(count)]


def test_a_machine_where_no_actor_begins_is_no_hindrance_as_long_as_that_may_pass(
    begin, monkeypatch
):
    monkeypatch.setattr(crew, "_PAUSE", 0.05)
    made, ray = begin(one={}, two=RayError("the node does not exist any more"))
    assert dict(made.run(tasks(200))) == {i: 2 * i for i in range(200)}
    assert 3 < ray.begun.count("two") < 100  # again and again, but not without a pause
    assert ray.begun.count("one") == 1
    ray.places["two"] = ray.places["one"]
    time.sleep(0.1)
    assert dict(made.run(tasks(3))) == {0: 0, 1: 2, 2: 4}
    assert len(made._members) == 2


def test_a_machine_where_no_actor_begins_for_long_is_told(begin, monkeypatch):
    monkeypatch.setattr(crew, "_PAUSE", 0.01)
    monkeypatch.setattr(processes, "SETTLES", 0.1)
    made, _ = begin(one={}, two=RayError("too little memory"))
    with pytest.raises(ValueError, match=r"^ray: no actor begins on two: .* too little memory$"):
        dict(made.run(tasks(5000)))


def test_a_machine_whose_actors_go_while_they_wait_is_not_held_against_a_task(begin, monkeypatch):
    monkeypatch.setattr(f"{__name__}.NODES", [Node("2", "two", 4, 0), Node("1", "one", 1, 0)])
    made, ray = begin(one={}, two={})
    assert dict(made.run(tasks(40))) == {i: 2 * i for i in range(40)}
    assert len(made._members) == 5
    ray.gone.add("two")
    del ray.places["two"]
    assert dict(made.run(tasks(1))) == {0: 0}
    assert {member.node.host for member in made._members} == {"one"}


def test_a_machine_that_goes_before_its_actor_begins_is_forgotten(begin, monkeypatch):
    monkeypatch.setattr(crew, "_PAUSE", 0.01)
    monkeypatch.setattr(processes, "SETTLES", 0.1)
    made, ray = begin(one={}, two=RayError("the node does not exist any more"))
    found = made.run(tasks(5000))
    next(found)
    del ray.places["two"]
    assert len(dict(found)) == 4999


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"source": "another"}, "^ray: expected the versions of this process on one, .* another$"),
        ({"versions": {"python": "3.99"}}, r"on one, got, here and there, .*python .* and 3\.99"),
        (ValueError("no such module"), "^ray: expected emoc_tf on one, got ValueError: no such"),
    ],
)
def test_other_versions_than_those_of_this_process_are_refused(begin, change, told):
    made, _ = begin(one=change)
    with pytest.raises(ValueError, match=told):
        dict(made.run(tasks(1)))


@pytest.mark.parametrize("change", [{"cpu": "Another"}, {"onednn": None}, {"gpus": ["A GPU"]}])
def test_another_processor_is_refused_beside_its_kind_and_where_bits_have_to_be_those_of_here(
    begin, change
):
    (name,) = change
    made, _ = begin(one=change)
    assert dict(made.run(tasks(1))) == {0: 0}  # of a machine that is not this one
    made.alike = True
    for crew_of_them in (made, begin(one=change)[0]):  # they are there already, or come
        crew_of_them.alike = True
        with pytest.raises(ValueError, match=f"^ray: .* bits of this process, got one .* {name} "):
            dict(crew_of_them.run(tasks(1)))
    made, _ = begin(one={}, two=change)
    with pytest.raises(ValueError, match=f"the same versions and processor, got .* with {name} "):
        dict(made.run(tasks(2)))


def test_what_is_handed_on_and_how_many_gpus_there_are_counts_for_nothing(begin, monkeypatch):
    here = {**processes.place_here(), "gpus": ["A", "A"]}
    monkeypatch.setattr(processes, "place_here", lambda: here)
    variables = {"TF_NUM_INTRAOP_THREADS": "1"}
    made, _ = begin(one={"gpus": ["A"], "variables": variables, "intra_op_threads": 64})
    made.alike = True
    assert dict(made.run(tasks(1))) == {0: 0}


def test_a_call_gets_no_results_of_another_one(begin):
    found, _ = begin(one={}, two={})
    first = found.run(tasks(9))
    taken = [next(first)]
    assert dict(found.run([Task("double", (10 * i,)) for i in range(5)])) == {
        i: 20 * i for i in range(5)
    }
    with pytest.raises(RuntimeError, match="taken before the next one begins"):
        taken.extend(first)
    assert all(result == 2 * i for i, result in taken)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"cpu": "Another"}, "machines that give the bits of this process, got two with"),
        ({"source": "another"}, "expected the versions of this process on two"),
        (ValueError("no such module"), "expected emoc_tf on two, got ValueError: no such module"),
        (RayError("crashed as it began"), "no actor begins on two: RayError: crashed as it began"),
    ],
)
def test_a_wrong_machine_that_joins_later_is_left_out_and_said_once(
    begin, monkeypatch, caplog, wrong, told
):
    monkeypatch.setattr(crew, "_PAUSE", 0.01)
    monkeypatch.setattr(processes, "SETTLES", 0.05)
    made, ray = begin(one={})
    made.alike = True
    assert dict(made.run(tasks(3))) == {0: 0, 1: 2, 2: 4}
    ray.places["two"] = wrong if isinstance(wrong, Exception) else ray.places["one"] | wrong
    if isinstance(ray.places["two"], dict):
        ray.places["two"] = Place(ray.places["two"])
    for _ in range(3):
        assert len(dict(made.run(tasks(300)))) == 300
    (line,) = caplog.messages
    assert told in line
    assert line.startswith("two (node 2) gets no work: ray: ")
    assert len(made) == 1


def some(wrong, error):
    """What a machine raises of some numbers."""
    return lambda number: error if number in wrong else None


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), ValueError("no such file"), MemoryError()]
)
def test_what_one_machine_cannot_do_another_one_does_and_the_first_is_left_out(
    begin, caplog, error
):
    made, ray = begin(one={}, two={})
    assert len(dict(made.run(tasks(20)))) == 20
    ray.wrong["one"] = some(range(100), error)
    assert dict(made.run(tasks(20))) == {i: 2 * i for i in range(20)}
    (line,) = caplog.messages
    name = type(error).__name__
    assert line.startswith(
        f"one (node 1) gets no work: ray: one fails where another machine does not: {name}"
    )
    assert ray.killed == 1
    assert len(made) == 1
    assert len(dict(made.run(tasks(20)))) == 20


def test_what_no_machine_can_do_is_raised_and_what_comes_before_it_is_done(begin, caplog):
    made, ray = begin(one={}, two={})
    for host in ("one", "two"):
        ray.wrong[host] = some((7, 9), ValueError(f"wrong image on {host}"))
    found = []
    with pytest.raises(ValueError, match=r"^wrong image on (one|two)$"):
        found.extend(made.run(tasks(20)))
    assert set(range(7)) <= {i for i, _ in found} <= {*range(7), 8, *range(10, 20)}
    assert not caplog.messages
    assert len(made) == 2


def test_what_the_only_machine_cannot_do_is_raised(begin):
    made, ray = begin(one={})
    ray.wrong["one"] = some((3,), OSError("disk full"))
    with pytest.raises(OSError, match=r"^disk full$"):
        dict(made.run(tasks(20)))


def test_what_is_said_at_once_is_not_tried_elsewhere(begin):
    made, ray = begin(one={}, two={})
    tried = []
    for host in ("one", "two"):
        ray.wrong[host] = lambda number: tried.append(number) or AtOnceError("unseen")
    with pytest.raises(AtOnceError, match="unseen"):
        dict(made.run(tasks(1)))
    assert tried == [0]


@pytest.mark.parametrize(
    "wrong", [ValueError("no data"), RayError("crashed as it began"), {"source": "another"}]
)
def test_a_first_machine_that_is_bad_later_ends_no_call_as_long_as_one_is_left(
    begin, monkeypatch, caplog, wrong
):
    monkeypatch.setattr(crew, "_PAUSE", 0.01)
    monkeypatch.setattr(processes, "SETTLES", 0.05)
    made, ray = begin(one={}, two={})
    assert len(dict(made.run(tasks(20)))) == 20
    told = wrong if isinstance(wrong, Exception) else Place(ray.places["one"] | wrong)

    def dies(host):
        ray.places[host] = told
        ray.wrong[host] = lambda number: RayError("killed")

    dies("one")
    for _ in range(3):
        assert len(dict(made.run(tasks(300)))) == 300
    left_out = [line for line in caplog.messages if "gets no work: ray: " in line]
    assert len(left_out) == 1
    assert left_out[0].startswith("one (node 1)")
    dies("two")
    with pytest.raises(
        ValueError, match=r"^ray: no machine is left that works; ray: .* on one.*; "
    ):
        for _ in range(3):
            dict(made.run(tasks(300)))


def test_a_machine_whose_actors_die_at_work_for_long_is_left_out(begin, monkeypatch, caplog):
    monkeypatch.setattr(processes, "SETTLES", 0.05)
    made, ray = begin(one={}, two={})
    ray.wrong["one"] = lambda number: RayError("killed for lack of memory")
    for _ in range(3):
        assert len(dict(made.run(tasks(300)))) == 300
    (line,) = [line for line in caplog.messages if "gets no work" in line]
    assert "ray: actors die on one: RayError: killed for lack of memory" in line
    assert len(made) == 1
