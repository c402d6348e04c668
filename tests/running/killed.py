"""Runs `explore` and kills the process, with SIGKILL, when it passes a point for the n-th time.

python -m tests.running.killed POINT N [flags of explore]
"""

import os
import pathlib
import runpy
import signal
import sys

import emoc_tf.experiments  # noqa: F401, first: it imports TensorFlow quietly
from emoc_tf.agents import emoc
from emoc_tf.models import learner
from emoc_tf.records import run_folder
from emoc_tf.storage import checkpoint


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def on_call(module, name, count, last_words=lambda *_: None):
    """Kills in the n-th call of a function, after some last words."""
    original, calls = getattr(module, name), 0

    def call(*arguments, **settings):
        nonlocal calls
        calls += 1
        if calls == count:
            last_words(*arguments)
            die()
        return original(*arguments, **settings)

    setattr(module, name, call)


def write_half(path, content, previous=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content[: len(content) // 2])


def append_half(folder, outcome, reward, timings):
    for name in ("steps.csv", "recalls.csv"):
        with open(folder.path / name, "a", encoding="utf-8") as file:
            file.write(f"{outcome.step},4")


POINTS = {
    "training": lambda n: on_call(learner, "draw_mini_batches", n),
    "scoring": lambda n: on_call(emoc.EMOCAgent, "_scorer_of", n),
    "flushing": lambda n: on_call(os, "fsync", n),
    "renaming": lambda n: on_call(os, "replace", n),
    "removing": lambda n: on_call(pathlib.Path, "unlink", n),
    "half a file": lambda n: on_call(checkpoint, "write_bytes", n, write_half),
    "half a line": lambda n: on_call(run_folder.RunFolder, "write_step", n, append_half),
}

if __name__ == "__main__":
    point, number, *flags = sys.argv[1:]
    POINTS[point](int(number))
    sys.argv = ["explore", *flags]
    runpy.run_module("emoc_tf.experiments.explore", run_name="__main__", alter_sys=True)
