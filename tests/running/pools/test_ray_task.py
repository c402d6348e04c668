"""What a task of a cluster does in its process: it gets ready, works, and tells what is said."""

import logging
import platform
import sys
import warnings

import pytest

from emoc_tf.running.pools import ray_task
from tests import processes


def test_a_task_tells_lines_steps_and_the_result_in_order(monkeypatch, tmp_path):
    def work(item):
        print("half", end=" ")
        print("a line\nand another", flush=True)
        logging.getLogger("emoc_tf").info("some %d seconds more", 9)
        logging.getLogger("other").error("not ours")
        for _ in range(2):
            warnings.warn("cache_dir: no room", stacklevel=1)
        ray_task._stepped({"a": item})
        print("the end", end="")
        return item + 1

    monkeypatch.setattr(ray_task, "_begin", lambda setting: (setting, True))
    monkeypatch.setattr(ray_task, "_loaded", lambda content: lambda stepped: work)
    monkeypatch.setattr(logging.getLogger("emoc_tf"), "level", logging.WARNING)  # restored
    monkeypatch.setattr(warnings, "filters", [])  # as in a process that is no test
    assert list(ray_task.work_on(b"", [], 1)) == [
        ("begun", None), ("line", "half a line"), ("line", "and another"),
        ("said", (logging.INFO, "some 9 seconds more")),
        ("said", (logging.WARNING, "cache_dir: no room")), ("step", {"a": 1}),
        ("line", "the end"), ("result", 2),
    ]  # fmt: skip
    assert list(ray_task.work_on(b"", ["cpu A and B"], 1)) == [
        ("elsewhere", (["cpu A and B"], True))
    ]
    monkeypatch.undo()
    monkeypatch.setattr(ray_task, "_begin", lambda setting: (setting, True))
    ((kind, error),) = ray_task.work_on(b"nothing pickled", [], 1)
    assert kind == "error"
    assert str(error).startswith("ray: expected policies, environments and so on that can be sent")
    assert str(error).endswith(f" (on {platform.node()})")
    (note,) = error.__notes__
    assert note.startswith(f"on {platform.node()}:\nTraceback")


def test_a_process_without_the_data_says_so_each_time_and_is_not_remembered(monkeypatch, tmp_path):
    made = []

    def serve(stepped):
        made.append(stepped)
        if len(made) < 3:
            raise FileNotFoundError("no data set")
        return str.upper

    monkeypatch.setattr(ray_task, "_begin", lambda setting: ([], True))
    monkeypatch.setattr(ray_task, "_loaded", lambda content: serve)
    for _ in range(2):
        ((kind, error),) = ray_task.work_on(b"", None, "a")  # it has not begun
        assert (kind, str(error)) == ("error", "no data set")
    for item in "ab":
        assert list(ray_task.work_on(b"", None, item)) == [
            ("begun", None), ("result", item.upper()),
        ]  # fmt: skip
    assert len(made) == 3


LEFT = """
import threading, time
from emoc_tf.running.pools import ray_task

ray_task._begin = lambda setting: ([], True)
ray_task._loaded = lambda content: lambda stepped: lambda item: print("a line") or time.sleep(60)
told = ray_task.work_on(b"", None, 1)
assert [next(told)[0], next(told)[0]] == ["begun", "line"]
del told  # as Ray does where what was told cannot be sent
print("still there")
"""


def test_a_process_whose_item_nobody_hears_of_any_more_ends():
    result = processes.run("-c", LEFT)
    assert (result.returncode, result.stdout) == (1, ""), result.stderr


SAME = {"versions": {"keras": "1"}, "source": "s"}


@pytest.mark.parametrize(
    ("there", "file", "differing", "by_processor"),
    [
        ({"cpu": "A", **SAME}, None, [], True),
        ({"cpu": "B", **SAME}, None, ["cpu A and B"], True),
        ({"cpu": "A", **SAME, "source": "t"}, None, ["source s and t"], False),
        ({"cpu": "A", **SAME, "versions": {"keras": "2"}}, None, ["keras 1 and 2"], False),
        ({"cpu": "A", **SAME}, "/no", ["an output folder of its own, without /no"], False),
    ],
)
def test_a_mixed_cluster_may_differ_in_processors_alone(
    monkeypatch, there, file, differing, by_processor
):
    monkeypatch.setattr(ray_task.processes, "prepare", lambda threads: None)
    monkeypatch.setattr(ray_task.processes, "place_here", lambda: there)
    monkeypatch.setattr(ray_task.processes, "sees", lambda file: file is None)
    setting = ray_task.Setting("/nowhere", (), 1, {"cpu": "A", **SAME}, False, file)
    assert ray_task._begin(setting) == (differing, by_processor)


def test_what_is_said_while_the_environment_is_made_is_told(monkeypatch):
    """Such as that a folder is read for long, or that files of it are no images."""

    def serve(stepped):
        logging.getLogger("emoc_tf").info("reading")
        warnings.warn("no image", stacklevel=1)
        return lambda item: item

    monkeypatch.setattr(ray_task, "_begin", lambda setting: ([], True))
    monkeypatch.setattr(ray_task, "_loaded", lambda content: serve)
    monkeypatch.setattr(logging.getLogger("emoc_tf"), "level", logging.WARNING)  # restored
    monkeypatch.setattr(warnings, "filters", [])  # as in a process that is no test
    assert list(ray_task.work_on(b"", [], 1)) == [
        ("said", (logging.INFO, "reading")), ("said", (logging.WARNING, "no image")),
        ("begun", None), ("result", 1),
    ]  # fmt: skip


def test_a_process_looks_for_modules_where_the_script_does_behind_its_own_places(
    monkeypatch, tmp_path
):
    before = list(sys.path)
    monkeypatch.setattr(sys, "path", list(before))
    monkeypatch.setattr(ray_task.processes, "prepare", lambda threads: None)
    monkeypatch.setattr(ray_task.processes, "place_here", lambda: {"cpu": "here", **SAME})
    monkeypatch.chdir(tmp_path)
    path = (str(tmp_path), *before, "/nowhere")
    setting = ray_task.Setting("/nowhere", path, 1, {"cpu": "there", **SAME}, False)
    assert ray_task._begin(setting) == (["cpu there and here"], True)
    assert sys.path == [*before, str(tmp_path), "/nowhere"]
