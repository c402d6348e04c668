"""What the processes of this machine do with items, as far as none has to be begun."""

import pickle

from emoc_tf.running.pools import pool
from emoc_tf.running.pools.pool import Processes, Work


def serve_without_data():
    raise FileNotFoundError("no data set")


def failed(item, error):
    return f"{item} failed: {error}"


def test_where_no_item_can_be_worked_on_each_one_fails(monkeypatch):
    def run(count, serve, items, died, lost):
        work = pickle.loads(pickle.dumps(serve))()  # as it is sent
        return ((item, work(item)) for item in items)

    monkeypatch.setattr(pool.processes, "run", run)
    work = Work(here=None, serve=serve_without_data, lost=None, failed=failed)
    with Processes(2) as made:
        assert dict(made.run(work, ["a", "b"], None)) == {
            item: f"{item} failed: no data set" for item in "ab"
        }
