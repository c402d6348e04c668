import multiprocessing
import os
import signal
from pathlib import Path

from emoc_tf.running import workers


def serve(folder):
    """Work on items whose first letter says what happens: fine, dies once, dies always."""

    def work(item):
        marker = Path(folder) / item
        if item.startswith("always") or (item.startswith("once") and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{item} done"

    return work


def lost(item, folder, cause):
    return f"{item} lost: {cause}"


def test_dead_processes_are_replaced_and_the_others_go_on(tmp_path):
    items = ["fine 1", "once", "always", "fine 2"]
    deaths = []
    results = dict(
        workers.run(2, serve, str(tmp_path), items, lambda *death: deaths.append(death), lost)
    )
    assert sorted(deaths) == [("always", "SIGKILL"), ("once", "SIGKILL")]
    assert results == {
        **{item: f"{item} done" for item in items if item != "always"},
        "always": "always lost: SIGKILL",
    }


def test_processes_end_with_the_generator(tmp_path):
    before = set(multiprocessing.active_children())
    results = workers.run(1, serve, str(tmp_path), ["fine 1", "fine 2"], None, lost)
    assert next(results) == ("fine 1", "fine 1 done")
    (process,) = set(multiprocessing.active_children()) - before
    results.close()
    assert not process.is_alive()
