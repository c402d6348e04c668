"""What the worker does first."""

import io
import queue
from types import SimpleNamespace

import numpy as np
import pytest

from emoc_tf.annotation.settings import Settings
from emoc_tf.annotation.worker import Worker


@pytest.mark.parametrize(("people", "ready", "first"), [
    (1, 1, "ask"), (1, 2, "learn"), (4, 2, "ask"), (4, 7, "ask"), (4, 8, "learn"),
])  # fmt: skip
def test_nobody_waits_while_it_learns(monkeypatch, people, ready, first):
    """Two sets lie ready for each person before it learns."""
    worker = Worker(Settings("images", "out"), queue.Queue(), io.StringIO())
    state = SimpleNamespace(candidate_mask=np.ones(1, bool), step=0)
    ids = {number: f"set {number}" for number in range(ready)}
    worker._exploration = SimpleNamespace(state=state, ids=ids, applied=0)
    worker._reserve, worker._backlog = 3 * people, [{"kind": "goal"}]
    done = []
    for name in ("ask", "learn"):
        monkeypatch.setattr(worker, f"_{name}", lambda name=name: done.append(name))
    worker._work()
    assert done == [first]
