"""What tasks tell, as it counts for their items; tests of machines have the rest."""

from dataclasses import replace
from types import SimpleNamespace

from emoc_tf.running.pools import ray_task
from emoc_tf.running.pools.machines import At, Machines
from emoc_tf.running.pools.parcels import Change
from emoc_tf.running.pools.verdicts import Verdicts
from tests.running.pools.acted import BAD, NEW, OLD, Ray


def test_what_a_run_leaves_that_failed_at_once_is_no_step():
    machines = Machines(lambda: [SimpleNamespace(id=OLD), SimpleNamespace(id=NEW)])
    machines.prove([OLD])
    machines.arrive("item", At(OLD, "host"))
    machines.begin("item")
    change = Change({}, {}, frozenset())
    for last, kind in ((True, "again"), (False, "result")):
        told = iter([(ray_task.STEP, replace(change, last=last)), BAD])
        found = [Verdicts(Ray({}), machines).of(told, "item")[0] for _ in range(2)]
        assert found == [ray_task.STEP, kind]
