"""SIGTERM and Ctrl-C end a binary at once, wherever it is, and say how to go on."""

import signal
import sys
import time
from pathlib import Path

import pytest

from emoc_tf import experiments

BUSY = """
import sys
from emoc_tf.experiments import binary
binary.prepare()
import tensorflow as tf

@tf.function
def work():
    return tf.while_loop(lambda i: i < 10**12, lambda i: (i + 1,), [tf.constant(0, tf.int64)])

def main(argv):
    print("busy", flush=True)
    work()

binary.run_binary(main, "this is how to go on")
"""


def wait_for_library(process, name):
    """Returns once a process has begun to load a library, whatever else the machine does."""
    maps, end = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 60
    while name not in maps.read_text():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("library", ["libtensorflow_framework", "h5py"])
def test_signals_are_heard_while_libraries_are_imported(start, tmp_path, library):
    process = start(
        [sys.executable, "-m", "emoc_tf.experiments.explore", f"--output_dir={tmp_path}"]
    )
    wait_for_library(process, library)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "\ninterrupted: nothing had been begun\n"
    assert output == ""


SCRIPT = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal
import emoc_tf.experiments.comparison
try:
    print("busy", flush=True)
    time.sleep(60)
finally:
    print("tidied up", flush=True)
"""


THREAD = """
import threading

def load():
    import emoc_tf.experiments.comparison
    print("loaded")

thread = threading.Thread(target=load)
thread.start()
thread.join()
"""


def test_a_script_of_your_own_keeps_its_signals(fork, tmp_path):
    """Whatever it is called; in a thread too, where no handler can be set."""
    script = tmp_path / "emoc-mine.py"
    script.write_text(SCRIPT)
    process = fork(script)
    assert process.stdout.readline() == "busy\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert output == "tidied up\n"
    assert "KeyboardInterrupt" in errors
    script.write_text(THREAD)
    process = fork(script)
    assert process.communicate(timeout=60)[0] == "loaded\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_process_within_two_seconds_even_in_one_long_operation(fork, number):
    process = fork("-c", BUSY)
    assert process.stdout.readline() == "busy\n"
    time.sleep(1)
    begun = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 2
    assert process.returncode == 128 + number
    assert errors == "\ninterrupted: this is how to go on\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-m emoc_tf.experiments.report x", True),
        ("-um emoc_tf.experiments.report", True),
        ("-W ignore -X dev -memoc_tf.experiments.report", True),
        ("-m pytest -m emoc_tf.experiments.report", False),
        ("emoc-mine.py -m emoc_tf.experiments.report", False),
        ("-c pass -m emoc_tf.experiments.report", False),
        ("", False),
    ],
)
def test_a_binary_is_told_from_other_programs(monkeypatch, arguments, expected):
    monkeypatch.setattr(sys, "orig_argv", ["python", *arguments.split()])
    assert experiments._is_binary() == expected
