import multiprocessing
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from emoc_tf.running.pools import processes


@pytest.fixture(autouse=True)
def no_tensorflow(tmp_path_factory, monkeypatch):
    """Nothing here needs it, and each process would import it."""
    folder = tmp_path_factory.mktemp("stubs")
    for name in ("keras", "tensorflow"):
        (folder / f"{name}.py").touch()
    monkeypatch.syspath_prepend(str(folder))  # processes have the path of the one that starts them
    monkeypatch.setenv("PYTHONPATH", str(folder))


def serve(folder):
    """Work on items whose first letter says what happens: fine, dies once, dies always."""

    def work(item):
        marker = Path(folder) / item
        if item.startswith("always") or (item.startswith("once") and not marker.exists()):
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return f"{item} done"

    return work


def lost(item, cause):
    return f"{item} lost: {cause}"


def test_dead_processes_are_replaced_and_the_others_go_on(tmp_path):
    items = ["fine 1", "once", "always", "fine 2"]
    deaths = []
    results = dict(
        processes.run(
            2, partial(serve, str(tmp_path)), items, lambda *death: deaths.append(death), lost
        )
    )
    assert sorted(deaths) == [("always", "SIGKILL"), ("once", "SIGKILL")]
    assert results == {
        **{item: f"{item} done" for item in items if item != "always"},
        "always": "always lost: SIGKILL",
    }


def test_processes_end_with_the_generator(tmp_path):
    before = set(multiprocessing.active_children())
    results = processes.run(1, partial(serve, str(tmp_path)), ["fine 1", "fine 2"], None, lost)
    item, result = next(results)  # both may have ended by now
    assert result == f"{item} done"
    (process,) = set(multiprocessing.active_children()) - before
    results.close()
    assert not process.is_alive()


def test_what_cannot_be_sent_is_told_and_not_tried_for_ever(tmp_path):
    with pytest.raises(ValueError, match=r"num_workers: expected .* import by name, got"):
        next(processes.run(1, lambda: print, ["item"], None, lost))
    script = tmp_path / "script.py"  # without a guard the child does not find the function
    script.write_text(
        "import sys\nfrom emoc_tf.running.pools import processes\n"
        "exec('def serve(): return print', globals())\n"
        "if __name__ == '__main__':\n"
        "    try:\n        print(list(processes.run(1, serve, [1], None, None)))\n"
        "    except ValueError as error:\n        print('told:', error)\n"
        "else:\n    del serve\n"
    )
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert "told: num_workers: expected policies, environments" in result.stdout, result.stderr


def serve_that_dies(folder):
    """Dies before any item is begun, once."""
    marker = Path(folder) / "dead"
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return str.upper


def test_a_process_that_dies_before_its_first_item_is_replaced_too(tmp_path):
    deaths = []
    work = partial(serve_that_dies, str(tmp_path))
    results = processes.run(1, work, ["a", "b"], lambda *death: deaths.append(death), lost)
    assert dict(results) == {"a": "A", "b": "B"}
    assert deaths == [("a", "SIGKILL")]
