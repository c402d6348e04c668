"""What actors are begun, admitted and replaced; they live in this process, and Ray is acted."""

import time

import pytest

from emoc_tf.cluster import crew, processes
from emoc_tf.cluster.connection import Node
from emoc_tf.cluster.tasks import Task
from tests.cluster.acted import Place, RayError, Served, tasks


def test_there_are_as_many_actors_as_reserve_all_cpus_or_one_a_gpu(begin, monkeypatch):
    monkeypatch.setattr(
        "tests.cluster.acted.NODES", [Node("1", "one", 5, 0), Node("2", "two", 2, 0)]
    )
    assert len(begin(one={}, two={})[0]) == 7
    made, _ = begin(one={}, two={})
    assert len(crew.Crew(made._connection, Served, cpus=2)) == 3
    monkeypatch.setattr(
        "tests.cluster.acted.NODES", [Node("1", "one", 5, 2), Node("2", "two", 2, 0)]
    )
    assert len(begin(one={}, two={})[0]) == 2
    with pytest.raises(ValueError, match=r"^cpus: expected as many as .* got 9 for one with 5, tw"):
        crew.Crew(made._connection, Served, cpus=9)


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
    monkeypatch.setattr(
        "tests.cluster.acted.NODES", [Node("2", "two", 4, 0), Node("1", "one", 1, 0)]
    )
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
