"""What fails or dies on a machine is done by another one; Ray is acted."""

import pytest

from emoc_tf.cluster import crew, processes
from emoc_tf.cluster.tasks import AtOnceError
from tests.cluster.acted import Place, RayError, tasks


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
